//! The client commands as a script sees them: the program itself, over mutual TLS
//! to a broker that answers, refuses, stalls or is not there.

#![allow(
    clippy::unwrap_used,
    reason = "clippy.toml exempts test functions, not the helpers beside them"
)]

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::{
        Arc, LazyLock, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use futures_util::{StreamExt as _, stream::BoxStream};
use hyper::server::conn::http2;
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    service::TowerToHyperService,
};
use rcgen::SanType;
use rustix::process::{Pid, Signal, kill_process};
use rustls::{RootCertStore, ServerConfig, server::WebPkiClientVerifier};
use token_broker::{
    api::v1::{
        GetTokenRequest, GetTokenResponse, ReportRejectedRequest, ReportRejectedResponse,
        TokenUnavailable, WatchTokenRequest, WatchTokenResponse,
        token_broker_server::{TokenBroker, TokenBrokerServer},
        watch_token_response::Event,
    },
    cli::dev::{Authority, Signed},
    pem_file,
};
use tokio::net::TcpSocket;
use tokio_rustls::TlsAcceptor;
use tonic::{Code, Request, Response, Status, service::Routes};
use tonic_types::{ErrorDetails, StatusExt as _};

#[test]
fn text_is_the_token_alone() {
    let output = get("orders", &[]);
    assert_eq!(stdout(&output), "token-for-orders\n");
    assert_eq!((stderr(&output), output.status.code()), ("", Some(0)));
}

#[test]
fn json_carries_what_a_script_needs() {
    let output = get("orders", &["--output", "json"]);
    let reply: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        reply,
        serde_json::json!({
            "access_token": "token-for-orders",
            "token_type": "Bearer",
            "expires_at": "2027-01-15T08:00:00Z",
            "expires_in": 1799,
            "token_id": "00ff",
        })
    );
}

#[test]
fn flags_come_before_the_environment_and_reach_the_broker() {
    let broker = Broker::shared();
    let output = program()
        .args([
            "token",
            "get",
            "orders",
            "--min-validity",
            "5m",
            "--timeout",
            "10s",
        ])
        .args(["--endpoint", &broker.endpoint("localhost")])
        .envs(broker.environment("nowhere.invalid"))
        .output()
        .unwrap();
    assert_eq!(stdout(&output), "token-for-orders\n", "{}", stderr(&output));
    let seen = broker.seen.lock().unwrap();
    let (validity, timeout) = seen.iter().find(|(validity, _)| *validity == 300).unwrap();
    assert_eq!(*validity, 300);
    let micros: u64 = timeout.strip_suffix('u').unwrap().parse().unwrap();
    assert!((1..=10_000_000).contains(&micros), "{timeout}");
}

#[test]
fn a_refusal_is_its_reason_what_to_do_and_when_to_retry() {
    for (destination, line) in [
        ("forbidden", "NOT_GRANTED: ask the operator for a grant\n"),
        ("broken", "UPSTREAM_UNAVAILABLE: wait (retry in 2s)\n"),
        ("plain", "RESOURCE_EXHAUSTED: no details\n"),
    ] {
        let output = get(destination, &[]);
        assert_eq!(stderr(&output), line);
        assert_eq!((stdout(&output), output.status.code()), ("", Some(1)));
    }
}

#[test]
fn a_watch_prints_each_token_once_and_goes_on_after_trouble() {
    for (output, tokens, trouble) in [
        (
            "text",
            ["first", "second", "third"],
            [
                "UPSTREAM_UNAVAILABLE: the broker has no valid token at present (retry in 2s)",
                "UNAVAILABLE: the broker ended the stream (retry in ",
            ],
        ),
        (
            "json",
            [
                r#""token_id":"01""#,
                r#""token_id":"02""#,
                r#""token_id":"03""#,
            ],
            [
                r#"{"reason":"UPSTREAM_UNAVAILABLE","message":"the broker has no valid token at present","retry_in":2}"#,
                r#"{"reason":"UNAVAILABLE","message":"the broker ended the stream","retry_in":1}"#,
            ],
        ),
    ] {
        let mut watch = watch(&format!("troubled-{output}"), &["--output", output]);
        let mut lines = BufReader::new(watch.stdout.take().unwrap()).lines();
        for token in tokens {
            let line = lines.next().unwrap().unwrap();
            assert!(line.contains(token), "{line}");
        }
        kill_process(Pid::from_child(&watch), Signal::INT).unwrap();
        assert!(lines.next().is_none(), "nothing else");
        let ended = watch.wait_with_output().unwrap();
        assert_eq!(ended.status.code(), Some(0));
        let told: Vec<_> = stderr(&ended).lines().collect();
        assert_eq!(told.len(), 2, "{told:?}");
        for (told, expected) in told.iter().zip(trouble) {
            assert!(told.starts_with(expected), "{told}");
        }
    }
}

#[test]
fn a_watch_that_somebody_has_to_help_ends_by_itself() {
    let refused = watch("forbidden", &[]).wait_with_output().unwrap();
    assert_eq!(
        stderr(&refused),
        "NOT_GRANTED: ask the operator for a grant\n"
    );
    assert_eq!((stdout(&refused), refused.status.code()), ("", Some(1)));

    let unreadable = watch("orders", &["--ca", "/nonexistent/ca.pem"]);
    let unreadable = unreadable.wait_with_output().unwrap();
    let told = stderr(&unreadable);
    assert!(
        told.starts_with("error: cannot read the CA certificate"),
        "{told}"
    );
    assert_eq!(
        (stdout(&unreadable), unreadable.status.code()),
        ("", Some(1))
    );
}

#[test]
fn a_silent_broker_is_given_up_in_time() {
    let output = get("stalled", &["--timeout", "300ms"]);
    assert_eq!(
        stderr(&output),
        "DEADLINE_EXCEEDED: the broker did not answer in time\n"
    );
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn whatever_keeps_a_client_from_connecting_is_named() {
    let broker = Broker::shared();
    let folder = &broker.folder;
    let closed = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    fs::write(folder.join("empty.pem"), "").unwrap();
    let path = |name: &str| folder.join(name).to_str().unwrap().to_owned();

    for (flag, value, sentence) in [
        ("--endpoint", "127.0.0.1:8443", "is not an https URL"),
        ("--endpoint", "http://127.0.0.1:8443", "is not an https URL"),
        (
            "--endpoint",
            &format!("https://{closed}"),
            "is the broker running?",
        ),
        (
            "--endpoint",
            &broker.endpoint("127.0.0.1"),
            "is for another host",
        ),
        (
            "--ca",
            &path("missing.pem"),
            "cannot read the CA certificate",
        ),
        (
            "--ca",
            &path("empty.pem"),
            "holds no usable CA certificate in PEM",
        ),
        (
            "--ca",
            &path("key.pem"),
            "holds no usable CA certificate in PEM",
        ),
        (
            "--ca",
            &path("other-ca.pem"),
            "was not issued by the given CA",
        ),
        (
            "--cert",
            &path("missing.pem"),
            "cannot read the client certificate",
        ),
        ("--cert", &path("other.pem"), "cannot be used together"),
        ("--key", &path("missing.pem"), "cannot read the private key"),
        (
            "--key",
            &path("cert.pem"),
            "holds no usable private key in PEM",
        ),
    ] {
        let output = get("orders", &[flag, value]);
        assert!(
            stderr(&output).contains(sentence),
            "{sentence}: {}",
            stderr(&output)
        );
        assert!(
            stderr(&output).starts_with("error: "),
            "{}",
            stderr(&output)
        );
        assert_eq!(stderr(&output).lines().count(), 1, "{}", stderr(&output));
        assert_eq!((stdout(&output), output.status.code()), ("", Some(1)));
    }
}

#[test]
fn a_client_certificate_that_the_broker_does_not_accept_is_named() {
    let broker = Broker::shared();
    let path = |name: &str| broker.folder.join(name).to_str().unwrap().to_owned();
    let output = get(
        "orders",
        &[
            "--cert",
            &path("other.pem"),
            "--key",
            &path("other-key.pem"),
        ],
    );
    let message = stderr(&output);
    // Its alert can be lost when the connection is reset right after it.
    assert!(
        message.contains("not accept the client certificate"),
        "{message}"
    );
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn missing_settings_are_a_usage_error_that_names_them() {
    let output = program().args(["token", "get", "orders"]).output().unwrap();
    for name in ["ENDPOINT", "CA", "CERT", "KEY"] {
        assert!(stderr(&output).contains(&format!("TOKEN_BROKER_{name}")));
    }
    assert_eq!((stdout(&output), output.status.code()), ("", Some(2)));
}

#[test]
fn health_follows_the_status() {
    for (arguments, answer, code, out, err) in [
        (
            &[][..],
            "HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nready\n",
            0,
            "ready\n",
            "",
        ),
        (
            &["--live"][..],
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nalive\r\n0\r\n\r\n",
            0,
            "alive\n",
            "",
        ),
        (
            &[][..],
            "HTTP/1.1 503 Service Unavailable\r\ncontent-length: 23\r\n\r\nno token yet\nsecond line",
            1,
            "",
            "503: no token yet\n",
        ),
    ] {
        let (address, request) = answer_once(answer);
        let output = program()
            .args(["health", "--http", &format!("http://{address}")])
            .args(arguments)
            .output()
            .unwrap();
        let path = if arguments.is_empty() {
            "/readyz"
        } else {
            "/healthz"
        };
        let request = request.join().unwrap();
        assert!(
            request.starts_with(&format!("GET {path} HTTP/1.1\r\n")),
            "{request}"
        );
        assert_eq!((stdout(&output), stderr(&output)), (out, err));
        assert_eq!(output.status.code(), Some(code));
    }
}

#[test]
fn health_fails_when_nothing_answers() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let silent = health(address);
    // Bound, so that nobody else can listen there meanwhile.
    let bound = TcpSocket::new_v4().unwrap();
    bound.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let closed = health(bound.local_addr().unwrap());
    let (address, _) = answer_once("SSH-2.0-other\r\n");
    let other = health(address);
    for (output, sentence) in [
        (silent, "no answer in time"),
        (closed, "refused"),
        (other, "speaks no HTTP/1.1"),
    ] {
        assert!(stderr(&output).contains(sentence), "{}", stderr(&output));
        assert_eq!((stdout(&output), output.status.code()), ("", Some(1)));
    }
}

fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_token-broker"));
    for name in ["ENDPOINT", "CA", "CERT", "KEY", "HTTP"] {
        command.env_remove(format!("TOKEN_BROKER_{name}"));
    }
    command
}

fn get(destination: &str, arguments: &[&str]) -> Output {
    let broker = Broker::shared();
    program()
        .args(["token", "get", destination])
        .args(arguments)
        .envs(broker.environment("localhost"))
        .output()
        .unwrap()
}

fn watch(destination: &str, arguments: &[&str]) -> Child {
    program()
        .args(["token", "watch", destination])
        .args(arguments)
        .envs(Broker::shared().environment("localhost"))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

fn health(address: SocketAddr) -> Output {
    program()
        .args(["health", "--timeout", "500ms"])
        .env("TOKEN_BROKER_HTTP", format!("http://{address}"))
        .output()
        .unwrap()
}

fn stdout(output: &Output) -> &str {
    str::from_utf8(&output.stdout).unwrap()
}

fn stderr(output: &Output) -> &str {
    str::from_utf8(&output.stderr).unwrap()
}

/// Answers one connection with fixed bytes; the thread returns the request.
fn answer_once(answer: &'static str) -> (SocketAddr, thread::JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let thread = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut request = [0; 4096];
        let length = stream.read(&mut request).unwrap();
        stream.write_all(answer.as_bytes()).unwrap();
        String::from_utf8(request[..length].to_vec()).unwrap()
    });
    (address, thread)
}

/// A broker that decides by the name of the destination alone.
struct Broker {
    address: SocketAddr,
    folder: PathBuf,
    /// The `min_validity` and the `grpc-timeout` of every request.
    seen: Seen,
    _folder: tempfile::TempDir,
}

type Seen = Arc<Mutex<Vec<(i64, String)>>>;

impl Broker {
    /// One broker for all tests of this file.
    fn shared() -> &'static Self {
        static BROKER: LazyLock<Broker> = LazyLock::new(Broker::start);
        &BROKER
    }

    fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let folder = directory.path().to_owned();
        let acceptor = TlsAcceptor::from(Arc::new(server_config(&folder)));
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Seen::default();
        let answers = Answers(Arc::clone(&seen));
        thread::spawn(move || {
            let runtime = tokio::runtime::Runtime::new().unwrap();
            runtime.block_on(serve(listener, acceptor, answers));
        });
        Self {
            address,
            folder,
            seen,
            _folder: directory,
        }
    }

    fn endpoint(&self, host: &str) -> String {
        format!("https://{host}:{}", self.address.port())
    }

    fn environment(&self, host: &str) -> [(&'static str, String); 4] {
        let path = |name: &str| self.folder.join(name).to_str().unwrap().to_owned();
        [
            ("TOKEN_BROKER_ENDPOINT", self.endpoint(host)),
            ("TOKEN_BROKER_CA", path("ca.pem")),
            ("TOKEN_BROKER_CERT", path("cert.pem")),
            ("TOKEN_BROKER_KEY", path("key.pem")),
        ]
    }
}

async fn serve(listener: TcpListener, acceptor: TlsAcceptor, answers: Answers) {
    let listener = tokio::net::TcpListener::from_std(listener).unwrap();
    let routes = Routes::new(TokenBrokerServer::new(answers));
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let (acceptor, routes) = (acceptor.clone(), routes.clone());
        tokio::spawn(async move {
            let Ok(stream) = acceptor.accept(stream).await else {
                return;
            };
            let _ = http2::Builder::new(TokioExecutor::new())
                .serve_connection(TokioIo::new(stream), TowerToHyperService::new(routes))
                .await;
        });
    }
}

/// Writes all the files that the tests name, and trusts one of the two authorities.
fn server_config(folder: &Path) -> ServerConfig {
    let [ours, other] = [Authority::new().unwrap(), Authority::new().unwrap()];
    let name = |name: &str| vec![SanType::DnsName(name.try_into().unwrap())];
    let write = |signed: Signed, cert: &str, key: &str| {
        fs::write(folder.join(cert), signed.certificate).unwrap();
        fs::write(folder.join(key), signed.key.expose()).unwrap();
    };
    fs::write(folder.join("ca.pem"), ours.certificate()).unwrap();
    fs::write(folder.join("other-ca.pem"), other.certificate()).unwrap();
    for (authority, cert, key) in [
        (&ours, "cert.pem", "key.pem"),
        (&other, "other.pem", "other-key.pem"),
    ] {
        let client = authority.client_with(name("cart.example")).unwrap();
        write(client, cert, key);
    }
    let server = ours.server_with(name("localhost")).unwrap();
    write(server, "server.pem", "server-key.pem");
    let certificates = |name| pem_file::certificates(&folder.join(name)).unwrap().content;
    let key = pem_file::private_key(&folder.join("server-key.pem")).unwrap();

    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(certificates("ca.pem"));
    let verifier = WebPkiClientVerifier::builder(Arc::new(roots)).build();
    let mut config = ServerConfig::builder()
        .with_client_cert_verifier(verifier.unwrap())
        .with_single_cert(certificates("server.pem"), key.content)
        .unwrap();
    config.alpn_protocols = vec![b"h2".to_vec()];
    config
}

struct Answers(Seen);

fn whole() -> GetTokenResponse {
    GetTokenResponse {
        access_token: "token".to_owned(),
        token_type: "Bearer".to_owned(),
        expires_at: Some(prost_types::Timestamp {
            seconds: 1_800_000_000,
            nanos: 1,
        }),
        expires_in: Some(prost_types::Duration {
            seconds: 1799,
            nanos: 999_999_999,
        }),
        token_id: "00ff".to_owned(),
    }
}

#[tonic::async_trait]
impl TokenBroker for Answers {
    async fn get_token(
        &self,
        request: Request<GetTokenRequest>,
    ) -> Result<Response<GetTokenResponse>, Status> {
        let timeout = request.metadata().get("grpc-timeout").unwrap();
        let timeout = timeout.to_str().unwrap().to_owned();
        let request = request.into_inner();
        let validity = request.min_validity.map_or(0, |span| span.seconds);
        self.0.lock().unwrap().push((validity, timeout));

        let error_info = |reason| ErrorDetails::with_error_info(reason, "tokenbroker", []);
        Err(match request.destination_id.as_str() {
            "forbidden" => Status::with_error_details(
                Code::PermissionDenied,
                "ask the operator for a grant",
                error_info("NOT_GRANTED"),
            ),
            "broken" => {
                let mut details = error_info("UPSTREAM_UNAVAILABLE");
                details.set_retry_info(Some(Duration::from_millis(1001)));
                Status::with_error_details(Code::Unavailable, "wait", details)
            }
            "plain" => Status::resource_exhausted("no details"),
            "stalled" => std::future::pending().await,
            destination => {
                return Ok(Response::new(GetTokenResponse {
                    access_token: format!("token-for-{destination}"),
                    ..whole()
                }));
            }
        })
    }

    type WatchTokenStream = BoxStream<'static, Result<WatchTokenResponse, Status>>;

    async fn watch_token(
        &self,
        request: Request<WatchTokenRequest>,
    ) -> Result<Response<Self::WatchTokenStream>, Status> {
        static WATCHES: [AtomicUsize; 2] = [const { AtomicUsize::new(0) }; 2];
        let watches = match request.get_ref().destination_id.as_str() {
            "troubled-text" => &WATCHES[0],
            "troubled-json" => &WATCHES[1],
            _ => {
                return Err(Status::with_error_details(
                    Code::PermissionDenied,
                    "ask the operator for a grant",
                    ErrorDetails::with_error_info("NOT_GRANTED", "tokenbroker", []),
                ));
            }
        };
        let token = |token: &str, id: &str| {
            Event::Token(GetTokenResponse {
                access_token: token.to_owned(),
                token_id: id.to_owned(),
                ..whole()
            })
        };
        let trouble = || {
            Event::Unavailable(TokenUnavailable {
                reason: "UPSTREAM_UNAVAILABLE".to_owned(),
                retry_delay: Some(prost_types::Duration {
                    seconds: 1,
                    nanos: 500_000_000,
                }),
            })
        };
        // The first stream ends; the second goes on where it ended.
        let is_first = watches.fetch_add(1, Ordering::SeqCst) == 0;
        let events = if is_first {
            vec![
                token("first", "01"),
                trouble(),
                trouble(),
                token("second", "02"),
            ]
        } else {
            vec![token("second", "02"), token("third", "03")]
        };
        let events = events.into_iter().map(|event| {
            let event = Some(event);
            Ok(WatchTokenResponse { event })
        });
        let events = futures_util::stream::iter(events);
        Ok(Response::new(if is_first {
            events.boxed()
        } else {
            events.chain(futures_util::stream::pending()).boxed()
        }))
    }

    async fn report_rejected(
        &self,
        _: Request<ReportRejectedRequest>,
    ) -> Result<Response<ReportRejectedResponse>, Status> {
        Err(Status::unimplemented(""))
    }
}
