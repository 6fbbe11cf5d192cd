//! Canary secrets and tokens, and everything that the process could say of them: every
//! event of every crate at TRACE, errors, metrics, records, `Debug`. It is a program of its own,
//! because there is one place in a process that logs go to.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a panic in a test is its report"
)]

#[path = "../end_to_end/trial.rs"]
#[expect(
    dead_code,
    reason = "shared with the end-to-end tests, which use all of it"
)]
mod trial;

use std::{
    io,
    sync::{Arc, Mutex, PoisonError},
};

use token_broker::{
    credential::{Credential, CredentialRef, Proof},
    destination::DestinationId,
    secret::Secret,
    upstream::{
        AddressRule, ClientAuthentication, Endpoint, HttpClient, HttpSettings, OAuth2Settings,
        Protocol, source,
        standin::{Behaviour, Fault},
    },
};
use tracing::level_filters::LevelFilter;
use tracing_subscriber::fmt::MakeWriter;

use crate::trial::{CART, STRANGER, Setup, Trial, ask, client_secret};

/// Everything that was said.
#[derive(Clone, Default)]
struct Said(Arc<Mutex<Vec<u8>>>);

impl Said {
    fn add(&self, text: impl std::fmt::Debug) {
        let text = format!("{text:?} {text:#?}\n");
        self.bytes().extend(text.as_bytes());
    }

    fn bytes(&self) -> std::sync::MutexGuard<'_, Vec<u8>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes()).into_owned()
    }
}

impl io::Write for Said {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.bytes().extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Said {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

/// Crates that do not use `tracing` log through `log`.
impl log::Log for Said {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        let line = format!("{} {} {}\n", record.level(), record.target(), record.args());
        self.bytes().extend(line.as_bytes());
    }

    fn flush(&self) {}
}

#[tokio::test(flavor = "multi_thread")]
async fn secrets_appear_in_no_output() {
    let said = Said::default();
    tracing_subscriber::fmt()
        .with_max_level(LevelFilter::TRACE)
        .with_writer(said.clone())
        .init();
    log::set_boxed_logger(Box::new(said.clone())).unwrap();
    log::set_max_level(log::LevelFilter::Trace);

    let mut canaries = vec![client_secret("d0"), client_secret("d1")];
    let trial = Trial::start(Setup {
        destinations: 3,
        audit: "file = \"audit.jsonl\"\nstall_timeout = \"30s\"",
        ..Setup::default()
    })
    .await;
    let mut client = trial.client(CART).await;

    // A token that is minted and served, and what a program may print of it.
    let reply = ask(&mut client, "d0").await.unwrap();
    said.add(&reply);
    canaries.push(reply.access_token);

    // An endpoint that sends the secret back in an answer that cannot be used.
    let echo = format!(r#"{{"accessToken":5,"error":"{}"}}"#, client_secret("d1"));
    let echoes = Behaviour::fault(Fault::Body(echo));
    trial.upstream.behave_for("d1", Some(echoes));
    said.add(ask(&mut client, "d1").await.unwrap_err());
    // Rejections, refusals, and an endpoint that breaks off in the middle of a token.
    trial
        .upstream
        .behave_for("d1", Some(Behaviour::status(401)));
    said.add(ask(&mut client, "d1").await.unwrap_err());
    trial
        .upstream
        .behave_for("d2", Some(Behaviour::fault(Fault::Truncate)));
    said.add(ask(&mut client, "d2").await.unwrap_err());
    said.add(
        ask(&mut trial.client(STRANGER).await, "d0")
            .await
            .unwrap_err(),
    );
    said.add(trial.http("/metrics").await);

    // The other ways to send a secret: in an Authorization header, and in a form.
    for client_authentication in [
        ClientAuthentication::SecretBasic,
        ClientAuthentication::SecretPost,
    ] {
        let secret = "canary+oauth2/secret=";
        canaries.push(secret.to_owned());
        canaries.push("canary%2Boauth2%2Fsecret%3D".to_owned());
        // `client:canary…` as it stands in a Basic header.
        canaries.push("Y2xpZW50OmNhbmFyeSUyQm9hdXRoMiUyRnNlY3JldCUzRA".to_owned());
        trial.upstream.register("oauth2", "client", secret);
        let credential = Credential::new(
            &CredentialRef::Environment("OAUTH2".to_owned()),
            "client".to_owned(),
            Proof::ClientSecret(Secret::new(secret.to_owned())),
        );
        said.add(&credential);
        let http = HttpClient::new(&HttpSettings {
            plain_http: true,
            addresses: AddressRule {
                loopback: true,
                private: false,
            },
            ..HttpSettings::default()
        });
        let protocol = Protocol::OAuth2(OAuth2Settings {
            client_authentication,
            ..OAuth2Settings::default()
        });
        let endpoint = Endpoint::parse(&trial.upstream.oauth2_url()).unwrap();
        let id = DestinationId::parse("oauth2").unwrap();
        let source = source(
            &protocol,
            &http.unwrap(),
            &endpoint,
            &id,
            Arc::new(credential),
        )
        .unwrap();
        let minted = source.mint().await.unwrap();
        said.add(&minted);
        canaries.push(minted.access_token.expose().to_owned());
    }
    let (app, site) = trial.into_parts();
    app.stop().await;
    let records = std::fs::read_to_string(site.folder.path().join("audit.jsonl")).unwrap();
    assert_eq!(records.matches("\"kind\":\"token\"").count(), 1);
    said.bytes().extend(records.as_bytes());

    let said = said.text();
    // It must have been listening: to this crate, to HTTP/2 and to TLS.
    for heard in ["token_broker", "h2::", "rustls", "hyper"] {
        assert!(said.contains(heard), "nothing was heard of {heard}");
    }
    for canary in canaries {
        for line in said.lines() {
            assert!(!line.contains(&canary), "{canary} appears in: {line}");
        }
    }
}
