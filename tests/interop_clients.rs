//! Clients of others: the gRPC libraries of Python, Node, Go, Java and C++ against a whole
//! broker, over mutual TLS; and the programs in `examples/`, each run as its README says.
//!
//! `tests/interop/clients/cases.txt` says what every client has to get. `tests/interop/run`
//! builds the programs and runs these tests.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a panic in a test is its report"
)]

#[path = "interop/api.rs"]
mod api;
#[path = "interop/dev.rs"]
#[expect(dead_code, reason = "shared with the tests of metrics")]
mod dev;
#[path = "end_to_end/trial.rs"]
#[expect(
    dead_code,
    reason = "shared with the end-to-end tests, which use all of it"
)]
mod trial;

use std::{
    fmt::Write as _,
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use rcgen::SanType;
use token_broker::{
    app::App,
    upstream::standin::{Behaviour, Fault},
};

use self::{
    api::Api,
    dev::Dev,
    trial::{CART, STRANGER, Setup, Site},
};

const CASES: &str = include_str!("interop/clients/cases.txt");
/// The destinations of the cases, in the order of the site's.
const DESTINATIONS: [&str; 9] = [
    "steady",
    "rejected",
    "down",
    "garbled",
    "silent",
    "brief",
    "reported",
    "throttled",
    "stopped",
];
const OPERATOR: &str = "spiffe://corp.example/ns/ops/sa/operator";
/// Not how fast a program must be, but when one that hangs is given up, in seconds.
const GIVE_UP: &str = "120";

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Python: tests/interop/run"]
async fn python_gets_what_every_client_gets() {
    check(|| {
        let mut program = python();
        program.arg(root().join("tests/interop/clients/python/check.py"));
        program
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Node: tests/interop/run"]
async fn node_gets_what_every_client_gets() {
    check(|| {
        let mut program = limited("node");
        program.arg(root().join("tests/interop/clients/node/check.mjs"));
        program
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Go: tests/interop/run"]
async fn go_gets_what_every_client_gets() {
    check(|| limited(built("go/check"))).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Java: tests/interop/run"]
async fn java_gets_what_every_client_gets() {
    check(|| {
        let mut program = java();
        program.arg("Check");
        program
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs C++: tests/interop/run"]
async fn cpp_gets_what_every_client_gets() {
    check(|| limited(built("cpp/check"))).await;
}

#[test]
#[ignore = "needs Python: tests/interop/run"]
fn the_python_example_retries_a_rejected_token() {
    run_example(|| {
        let mut program = python();
        program.arg(root().join("examples/python/call_api.py"));
        program
    });
}

#[test]
#[ignore = "needs Node: tests/interop/run"]
fn the_node_example_retries_a_rejected_token() {
    run_example(|| {
        let mut program = limited("node");
        program.arg(root().join("examples/node/call-api.mjs"));
        program
    });
}

#[test]
#[ignore = "needs Go: tests/interop/run"]
fn the_go_example_retries_a_rejected_token() {
    run_example(|| limited(built("go/call-api")));
}

#[test]
#[ignore = "needs Java: tests/interop/run"]
fn the_java_example_retries_a_rejected_token() {
    run_example(|| {
        let mut program = java();
        program.arg("example.CallApi");
        program
    });
}

#[test]
#[ignore = "needs a .NET SDK: tests/interop/run"]
fn the_csharp_example_retries_a_rejected_token() {
    let program = built("csharp/CallApi.dll");
    if !program.exists() {
        println!("skipped: the C# example needs a .NET SDK, and there is none");
        return;
    }
    run_example(|| {
        let mut dotnet = limited("dotnet");
        dotnet.arg(&program);
        dotnet
    });
}

#[test]
#[ignore = "run with the others: tests/interop/run"]
fn the_rust_example_retries_a_rejected_token() {
    let broker = Path::new(env!("CARGO_BIN_EXE_token-broker"));
    let examples = broker.with_file_name("examples");
    run_example(|| limited(examples.join("rust")));
}

/// The case for which the broker must be one that can record nothing.
const UNRECORDED: &str = "unrecorded";

/// Lets a program make the calls of all cases, and compares what it got.
async fn check(program: impl Fn() -> Command) {
    let lines = CASES
        .lines()
        .filter(|line| !line.starts_with('#'))
        .map(|line| line.split_once('|').expect("a case has an answer"));
    let (unrecorded, others) = lines.partition(|(call, _)| call.starts_with(UNRECORDED));
    check_cases(program(), others, "").await;
    check_cases(program(), unrecorded, "file = \"/dev/full\"").await;
}

async fn check_cases(mut program: Command, lines: Vec<(&str, &str)>, audit: &'static str) {
    assert!(!lines.is_empty());
    let site = site(audit).await;
    let app = App::start(&site.config()).await.unwrap();
    let endpoint = format!("https://{}", app.address());
    if audit.is_empty() {
        quarantine(&site, endpoint.clone(), "stopped").await;
    }
    program
        .env("TOKEN_BROKER_ENDPOINT", endpoint)
        .env("INTEROP_FOLDER", site.folder.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped());
    let calls: Vec<_> = lines.iter().map(|(call, _)| *call).collect();
    let calls = calls.join("\n");
    let ended = tokio::task::spawn_blocking(move || {
        let mut child = program
            .spawn()
            .expect("tests/interop/run builds the programs");
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(calls.as_bytes()).unwrap();
        drop(stdin);
        child.wait_with_output().unwrap()
    });
    let ended = ended.await.unwrap();
    let got = String::from_utf8(ended.stdout).unwrap();
    app.stop().await;

    print!("{got}");
    let mut got = got.lines();
    for (call, answer) in &lines {
        let case = call.split_whitespace().next().unwrap();
        let expected: Vec<_> = [case]
            .into_iter()
            .chain(answer.split_whitespace())
            .collect();
        let got: Vec<_> = got.next().unwrap_or_default().split_whitespace().collect();
        let same = got.len() == expected.len()
            && got
                .iter()
                .zip(&expected)
                .all(|(got, expected)| got == expected || *expected == "*");
        assert!(same, "{case}: got {got:?} instead of {expected:?}");
    }
    assert_eq!(got.next(), None, "more answers than calls");
    assert!(ended.status.success(), "{}", ended.status);
}

/// Has an administrator stop a destination.
async fn quarantine(site: &Site, endpoint: String, destination: &'static str) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_token-broker"));
    let file = |name| site.folder.path().join(name);
    command
        .args([
            "destination",
            "quarantine",
            destination,
            "--comment",
            "test",
        ])
        .env("TOKEN_BROKER_ENDPOINT", endpoint)
        .env("TOKEN_BROKER_CA", file("ca.pem"))
        .env("TOKEN_BROKER_CERT", file("operator.pem"))
        .env("TOKEN_BROKER_KEY", file("operator.key"));
    let ended = tokio::task::spawn_blocking(move || command.status());
    assert!(ended.await.unwrap().unwrap().success());
}

/// A broker that refuses for every reason that can be provoked from without.
async fn site(audit: &'static str) -> Site {
    let site = Site::new(Setup {
        destinations: DESTINATIONS.len(),
        server: "request_timeout = \"1500ms\"\ndrain_timeout = \"200ms\"\n\
                 max_calls = 10\nmax_calls_per_second = 50",
        // A silent upstream stays silent: no call of it fails before its caller has had enough.
        upstream: "timeout = \"60s\"",
        audit,
        ..Setup::default()
    })
    .await;
    let mut config = fs::read_to_string(site.config()).unwrap();
    let status = |status, retry_after: Option<&str>| Fault::Status {
        status,
        retry_after: retry_after.map(str::to_owned),
    };
    for (n, name) in DESTINATIONS.into_iter().enumerate() {
        let id = format!("d{n}");
        config = config.replace(&format!("name-of-{id}"), name);
        let behaviour = match name {
            "rejected" => Behaviour::fault(status(401, None)),
            "down" => Behaviour::fault(status(503, None)),
            "garbled" => Behaviour::fault(Fault::Body("<html>".to_owned())),
            "silent" => Behaviour::fault(Fault::Silent),
            "brief" => Behaviour::lifetime(Duration::from_secs(4)),
            "throttled" => Behaviour::fault(status(429, Some("30"))),
            _ => Behaviour::default(),
        };
        site.upstream.behave_for(&id, Some(behaviour));
    }
    write!(config, "[admin]\nallow = [\"{OPERATOR}\"]\n").unwrap();
    fs::write(site.config(), config).unwrap();

    let uri = |id: &str| SanType::URI(id.try_into().unwrap());
    for (who, names) in [
        ("cart", vec![uri(CART)]),
        ("stranger", vec![uri(STRANGER)]),
        ("nameless", vec![uri(CART), uri(STRANGER)]),
        ("operator", vec![uri(OPERATOR)]),
        ("hasty", vec![uri("spiffe://corp.example/ns/shop/sa/hasty")]),
        ("crowd", vec![uri("spiffe://corp.example/ns/shop/sa/crowd")]),
    ] {
        let signed = site.authority.client_with(names).unwrap();
        let file = |end: &str| site.folder.path().join(format!("{who}.{end}"));
        fs::write(file("pem"), &signed.certificate).unwrap();
        fs::write(file("key"), signed.key.expose()).unwrap();
    }
    site
}

/// Runs an example against `token-broker dev` and an API that rejects the first token, and
/// again where that API redirects to another host, which is to see no token at all.
fn run_example(program: impl Fn() -> Command) {
    let dev = Dev::start();
    let api = Api::start();
    let run = |dev: &Dev, url: &str| {
        let ended = program()
            .args(["protected", url])
            .envs(dev.environment.iter().cloned())
            .output()
            .expect("tests/interop/run builds the examples");
        let printed = String::from_utf8_lossy(&ended.stdout).into_owned();
        let said = String::from_utf8_lossy(&ended.stderr).into_owned();
        (ended.status, printed, said)
    };
    let (status, printed, said) = run(&dev, &api.url);
    assert!(status.success(), "{status}: {printed}{said}");
    assert_eq!(printed.trim_end(), "200 three products");
    let presented = api.presented();
    assert_eq!(presented.len(), 2, "one call, and one retry");
    assert_ne!(presented[0], presented[1]);
    assert_eq!(dev.mints(), 2, "one report");

    // A broker that was told of no token yet would have a successor to give away.
    let (_, printed, said) = run(&Dev::start(), &api.moved);
    let strayed = api.strayed();
    // Some clients follow no redirect.
    let unfollowed = printed.starts_with("302");
    assert_ne!(unfollowed, !strayed.is_empty(), "{printed}{said}");
    assert!(strayed.iter().all(String::is_empty), "{strayed:?}");
}

fn python() -> Command {
    let mut program = limited(built("python/bin/python"));
    let path = std::env::join_paths([built("python-protocol"), root().join("examples/python")]);
    program.env("PYTHONPATH", path.unwrap());
    program
}

fn java() -> Command {
    let mut program = limited("java");
    let maven = root().join("examples/java/target");
    let path = [
        built("java"),
        maven.join("classes"),
        maven.join("dependency/*"),
    ];
    program.arg("-cp").arg(std::env::join_paths(path).unwrap());
    program
}

/// A program that is ended when it hangs.
fn limited(program: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = Command::new("timeout");
    command.arg(GIVE_UP).arg(program);
    command
}

/// What `tests/interop/run` builds.
fn built(name: &str) -> PathBuf {
    root().join("target/interop").join(name)
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}
