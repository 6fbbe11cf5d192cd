//! What operators do to the brokers of these tests.

use token_broker::{
    api::admin::v1::{
        QuarantineRequest, RefreshRequest, ReleaseRequest, admin_client::AdminClient,
    },
    app::App,
};
use tonic::transport::{Channel, Identity};

use crate::trial::{CART, Setup, Site, Trial, endpoint, trusting};

/// Lines that make the ordinary caller an operator as well.
pub(crate) fn admin() -> String {
    format!("\n[admin]\nallow = [\"{CART}\"]\n")
}

/// A broker with more lines in its configuration.
pub(crate) async fn trial(setup: Setup, more: &str) -> Trial {
    let site = Site::new(setup).await;
    site.configure(|config| format!("{config}{}{more}", admin()));
    Trial::of(site).await
}

/// A client of a broker in this process.
pub(crate) async fn connect(app: &App, site: &Site, caller: &str) -> Channel {
    let signed = site.authority.client(caller).unwrap();
    let identity = Identity::from_pem(&signed.certificate, signed.key.expose());
    let tls = trusting(&site.authority).identity(identity);
    endpoint(app.address(), tls).connect().await.unwrap()
}

/// An operator's client.
pub(crate) struct Operator(AdminClient<Channel>);

impl Operator {
    pub(crate) async fn of(trial: &Trial) -> Self {
        Self(AdminClient::new(connect(&trial.app, trial, CART).await))
    }

    /// Mints now, and says why that failed, if it did.
    pub(crate) async fn refresh(&mut self, destination: &str) -> String {
        let request = RefreshRequest {
            destination_id: destination.to_owned(),
            application: String::new(),
        };
        let answer = self.0.refresh(request).await.unwrap().into_inner();
        answer.refreshed[0].reason.clone()
    }

    pub(crate) async fn quarantine(&mut self, destination: &str) {
        let request = QuarantineRequest {
            destination_id: destination.to_owned(),
            comment: "it leaks".to_owned(),
            application: String::new(),
        };
        self.0.quarantine(request).await.unwrap();
    }

    pub(crate) async fn release(&mut self, destination: &str) {
        let request = ReleaseRequest {
            destination_id: destination.to_owned(),
            application: String::new(),
        };
        self.0.release(request).await.unwrap();
    }
}
