//! A trail that takes no records.

use crate::{
    prometheus::Prometheus,
    trial::{CART, Setup, Trial, ask},
};

pub(crate) const ALERTS: &[&str] = &["TokenBrokerAuditSinkDown", "TokenBrokerAuditRecordsMissed"];

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs prometheus"]
async fn a_sink_that_takes_no_records_is_an_alert() {
    let trial = Trial::start(Setup {
        destinations: 1,
        audit: "file = \"/dev/full\"",
        ..Setup::default()
    })
    .await;
    let http = trial.app.http_address().unwrap();
    let prometheus = Prometheus::start(&[("broker", http)]).await;
    prometheus
        .until(r#"token_broker_audit_records_total{outcome="missed"} == 0"#)
        .await;
    let mut client = trial.client(CART).await;
    ask(&mut client, "d0").await.unwrap_err();
    for alert in ALERTS {
        prometheus.fires(alert, Some("broker")).await;
    }
    prometheus.has_seen(ALERTS);
}
