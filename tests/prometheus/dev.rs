//! `token-broker dev` in a process of its own, and calls of each kind to it.

use std::{collections::HashMap, net::SocketAddr};

use envoy_types::pb::envoy::service::auth::v3::{
    AttributeContext, CheckRequest, authorization_client::AuthorizationClient,
};
use token_broker::api::v1::token_broker_client::TokenBrokerClient;
use tokio::{io::AsyncReadExt as _, time::timeout};
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Identity};

use crate::{
    disguise::Disguise,
    newcomer,
    trial::{GIVE_UP, ask, endpoint, http_client},
};

/// A running broker.
pub(crate) struct Dev {
    newcomers: newcomer::Dev,
    pub(crate) address: SocketAddr,
    pub(crate) http: SocketAddr,
}

/// The samples of `dev`: one that works, one that has another secret, one that needs no token.
const SAMPLES: [&str; 3] = ["protected", "wrong-secret", "unprotected"];

impl Dev {
    pub(crate) fn start() -> Self {
        let newcomers = newcomer::Dev::start();
        let address = |name: &str, scheme: &str| {
            let value = newcomers.variable(name);
            value.strip_prefix(scheme).unwrap().parse().unwrap()
        };
        Self {
            address: address("TOKEN_BROKER_ENDPOINT", "https://"),
            http: address("TOKEN_BROKER_HTTP", "http://"),
            newcomers,
        }
    }

    fn file(&self, name: &str) -> String {
        self.newcomers.file(name)
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
        let authority = self.file("ca.pem");
        let root = reqwest::Certificate::from_pem(authority.as_bytes()).unwrap();
        let web = http_client().identity(identity).tls_certs_only([root]);
        let web = web.build().unwrap();
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
        // Whoever has no certificate is told so when they read, as late as that in TLS 1.3.
        let anybody = Disguise::before(self.address, &authority, None);
        let told = async { anybody.handshake().await?.read_u8().await };
        assert!(timeout(GIVE_UP, told).await.unwrap().is_err());
    }
}
