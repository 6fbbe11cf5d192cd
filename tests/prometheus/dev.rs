//! `token-broker dev` in a process of its own, and calls of each kind to it.

use std::{
    collections::HashMap,
    fs,
    io::{BufRead as _, BufReader},
    net::SocketAddr,
    process::{Child, Command, Stdio},
};

use envoy_types::pb::envoy::service::auth::v3::{
    AttributeContext, CheckRequest, authorization_client::AuthorizationClient,
};
use tempfile::TempDir;
use token_broker::api::v1::token_broker_client::TokenBrokerClient;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Identity};

use crate::{
    broker::PROGRAM,
    trial::{ask, endpoint},
};

/// A running broker. Dropped, it is killed.
pub(crate) struct Dev {
    child: Child,
    pub(crate) address: SocketAddr,
    pub(crate) http: SocketAddr,
    folder: TempDir,
}

/// The samples of `dev`: one that works, one that has another secret, one that needs no token.
const SAMPLES: [&str; 3] = ["protected", "wrong-secret", "unprotected"];

impl Dev {
    pub(crate) fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut child = Command::new(PROGRAM)
            .arg("dev")
            .arg("--dir")
            .arg(folder.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let ready = lines.any(|line| line.unwrap() == "Ctrl-C ends it.");
        assert!(ready, "dev did not start");
        let exports = fs::read_to_string(folder.path().join("env")).unwrap();
        let address = |name: &str, scheme: &str| {
            let mut values = exports.lines().filter_map(|line| {
                let (known, value) = line.strip_prefix("export ")?.split_once('=')?;
                (known == name).then_some(value.trim_matches('\''))
            });
            let value = values.next().unwrap();
            value.strip_prefix(scheme).unwrap().parse().unwrap()
        };
        Self {
            child,
            address: address("TOKEN_BROKER_ENDPOINT", "https://"),
            http: address("TOKEN_BROKER_HTTP", "http://"),
            folder,
        }
    }

    fn file(&self, name: &str) -> String {
        fs::read_to_string(self.folder.path().join(name)).unwrap()
    }

    async fn connect(&self) -> Channel {
        let identity = Identity::from_pem(self.file("client.pem"), self.file("client.key"));
        let authority = Certificate::from_pem(self.file("ca.pem"));
        let tls = ClientTlsConfig::new().ca_certificate(authority);
        let endpoint = endpoint(self.address, tls.identity(identity));
        endpoint.connect().await.unwrap()
    }

    /// Calls at several doors, good ones and bad ones.
    pub(crate) async fn warm(&self) {
        let channel = self.connect().await;
        let mut grpc = TokenBrokerClient::new(channel.clone());
        let mut outcomes = Vec::new();
        for destination in SAMPLES.into_iter().chain(["nobody-knows", "not/an id"]) {
            outcomes.push(ask(&mut grpc, destination).await.is_ok());
        }
        assert_eq!(outcomes, [true, false, false, false, false]);
        let mut envoy = AuthorizationClient::new(channel);
        for destination in SAMPLES {
            let id = ("destination_id".to_owned(), destination.to_owned());
            let attributes = AttributeContext {
                context_extensions: HashMap::from([id]),
                ..AttributeContext::default()
            };
            let request = CheckRequest {
                attributes: Some(attributes),
            };
            envoy.check(request).await.unwrap();
        }
        let identity = self.file("client.pem") + &self.file("client.key");
        let identity = reqwest::Identity::from_pem(identity.as_bytes()).unwrap();
        let authority = reqwest::Certificate::from_pem(self.file("ca.pem").as_bytes()).unwrap();
        let builder = || {
            let builder = reqwest::Client::builder().no_proxy();
            builder.tls_certs_only([authority.clone()])
        };
        let web = builder().identity(identity).build().unwrap();
        for (destination, expected) in [(SAMPLES[0], 200), ("nobody-knows", 400)] {
            let answer = web
                .post(format!("https://{}/oauth2/token", self.address))
                .header("content-type", "application/x-www-form-urlencoded")
                .body(format!(
                    "grant_type=client_credentials&client_id=any&client_secret=any&audience={destination}"
                ))
                .send()
                .await
                .unwrap();
            assert_eq!(answer.status().as_u16(), expected);
        }
        // Whoever has no certificate.
        let anybody = builder().build().unwrap();
        let refused = anybody
            .get(format!("https://{}/", self.address))
            .send()
            .await;
        assert!(refused.is_err());
    }
}

impl Drop for Dev {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
