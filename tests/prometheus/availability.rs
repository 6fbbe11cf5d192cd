//! Brokers that are gone, not ready, or start again and again.

use std::net::{Ipv4Addr, TcpListener};

use token_broker::upstream::standin::{Behaviour, Fault};

use crate::{
    broker::{Broker, machine},
    prometheus::Prometheus,
    trial::{Setup, Site, Trial},
};

pub(crate) const ALERTS: &[&str] = &[
    "TokenBrokerAbsent",
    "TokenBrokerDown",
    "TokenBrokerNotReady",
    "TokenBrokerRestarting",
];

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs prometheus"]
async fn nobody_to_look_at_is_an_alert() {
    let prometheus = Prometheus::start(&[]).await;
    prometheus.fires(ALERTS[0], None).await;
    prometheus.has_seen(&ALERTS[..1]);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs prometheus"]
async fn a_broker_that_is_gone_or_not_ready_or_does_not_stay_is_an_alert() {
    let _machine = machine().await;
    let unready = Site::new(Setup {
        destinations: 1,
        destination: "warm = true",
        ..Setup::default()
    })
    .await;
    let broken = Fault::Status {
        status: 503,
        retry_after: None,
    };
    unready.upstream.behave(Behaviour::fault(broken));
    let unready = Trial::of(unready).await;

    // Where it is found again.
    let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let http = port.local_addr().unwrap();
    let site = Site::new(Setup::default()).await;
    site.configure(|config| {
        let other = "[http]\nlisten = \"127.0.0.1:0\"";
        assert!(config.contains(other));
        config.replace(other, &format!("[http]\nlisten = \"{http}\""))
    });
    drop(port);
    let mut broker = Broker::start(&site).await;

    let ports = [
        ("unready", unready.app.http_address().unwrap()),
        ("restarting", http),
    ];
    let prometheus = Prometheus::start(&ports).await;
    prometheus
        .fires("TokenBrokerNotReady", Some("unready"))
        .await;
    prometheus
        .until(r#"token_broker_ready{instance="restarting"} == 1"#)
        .await;
    for start in 1..=3 {
        drop(broker);
        if start == 1 {
            prometheus
                .fires("TokenBrokerDown", Some("restarting"))
                .await;
        }
        broker = Broker::start(&site).await;
        let starts = "changes(process_start_time_seconds{instance=\"restarting\"}[30m])";
        prometheus.until(&format!("{starts} >= {start}")).await;
    }
    prometheus
        .fires("TokenBrokerRestarting", Some("restarting"))
        .await;
    prometheus
        .resolves("TokenBrokerDown", Some("restarting"))
        .await;

    unready.upstream.behave(Behaviour::default());
    prometheus
        .resolves("TokenBrokerNotReady", Some("unready"))
        .await;
    prometheus.has_seen(&ALERTS[1..]);
}
