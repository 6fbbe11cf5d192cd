//! Brokers whose records go nowhere.

use token_broker::app::{App, StartError};
use tonic::Code;
use tonic_types::StatusExt as _;

use crate::trial::{CART, Setup, Trial, ask, reason};

async fn start(audit: &'static str) -> Trial {
    Trial::start(Setup {
        destinations: 1,
        audit,
        ..Setup::default()
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_cannot_record_starts_and_refuses_every_call() {
    let trial = start("file = \"/dev/full\"").await;
    let mut client = trial.client(CART).await;
    for _ in 0..3 {
        let refused = ask(&mut client, "d0").await.unwrap_err();
        assert_eq!(reason(&refused), "AUDIT_UNAVAILABLE");
        assert_eq!(refused.code(), Code::Unavailable);
        let details = refused.get_error_details();
        let delay = details.retry_info().unwrap().retry_delay.unwrap();
        assert_eq!(delay.as_secs(), 1);
    }
    let (status, _) = trial.http("/readyz").await;
    assert_eq!(status, 503);
    let (_, metrics) = trial.http("/metrics").await;
    for line in [
        r#"token_broker_audit_sink_up{sink="file"} 0"#,
        // The token was minted, and three times it was to be handed out.
        r#"token_broker_audit_records_total{sink="file",outcome="missed"} 4"#,
        r#"token_broker_calls_total{door="grpc",destination="d0",outcome="AUDIT_UNAVAILABLE"} 3"#,
    ] {
        assert!(metrics.contains(line), "{metrics}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_may_be_told_to_answer_without_records() {
    let trial = start("file = \"/dev/full\"\non_failure = \"allow\"").await;
    let mut client = trial.client(CART).await;
    ask(&mut client, "d0").await.unwrap();
    let (status, _) = trial.http("/readyz").await;
    assert_eq!(status, 200);
    let (_, metrics) = trial.http("/metrics").await;
    let missed = r#"token_broker_audit_records_total{sink="file",outcome="missed"} 2"#;
    assert!(metrics.contains(missed), "{metrics}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_broker_for_the_same_file_does_not_start() {
    let trial = start("file = \"audit.jsonl\"").await;
    let Err(error) = App::start(&trial.config()).await else {
        panic!("both write it")
    };
    assert!(matches!(error, StartError::Audit(_)), "{error}");
    assert!(error.to_string().contains("audit.jsonl"), "{error}");
    let mut client = trial.client(CART).await;
    ask(&mut client, "d0").await.unwrap();
}
