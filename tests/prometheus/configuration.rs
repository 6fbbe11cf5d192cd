//! Files that are wrong, or will soon be.

use std::{
    fs,
    path::Path,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use rcgen::{CertificateParams, KeyPair, date_time_ymd};

use crate::{
    prometheus::Prometheus,
    trial::{Setup, Site, Trial},
};

pub(crate) const ALERTS: &[&str] = &[
    "TokenBrokerReloadRefused",
    "TokenBrokerCertificateExpiring",
    "TokenBrokerCertificateExpired",
];

const HOUR: Duration = Duration::from_secs(3600);

/// Gives the broker a certificate that began an hour ago and is good for so long from now.
fn certify(folder: &Path, left: Duration) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let mut params = CertificateParams::new(["localhost".to_owned()]).unwrap();
    params.not_before = date_time_ymd(1970, 1, 1) + now.saturating_sub(HOUR);
    params.not_after = date_time_ymd(1970, 1, 1) + now + left;
    let key = KeyPair::generate().unwrap();
    let certificate = params.self_signed(&key).unwrap();
    fs::write(folder.join("server.key"), key.serialize_pem()).unwrap();
    fs::write(folder.join("server.pem"), certificate.pem()).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs prometheus"]
async fn files_that_are_wrong_or_run_out_are_alerts() {
    let site = Site::new(Setup::default()).await;
    let folder = site.folder.path().to_owned();
    // Until the first alert of it has fired.
    certify(&folder, Duration::from_secs(12));
    let trial = Trial::of(site).await;
    let http = trial.app.http_address().unwrap();
    let prometheus = Prometheus::start(&[("broker", http)]).await;
    let fires = async |alert| prometheus.fires(alert, Some("broker")).await;
    let resolves = async |alert| prometheus.resolves(alert, Some("broker")).await;

    fires("TokenBrokerCertificateExpiring").await;
    let config = trial.configure(|config| format!("{config}\nnonsense = true\n"));
    fires("TokenBrokerReloadRefused").await;
    fires("TokenBrokerCertificateExpired").await;

    trial.configure(|_| config);
    certify(&folder, 24 * HOUR);
    for alert in ALERTS {
        resolves(alert).await;
    }
    prometheus.has_seen(ALERTS);
}
