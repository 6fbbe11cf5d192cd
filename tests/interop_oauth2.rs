//! The `oauth2` upstream against an authorization server of others: the npm package
//! `oidc-provider`, which makes up the secrets and the keys.
//!
//! `tests/interop/run` installs the package and runs these tests.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "clippy.toml exempts test functions, not the helpers beside them"
)]

use std::{
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
    sync::{Arc, LazyLock},
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::Deserialize;
use token_broker::{
    credential::{Credential, CredentialRef, Proof},
    destination::{AskedFor, DestinationId},
    secret::Secret,
    slot::{Failure, FailureReason},
    telemetry::Span,
    token::Minted,
    upstream::{
        AddressRule, ClientAuthentication, Endpoint, FetchError, HttpClient, HttpSettings,
        OAuth2Settings, Protocol, source,
    },
};

#[tokio::test]
#[ignore = "needs Node: tests/interop/run"]
async fn every_client_authentication_mints_a_token() {
    let provider = Provider::shared();
    assert_eq!(provider.told.clients.len(), 5);
    for client in &provider.told.clients {
        let minted = provider.mint(client, |_| {}).await;
        let minted = minted.unwrap_or_else(|error| panic!("{}: {error}", client.client_id));
        let claims = claims(&minted);
        assert_eq!(claims.sub, client.client_id);
        assert_eq!(claims.aud, provider.told.resource);
        assert_eq!(claims.scope, provider.told.scope);
        assert_eq!(minted.expires_in, Some(provider.told.lifetime));
    }
}

#[tokio::test]
#[ignore = "needs Node: tests/interop/run"]
async fn a_signed_assertion_is_never_sent_twice() {
    let provider = Provider::shared();
    let source = provider.source(provider.client("private_key_jwt"), |_| {});
    for _ in 0..3 {
        source.mint(&Span::none()).await.unwrap();
    }
}

#[tokio::test]
#[ignore = "needs Node: tests/interop/run"]
async fn a_wrong_secret_is_a_rejected_credential() {
    let provider = Provider::shared();
    for method in ["client_secret_basic", "client_secret_post"] {
        let client = Registration {
            client_secret: Some("wrong".to_owned()),
            ..provider.client(method).clone()
        };
        assert_rejected(provider.mint(&client, |_| {}).await, 401, "invalid_client");
    }
}

#[tokio::test]
#[ignore = "needs Node: tests/interop/run"]
async fn a_key_of_somebody_else_is_a_rejected_credential() {
    let provider = Provider::shared();
    let client = Registration {
        private_key: Some(rcgen::KeyPair::generate().unwrap().serialize_pem()),
        ..provider.client("private_key_jwt").clone()
    };
    assert_rejected(provider.mint(&client, |_| {}).await, 401, "invalid_client");
}

#[tokio::test]
#[ignore = "needs Node: tests/interop/run"]
async fn a_refused_resource_or_scope_is_an_operators_business() {
    let provider = Provider::shared();
    let client = provider.client("client_secret_basic");
    let unknown = |settings: &mut OAuth2Settings| {
        Arc::make_mut(&mut settings.asked).resource =
            vec!["https://api.example/unknown".to_owned()];
    };
    assert_rejected(provider.mint(client, unknown).await, 400, "invalid_target");
    let ungranted = |settings: &mut OAuth2Settings| {
        Arc::make_mut(&mut settings.asked).scope = Some("orders.write".to_owned());
    };
    assert_rejected(provider.mint(client, ungranted).await, 400, "invalid_scope");
}

fn assert_rejected(result: Result<Minted, FetchError>, status: u16, code: &'static str) {
    let error = result.unwrap_err();
    let code = Some(code);
    assert_eq!(error, FetchError::Rejected { status, code });
    assert_eq!(
        Failure::from(&error).reason,
        FailureReason::CredentialRejected
    );
}

/// What a token says, unverified.
#[derive(Deserialize)]
struct Claims {
    sub: String,
    aud: String,
    scope: String,
}

fn claims(minted: &Minted) -> Claims {
    let payload = minted.access_token.expose().split('.').nth(1).unwrap();
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).unwrap()).unwrap()
}

/// What `server.mjs` prints.
#[derive(Deserialize)]
struct Told {
    token_endpoint: String,
    resource: String,
    scope: String,
    lifetime: i64,
    clients: Vec<Registration>,
}

#[derive(Clone, Deserialize)]
struct Registration {
    client_id: String,
    method: String,
    client_secret: Option<String>,
    private_key: Option<String>,
    key_id: Option<String>,
}

impl Registration {
    fn credential(&self) -> Credential {
        let proof = match (&self.client_secret, &self.private_key) {
            (Some(secret), None) => Proof::ClientSecret(Secret::new(secret.clone())),
            (None, Some(pem)) => Proof::PrivateKey {
                pem: Secret::new(pem.clone()),
                key_id: self.key_id.clone(),
            },
            _ => panic!("{} has not exactly one proof", self.client_id),
        };
        let reference = CredentialRef::Environment("INTEROP".to_owned());
        Credential::new(&reference, self.client_id.clone(), proof)
    }
}

/// The server; it stops when this process ends and closes its standard input.
struct Provider {
    told: Told,
    _process: Child,
}

impl Provider {
    /// One server for all tests of this file.
    fn shared() -> &'static Self {
        static PROVIDER: LazyLock<Provider> = LazyLock::new(Provider::start);
        &PROVIDER
    }

    fn start() -> Self {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/interop/oidc-provider");
        let mut process = Command::new("node")
            .arg("server.mjs")
            .current_dir(folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("Node starts; is it installed?");
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        let told = serde_json::from_str(&line)
            .expect("the server says how to ask it; tests/interop/run installs what it needs");
        Self {
            told,
            _process: process,
        }
    }

    fn client(&self, method: &str) -> &Registration {
        let mut clients = self.told.clients.iter();
        clients.find(|client| client.method == method).unwrap()
    }

    async fn mint(
        &self,
        client: &Registration,
        change: impl FnOnce(&mut OAuth2Settings),
    ) -> Result<Minted, FetchError> {
        self.source(client, change).mint(&Span::none()).await
    }

    fn source(
        &self,
        client: &Registration,
        change: impl FnOnce(&mut OAuth2Settings),
    ) -> Arc<dyn token_broker::upstream::TokenSource> {
        let mut settings = OAuth2Settings {
            client_authentication: ClientAuthentication::parse(&client.method).unwrap(),
            asked: Arc::new(AskedFor {
                scope: Some(self.told.scope.clone()),
                resource: vec![self.told.resource.clone()],
                ..AskedFor::default()
            }),
        };
        change(&mut settings);
        let http = HttpClient::new(&HttpSettings {
            plain_http: true,
            addresses: AddressRule {
                loopback: true,
                private: false,
            },
            ..HttpSettings::default()
        })
        .unwrap();
        source(
            &Protocol::OAuth2(Arc::new(settings)),
            &http,
            &Endpoint::parse(&self.told.token_endpoint).unwrap(),
            &DestinationId::parse("orders").unwrap(),
            Arc::new(client.credential()),
        )
        .unwrap()
    }
}
