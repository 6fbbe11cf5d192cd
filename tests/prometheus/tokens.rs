//! Destinations whose tokens do not come.

use std::{fs, time::Duration};

use token_broker::upstream::standin::{Behaviour, Fault};

use crate::{
    fleet::until,
    operator::{Operator, trial},
    prometheus::Prometheus,
    trial::{CART, Setup, ask, client_secret},
};

pub(crate) const ALERTS: &[&str] = &[
    "TokenBrokerDestinationFailing",
    "TokenBrokerRunwayShort",
    "TokenBrokerRefreshFailing",
    "TokenBrokerCredentialRejected",
    "TokenBrokerQuarantined",
    "TokenBrokerUpstreamSlow",
];

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs prometheus"]
async fn tokens_that_do_not_come_are_alerts() {
    let setup = Setup {
        destinations: 5,
        ..Setup::default()
    };
    let trial = trial(setup, "").await;
    let http = trial.app.http_address().unwrap();
    let prometheus = Prometheus::start(&[("broker", http)]).await;
    let fires = async |alert| prometheus.fires(alert, Some("broker")).await;
    let resolves = async |alert| prometheus.resolves(alert, Some("broker")).await;
    let mut client = trial.client(CART).await;
    let mut operator = Operator::of(&trial).await;
    let secret = trial
        .folder
        .path()
        .join("credentials")
        .join("d2")
        .join("client_secret");

    ask(&mut client, "d0").await.unwrap();
    prometheus
        .until(r#"token_broker_upstream_calls_total{outcome="ok"}"#)
        .await;
    let broken = Behaviour::fault(Fault::Status {
        status: 503,
        retry_after: None,
    });
    for destination in ["d0", "d1"] {
        trial.upstream.behave_for(destination, Some(broken.clone()));
    }
    // d0 has a token that is not refreshed, and d1 has none.
    assert_eq!(operator.refresh("d0").await, "UPSTREAM_UNAVAILABLE");
    ask(&mut client, "d1").await.unwrap_err();
    fs::write(&secret, "wrong").unwrap();
    trial.app.reload();
    until("the wrong secret is taken in", async || {
        Operator::of(&trial).await.refresh("d2").await == "CREDENTIAL_REJECTED"
    })
    .await;
    operator.quarantine("d3").await;
    let slow = Behaviour {
        delay: Duration::from_millis(2800),
        ..Behaviour::default()
    };
    trial.upstream.behave_for("d4", Some(slow));
    for _ in 0..2 {
        assert_eq!(operator.refresh("d4").await, "");
    }
    for alert in ALERTS {
        fires(alert).await;
    }

    for destination in ["d0", "d1"] {
        trial.upstream.behave_for(destination, None);
        assert_eq!(operator.refresh(destination).await, "");
    }
    fs::write(&secret, client_secret("d2")).unwrap();
    trial.app.reload();
    operator.release("d3").await;
    for alert in &ALERTS[..5] {
        resolves(alert).await;
    }
    prometheus.has_seen(ALERTS);
}
