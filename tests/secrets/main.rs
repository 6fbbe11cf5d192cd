//! Canary secrets and tokens, and everything that the process could say of them: every
//! event of every crate at TRACE, errors, metrics, records, `Debug`. It is a program of its own,
//! because there is one place in a process that logs go to.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a panic in a test is its report"
)]

#[path = "../front_door/disguise.rs"]
mod disguise;
#[path = "../end_to_end/exchange.rs"]
#[expect(
    dead_code,
    reason = "shared with the end-to-end tests, which use all of it"
)]
mod exchange;
#[path = "../tracing/receiver.rs"]
#[expect(
    dead_code,
    reason = "shared with the tests of tracing, which use all of it"
)]
mod receiver;
#[path = "../end_to_end/trial.rs"]
#[expect(
    dead_code,
    reason = "shared with the end-to-end tests, which use all of it"
)]
mod trial;

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use envoy_types::pb::envoy::service::{
    auth::v3::{
        AttributeContext, CheckRequest,
        attribute_context::{HttpRequest, Request as Requested},
        authorization_client::AuthorizationClient,
        check_response::HttpResponse,
    },
    discovery::v3::DiscoveryRequest,
    secret::v3::secret_discovery_service_client::SecretDiscoveryServiceClient,
};
use token_broker::{
    api::v1::GetTokenRequest,
    config::Config,
    credential::{Credential, CredentialRef, Proof},
    destination::DestinationId,
    secret::Secret,
    telemetry::Span,
    upstream::{
        AddressRule, ClientAuthentication, Endpoint, HttpClient, HttpSettings, OAuth2Settings,
        Protocol, source,
        standin::{Behaviour, Fault},
    },
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};
use tracing::level_filters::LevelFilter;
use tracing_subscriber::fmt::MakeWriter;

use crate::{
    exchange::{Exchange, oauth2, occtoo, post},
    receiver::Receiver,
    trial::{CART, STRANGER, Setup, Trial, ask, client_secret},
};

/// The broker's password for what replicas share.
const PASSWORD: &str = "canary-password-of-redis";
/// What it seals with: 32 bytes.
const SEALING_KEY: &str = "Y2FuYXJ5LW9mLXRoZS1zaGFyZWQtY2FjaGUtMDAwMDE=";

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

/// What programs of others send to prove themselves, where they send it, and when it is
/// not what it should be.
async fn prove_in_vain(trial: &Trial, said: &Said) -> Vec<String> {
    const FORM: &str = "content-type: application/x-www-form-urlencoded\r\n";
    const ASKED: &str = "grant_type=client_credentials&audience=d0&client_secret=canary-in-form";
    let header =
        format!("{FORM}authorization: Basic canary-in-header\r\ncookie: canary-in-cookie\r\n");
    let json = r#"{"clientId":"canary-in-json","clientSecret":"canary-in-json"}"#;
    let long = format!("{ASKED}{}", "a".repeat(9_000));
    let torn = format!(
        "POST /oauth2/token HTTP/1.1\r\nhost: b\r\n{header}transfer-encoding: chunked\r\n\r\n{ASKED}"
    );
    for (caller, granted) in [(CART, true), (STRANGER, false)] {
        for (request, token) in [
            (
                post(
                    "/oauth2/token?client_secret=canary-in-query",
                    &header,
                    ASKED,
                ),
                granted,
            ),
            (
                post("/oauth2/token?audience=canary-in-query", &header, ASKED),
                false,
            ),
            (
                post("/oauth2/token?%=canary-in-query", &header, ASKED),
                false,
            ),
            (
                post("/oauth2/token", &header, &format!("{ASKED}&x=%")),
                false,
            ),
            (
                post("/oauth2/token", &header, &format!("{ASKED}&{ASKED}")),
                false,
            ),
            (post("/oauth2/token", &header, &long), false),
            (
                post("/oauth2/token", "x: canary-in-header\r\n", json),
                false,
            ),
            (
                post("/destinations/d0/token?canary-in-query", &header, json),
                granted,
            ),
            (
                post("/destinations/canary-in-path/token", &header, json),
                false,
            ),
            (post("/canary-in-path", &header, json), false),
            (format!("canary-in-path {header}\r\n\r\n"), false),
            (torn.clone(), false),
        ] {
            let answer = Exchange::of(trial, caller).await.ask(&request).await;
            assert_eq!(answer.status == 200, token, "{request}");
            // A token is in the answer of those who may have it, and nowhere else.
            if !token {
                said.add(&answer);
            }
        }
    }
    let places = ["form", "header", "cookie", "json", "query", "path"];
    places.map(|place| format!("canary-in-{place}")).to_vec()
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
    let (server, heard) = echoing_store().await;
    let receiver = Receiver::start().await;
    // Another section after the last line of the one before.
    let lines = format!(
        "file = \"audit.jsonl\"\nstall_timeout = \"30s\"\n[shared_cache]\nserver = \"{server}\"\nsealing_keys = [\"shared-cache.key\"]\npassword_file = \"redis.password\"\n[telemetry]\notlp_endpoint = \"http://{}\"\n",
        receiver.address
    );
    let trial = Trial::start(Setup {
        destinations: 3,
        audit: lines.leak(),
        files: vec![
            ("shared-cache.key", SEALING_KEY.to_owned()),
            ("redis.password", PASSWORD.to_owned()),
        ],
        ..Setup::default()
    })
    .await;
    let mut client = trial.client(CART).await;

    // A token that is minted and served, and what a program may print of it.
    let reply = ask(&mut client, "d0").await.unwrap();
    said.add(&reply);
    canaries.push(reply.access_token);
    canaries.extend([PASSWORD, SEALING_KEY].map(str::to_owned));

    canaries.extend(ask_as_a_proxy(&trial).await);

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
    let mut stranger = trial.client(STRANGER).await;
    said.add(ask(&mut stranger, "d0").await.unwrap_err());
    said.add(trial.http("/metrics").await);
    let page = trial.http("/").await;
    assert!(page.1.contains("UPSTREAM_MALFORMED") && page.1.contains("file:d1"));
    said.add(page);
    // What a reader asks for is repeated to that reader, and to nobody else.
    let (_, page) = trial.http("/?q=canary-in-query").await;
    assert!(page.contains("canary-in-query"));

    canaries.extend(prove_in_vain(&trial, &said).await);
    for request in [oauth2("d0"), occtoo("d0")] {
        let answer = Exchange::of(&trial, CART).await.ask(&request).await;
        assert!(answer.body.contains(&canaries[2]), "the same token");
    }
    // And in HTTP/2.
    let mut request = tonic::Request::new(GetTokenRequest {
        destination_id: "d0".to_owned(),
        min_validity: None,
    });
    let header = "Basic canary-in-header".parse().unwrap();
    request.metadata_mut().insert("authorization", header);
    client.get_token(request).await.unwrap();
    for way in [
        ClientAuthentication::SecretBasic,
        ClientAuthentication::SecretPost,
    ] {
        canaries.extend(mint_by(way, &trial, &said).await);
    }
    let (app, site) = trial.into_parts();
    said.add(Config::load(&site.folder.path().join("broker.toml")));
    assert!(heard.load(Ordering::Relaxed), "the password was sent");
    app.stop().await;
    let records = std::fs::read_to_string(site.folder.path().join("audit.jsonl")).unwrap();
    for (door, hand_outs) in [
        ("grpc", 2),
        ("ext_authz", 1),
        ("sds", 1),
        ("oauth2", 2),
        ("occtoo", 2),
    ] {
        let recorded = records.matches(&format!("\"door\":\"{door}\"")).count();
        assert_eq!(recorded, hand_outs, "{door}");
    }
    said.bytes().extend(records.as_bytes());

    let traced = receiver.got();
    // All doors, the flights, and what they asked.
    assert!(traced.spans().len() > 20, "{}", traced.spans().len());
    said.add(&traced.requests);
    said.add(&traced.headers);

    let said = said.text();
    // It must have been listening: to this crate, to HTTP/2 and to TLS.
    assert!(said.contains("the shared cache does not answer"));
    for heard in ["token_broker", "h2::", "rustls", "hyper"] {
        assert!(said.contains(heard), "nothing was heard of {heard}");
    }
    for canary in canaries {
        for line in said.lines() {
            assert!(!line.contains(&canary), "{canary} appears in: {line}");
        }
    }
}

/// A store that answers whatever it is sent with an error that repeats it, and whether it was
/// sent the password.
async fn echoing_store() -> (SocketAddr, Arc<AtomicBool>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let heard = Arc::new(AtomicBool::new(false));
    let sent_here = Arc::clone(&heard);
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut bytes = [0; 4096];
            while let Ok(length @ 1..) = stream.read(&mut bytes).await {
                let sent = String::from_utf8_lossy(&bytes[..length]).replace("\r\n", " ");
                sent_here.fetch_or(sent.contains(PASSWORD), Ordering::Relaxed);
                let answer = format!("-WRONGPASS {sent}\r\n").repeat(4);
                if stream.write_all(answer.as_bytes()).await.is_err() {
                    break;
                }
            }
        }
    });
    (address, heard)
}

/// Mints with a secret in an Authorization header, or in a form; returns what nobody may
/// hear of.
async fn mint_by(
    client_authentication: ClientAuthentication,
    trial: &Trial,
    said: &Said,
) -> Vec<String> {
    let secret = "canary+oauth2/secret=";
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
    let protocol = Protocol::OAuth2(Arc::new(OAuth2Settings {
        client_authentication,
        ..OAuth2Settings::default()
    }));
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
    let minted = source.mint(&Span::none()).await.unwrap();
    said.add(&minted);
    vec![
        secret.to_owned(),
        "canary%2Boauth2%2Fsecret%3D".to_owned(),
        // `client:canary…` as it stands in a Basic header.
        "Y2xpZW50OmNhbmFyeSUyQm9hdXRoMiUyRnNlY3JldCUzRA".to_owned(),
        minted.access_token.expose().to_owned(),
    ]
}

/// Has a request authorized and a secret sent; returns what nobody may hear of.
async fn ask_as_a_proxy(trial: &Trial) -> Vec<String> {
    const FORGED: &str = "canary-that-a-client-sent";
    let signed = trial.authority.client(CART).unwrap();
    let channel = trial.connect(&signed).await.unwrap();
    let http = HttpRequest {
        headers: [("authorization".to_owned(), FORGED.to_owned())].into(),
        ..HttpRequest::default()
    };
    let attributes = AttributeContext {
        context_extensions: [("destination_id".to_owned(), "d0".to_owned())].into(),
        request: Some(Requested {
            http: Some(http),
            ..Requested::default()
        }),
        ..AttributeContext::default()
    };
    let request = CheckRequest {
        attributes: Some(attributes),
    };
    let mut proxy = AuthorizationClient::new(channel.clone());
    let verdict = proxy.check(request).await.unwrap().into_inner();
    let Some(HttpResponse::OkResponse(allowed)) = verdict.http_response else {
        panic!("the request is not allowed");
    };
    let header = allowed.headers[0].header.clone().unwrap();

    let request = DiscoveryRequest {
        resource_names: vec!["d0".to_owned()],
        ..DiscoveryRequest::default()
    };
    let mut proxy = SecretDiscoveryServiceClient::new(channel);
    let polled = proxy.fetch_secrets(request.clone()).await.unwrap();
    let mut pushed = proxy
        .stream_secrets(tokio_stream::once(request))
        .await
        .unwrap()
        .into_inner();
    // The client has said its last word, so that the stream may end at once.
    let _ = pushed.message().await.unwrap();
    // As `Debug` shows the bytes of a message.
    let secret = &polled.into_inner().resources[0].value;
    let secret = format!("{secret:?}");
    let secret = secret.trim_matches(['[', ']']).to_owned();
    vec![FORGED.to_owned(), header.value, secret]
}
