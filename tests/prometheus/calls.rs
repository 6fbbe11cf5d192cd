//! Callers that are refused.

use std::{sync::Arc, time::Duration};

use token_broker::upstream::standin::{Behaviour, Fault};
use tokio::{sync::Mutex, task::JoinSet, time::interval};

use crate::{
    operator::trial,
    prometheus::Prometheus,
    trial::{CART, STRANGER, Setup, ask, reason},
};

pub(crate) const ALERTS: &[&str] = &[
    "TokenBrokerCallsFailing",
    "TokenBrokerCallersShed",
    "TokenBrokerCallersDenied",
];

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs prometheus"]
async fn callers_that_are_refused_are_alerts() {
    let setup = Setup {
        destinations: 1,
        server: "max_calls_per_second = 10",
        ..Setup::default()
    };
    let trial = trial(setup, "").await;
    let broken = Fault::Status {
        status: 503,
        retry_after: None,
    };
    trial.upstream.behave(Behaviour::fault(broken));
    let http = trial.app.http_address().unwrap();
    let prometheus = Prometheus::start(&[("broker", http)]).await;

    let mut calling = JoinSet::new();
    let reasons = Arc::new(Mutex::new(Vec::new()));
    for (caller, every) in [(CART, 20), (STRANGER, 200)] {
        let mut client = trial.client(caller).await;
        let reasons = Arc::clone(&reasons);
        calling.spawn(async move {
            let mut moments = interval(Duration::from_millis(every));
            loop {
                moments.tick().await;
                let refused = ask(&mut client, "d0").await.unwrap_err();
                reasons.lock().await.push(reason(&refused));
            }
        });
    }
    for alert in ALERTS {
        prometheus.fires(alert, Some("broker")).await;
    }
    prometheus.has_seen(ALERTS);
    calling.shutdown().await;
    let reasons = reasons.lock().await;
    for expected in ["UPSTREAM_UNAVAILABLE", "CALLER_RATE", "NOT_GRANTED"] {
        assert!(reasons.iter().any(|reason| reason == expected));
    }
}
