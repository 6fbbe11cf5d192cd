//! A broker, a destination, and proxies between them.

use std::fs;

use rcgen::SanType;
use token_broker::{
    api::v1::ReportRejectedRequest,
    cli::dev::{Authority, Signed},
};

use crate::{
    destination::Destination,
    proxy::Proxy,
    trial::{CART, Setup, Site as BrokerSite, Trial, ask, http_client},
};

pub(crate) const EXT_AUTHZ: &str = include_str!("../../deploy/envoy/ext_authz.yaml");
pub(crate) const CREDENTIAL_INJECTOR: &str =
    include_str!("../../deploy/envoy/credential_injector.yaml");
/// The destination's host in these files.
pub(crate) const HOST: &str = "global.occtoo.com";
/// A proxy that is believed who its callers are.
pub(crate) const GATEWAY: &str = "spiffe://corp.example/ns/mesh/sa/gateway";

pub(crate) struct Site {
    pub(crate) trial: Trial,
    pub(crate) destination: Destination,
}

impl Site {
    /// Requests below `/tenant` are for `d1`.
    pub(crate) async fn new() -> Self {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let site = BrokerSite::new(Setup {
            destinations: 2,
            ..Setup::default()
        })
        .await;
        let config = fs::read_to_string(site.config()).unwrap();
        let further = format!(
            r#"
[[destination.route]]
host = "{HOST}"
path_prefix = "/tenant/"
[ext_authz]
trusted_proxies = ["{GATEWAY}"]
"#
        );
        fs::write(site.config(), config + &further).unwrap();
        let destination = Destination::start(&server(&site.authority, HOST)).await;
        let trial = Trial::of(site).await;
        Self { trial, destination }
    }

    /// A proxy with the certificate of this caller, whose route names this destination.
    pub(crate) async fn proxy(
        &self,
        configuration: &str,
        caller: &str,
        destination: &str,
    ) -> Proxy {
        self.changed_proxy(configuration, caller, destination, &[])
            .await
    }

    /// The same, with further changes of the configuration.
    pub(crate) async fn changed_proxy(
        &self,
        configuration: &str,
        caller: &str,
        destination: &str,
        further: &[(&str, &str)],
    ) -> Proxy {
        let signed = self.trial.authority.client(caller).unwrap();
        let inbound = server(&self.trial.authority, "localhost");
        let broker = self.trial.app.address().port();
        let broker = format!("address: 127.0.0.1, port_value: {broker}");
        let upstream = self.destination.address.port();
        let upstream = format!("address: 127.0.0.1, port_value: {upstream}");
        let changes = [
            (
                "address: token-broker.corp.example, port_value: 7443",
                broker.as_str(),
            ),
            ("address: global.occtoo.com, port_value: 443", &upstream),
            // What the broker's certificate says here.
            ("token-broker.corp.example", "localhost"),
            (
                "/etc/ssl/certs/ca-certificates.crt",
                "/etc/envoy/tls/ca.pem",
            ),
            ("product-catalogue-v2", destination),
        ];
        let changes: Vec<_> = further.iter().chain(&changes).copied().collect();
        let files = [
            ("client.pem", signed.certificate.as_str()),
            ("client-key.pem", signed.key.expose()),
            ("server.pem", &inbound.certificate),
            ("server-key.pem", inbound.key.expose()),
            ("ca.pem", self.trial.authority.certificate()),
        ];
        Proxy::start(configuration, &changes, &files).await
    }

    /// The header with the current token.
    pub(crate) async fn bearer(&self, destination: &str) -> String {
        let mut client = self.trial.client(CART).await;
        let token = ask(&mut client, destination).await.unwrap();
        format!("Bearer {}", token.access_token)
    }

    /// Has the token of a destination replaced, and returns the header with the next one.
    pub(crate) async fn rotate(&self, destination: &str) -> String {
        let mut client = self.trial.client(CART).await;
        let last = ask(&mut client, destination).await.unwrap();
        let report = ReportRejectedRequest {
            destination_id: destination.to_owned(),
            token_id: last.token_id.clone(),
        };
        client.report_rejected(report).await.unwrap();
        loop {
            let next = ask(&mut client, destination).await.unwrap();
            if next.token_id != last.token_id {
                return format!("Bearer {}", next.access_token);
            }
            tokio::task::yield_now().await;
        }
    }
}

fn server(authority: &Authority, name: &str) -> Signed {
    let name = SanType::DnsName(name.try_into().unwrap());
    authority.server_with(vec![name]).unwrap()
}

/// What became of a request.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// The reason of the broker, if it denied the request.
    pub(crate) reason: Option<String>,
    /// For a request that came through, the authorization with which it did.
    pub(crate) body: String,
}

impl Answer {
    /// The destination was sent exactly this.
    pub(crate) fn passed(authorization: impl Into<String>) -> Self {
        Self {
            status: 200,
            reason: None,
            body: authorization.into(),
        }
    }
}

/// Sends a request for a path through the proxy, with these headers of authorization.
pub(crate) async fn send(
    client: &reqwest::Client,
    url: &str,
    authorization: &[&str],
) -> reqwest::Result<Answer> {
    let mut request = client.get(url).header("host", HOST);
    for value in authorization {
        request = request.header("authorization", *value);
    }
    let response = request.send().await?;
    let reason = response.headers().get("x-token-broker-reason");
    Ok(Answer {
        status: response.status().as_u16(),
        reason: reason.map(|reason| reason.to_str().unwrap().to_owned()),
        body: response.text().await?,
    })
}

pub(crate) fn client() -> reqwest::Client {
    http_client().build().unwrap()
}

impl Proxy {
    /// Sends a request as the service beside the proxy does.
    pub(crate) async fn get(&self, path: &str, authorization: &[&str]) -> Answer {
        let url = format!("http://{}{path}", self.address);
        let sent = send(&client(), &url, authorization).await;
        sent.unwrap_or_else(|error| panic!("{error:?}\n{}", self.log()))
    }
}
