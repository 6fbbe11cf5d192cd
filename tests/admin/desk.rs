//! A broker with an operator, whose files can be changed and which can be started again.

use std::{fs, time::Duration};

use token_broker::{
    api::{
        admin::v1::{
            Destination, ExplainRequest, ExplainResponse, ListDestinationsRequest,
            ListDestinationsResponse, QuarantineRequest, QuarantineResponse, RefreshRequest,
            RefreshResponse, ReleaseRequest, ReleaseResponse, ReloadRequest, UnusedGrantsRequest,
            admin_client::AdminClient,
        },
        v1::token_broker_client::TokenBrokerClient,
    },
    app::App,
};
use tokio::time::{Instant, sleep};
use tonic::{
    Response, Status,
    transport::{Channel, Identity},
};

use crate::trial::{CART, GIVE_UP, Setup, Site, endpoint, http, trusting};

/// Whom `[admin] allow` names.
pub(crate) const OPS: &str = "spiffe://corp.example/ns/ops/sa/anna";
/// An ordinary `[admin]`.
pub(crate) const ADMIN: &str =
    "allow = [\"spiffe://corp.example/ns/ops/**\"]\nstate_file = \"state.json\"";
/// How often something is looked at that announces nothing.
const LOOK_AGAIN: Duration = Duration::from_millis(10);

pub(crate) struct Desk {
    pub(crate) app: App,
    pub(crate) site: Site,
}

impl Desk {
    /// A broker with this many protected destinations, and an operator.
    pub(crate) async fn with(destinations: usize) -> Self {
        let setup = Setup {
            destinations,
            ..Setup::default()
        };
        Self::start(setup, ADMIN, "").await
    }

    /// A broker with these lines in `[admin]`, and more sections.
    pub(crate) async fn start(setup: Setup, admin: &str, more: &str) -> Self {
        let site = Site::new(setup).await;
        let config = fs::read_to_string(site.config()).unwrap();
        fs::write(
            site.config(),
            format!("{config}\n{more}\n[admin]\n{admin}\n"),
        )
        .unwrap();
        let app = App::start(&site.config()).await.unwrap();
        Self { app, site }
    }

    /// Stops the broker and starts another one with the same files.
    pub(crate) async fn restart(self) -> Self {
        let Self { app, site } = self;
        app.stop().await;
        let app = App::start(&site.config()).await.unwrap();
        Self { app, site }
    }

    pub(crate) async fn connect(&self, caller: &str) -> Channel {
        let signed = self.site.authority.client(caller).unwrap();
        let identity = Identity::from_pem(&signed.certificate, signed.key.expose());
        let tls = trusting(&self.site.authority).identity(identity);
        endpoint(self.app.address(), tls).connect().await.unwrap()
    }

    /// A caller that is granted every destination.
    pub(crate) async fn cart(&self) -> TokenBrokerClient<Channel> {
        TokenBrokerClient::new(self.connect(CART).await)
    }

    pub(crate) async fn ops(&self) -> Ops {
        Ops(AdminClient::new(self.connect(OPS).await))
    }

    /// Replaces a text in the configuration, which must have it once, or another file.
    pub(crate) fn reconfigure(&self, from: &str, to: &str) {
        let text = self.text("broker.toml");
        assert_eq!(text.matches(from).count(), 1, "{from} in {text}");
        self.write("broker.toml", &text.replace(from, to));
    }

    pub(crate) fn text(&self, name: &str) -> String {
        fs::read_to_string(self.site.folder.path().join(name)).unwrap()
    }

    /// Replaces a file at once, as a careful program does.
    pub(crate) fn write(&self, name: &str, content: &str) {
        let new = self.site.folder.path().join("new");
        fs::write(&new, content).unwrap();
        fs::rename(new, self.site.folder.path().join(name)).unwrap();
    }

    /// The lines of the exposition that begin with this.
    pub(crate) async fn metrics(&self, start: &str) -> Vec<String> {
        let address = self.app.http_address().unwrap();
        let (_, metrics) = http(address, "/metrics").await.unwrap();
        let lines = metrics.lines().filter(|line| line.starts_with(start));
        let mut lines: Vec<_> = lines.map(str::to_owned).collect();
        lines.sort();
        lines
    }

    /// Waits for the exposition to hold these lines and no others that begin so.
    pub(crate) async fn until_metrics(&self, start: &str, expected: &[&str]) {
        until(start, async || self.metrics(start).await == expected).await;
    }
}

/// Waits until something is so that announces nothing.
pub(crate) async fn until(what: &str, is_so: impl AsyncFn() -> bool) {
    let asked = Instant::now();
    while !is_so().await {
        assert!(asked.elapsed() < GIVE_UP, "never: {what}");
        sleep(LOOK_AGAIN).await;
    }
}

/// An operator's client.
#[derive(Clone)]
pub(crate) struct Ops(pub(crate) AdminClient<Channel>);

impl Ops {
    pub(crate) async fn list(&self) -> ListDestinationsResponse {
        let mut client = self.0.clone();
        let list = client.list_destinations(ListDestinationsRequest {}).await;
        list.unwrap().into_inner()
    }

    /// The one entry of a destination that has one application.
    pub(crate) async fn destination(&self, id: &str) -> Destination {
        let destinations = self.list().await.destinations;
        let mut found = destinations.into_iter().filter(|entry| entry.id == id);
        let first = found.next().unwrap();
        assert!(found.next().is_none(), "{id} has several applications");
        first
    }

    pub(crate) async fn explain(
        &self,
        caller: &str,
        destination: &str,
    ) -> Result<ExplainResponse, Status> {
        let request = ExplainRequest {
            caller: caller.to_owned(),
            destination_id: destination.to_owned(),
        };
        let answer = self.0.clone().explain(request).await;
        answer.map(Response::into_inner)
    }

    pub(crate) async fn refresh(
        &self,
        destination: &str,
        application: &str,
    ) -> Result<RefreshResponse, Status> {
        let request = RefreshRequest {
            destination_id: destination.to_owned(),
            application: application.to_owned(),
        };
        let answer = self.0.clone().refresh(request).await;
        answer.map(Response::into_inner)
    }

    pub(crate) async fn quarantine(
        &self,
        destination: &str,
        application: &str,
    ) -> Result<QuarantineResponse, Status> {
        let request = QuarantineRequest {
            destination_id: destination.to_owned(),
            comment: "it leaks".to_owned(),
            application: application.to_owned(),
        };
        let answer = self.0.clone().quarantine(request).await;
        answer.map(Response::into_inner)
    }

    pub(crate) async fn release(
        &self,
        destination: &str,
        application: &str,
    ) -> Result<ReleaseResponse, Status> {
        let request = ReleaseRequest {
            destination_id: destination.to_owned(),
            application: application.to_owned(),
        };
        let answer = self.0.clone().release(request).await;
        answer.map(Response::into_inner)
    }

    pub(crate) async fn reload(&self) -> Result<Vec<String>, Status> {
        let answer = self.0.clone().reload(ReloadRequest {}).await;
        answer.map(|answer| answer.into_inner().changes)
    }

    /// What was idle for so many seconds, as `destination application callers` or as the
    /// credential, and whether it was ever used.
    pub(crate) async fn unused(&self, seconds: i64) -> Vec<(String, bool)> {
        let request = UnusedGrantsRequest {
            idle_for: Some(prost_types::Duration { seconds, nanos: 0 }),
        };
        let answer = self.0.clone().unused_grants(request).await.unwrap();
        let unused = answer.into_inner().grants.into_iter().map(|unused| {
            assert!(unused.known_since.is_some());
            let used = unused.last_used_at.is_some();
            if unused.credential.is_empty() {
                let name = [
                    unused.destination_id,
                    unused.application,
                    unused.caller_pattern,
                ];
                (name.join(" "), used)
            } else {
                (unused.credential, used)
            }
        });
        unused.collect()
    }
}
