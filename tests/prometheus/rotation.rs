//! A next secret that is rejected.

use jiff::Timestamp;
use token_broker::{
    credential::{
        Credential, CredentialRef, Proof,
        sealed::{Keys, Store},
    },
    secret::Secret,
};

use crate::{
    operator::{Operator, trial},
    prometheus::Prometheus,
    trial::{Setup, client_id},
};

pub(crate) const ALERTS: &[&str] = &["TokenBrokerRotationRolledBack"];

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs prometheus"]
async fn a_rotation_that_is_rolled_back_is_an_alert() {
    let setup = Setup {
        destinations: 1,
        sealed: true,
        ..Setup::default()
    };
    let trial = trial(setup, "").await;
    let http = trial.app.http_address().unwrap();
    let prometheus = Prometheus::start(&[("broker", http)]).await;
    let mut operator = Operator::of(&trial).await;

    let folder = trial.folder.path();
    let keys = || Keys::read(&folder.join("broker.key")).unwrap();
    let store = || Store::new(folder.join("credentials.age"), keys(), false);
    let proof = Proof::ClientSecret(Secret::new("wrong".to_owned()));
    let reference = CredentialRef::Sealed("any".to_owned());
    let wrong = Credential::new(&reference, client_id("d0"), proof);
    store()
        .change(|contents| contents.rotate("d0", &wrong, Timestamp::now()))
        .unwrap();
    trial.app.reload();
    let warned = r#"token_broker_warnings{warning="rotation_rolled_back"}"#;
    loop {
        assert_eq!(operator.refresh("d0").await, "", "the current one mints");
        if !prometheus.query(warned).await.unwrap().is_empty() {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    }
    prometheus.fires(ALERTS[0], Some("broker")).await;

    store().change(|contents| contents.abort("d0")).unwrap();
    trial.app.reload();
    prometheus.resolves(ALERTS[0], Some("broker")).await;
    prometheus.has_seen(ALERTS);
}
