//! What the server and the line to it can tell.

use std::{fmt::Write as _, fs};

use base64::{Engine as _, prelude::BASE64_STANDARD, prelude::BASE64_URL_SAFE};
use token_broker::{
    api::admin::v1::{QuarantineRequest, RefreshRequest},
    upstream::standin::{Behaviour, Fault},
};
use tokio::task::spawn_blocking;

use crate::{
    broker::machine,
    fleet::{Fleet, site, until},
    line::Line,
    server::{PASSWORD, Server},
    trial::{CART, Setup, Site, ask, reason},
    vault::values,
};

const DESTINATION: &str = "canary-destination";
const REJECTED: &str = "canary-rejected";
const NAME: &str = "canary-name";
const APPLICATION: &str = "canary-application";
const CLIENT: &str = "canary-client";
const SECRET: &str = "canary-client-secret";
const COMMENT: &str = "canary comment of the operator";

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs redis-server"]
async fn neither_the_server_nor_the_line_to_it_tells_anything() {
    let _machine = machine().await;
    let server = Server::start().await;
    let line = Line::to(server.address).await;
    let mut fleet = Fleet::at(canary(&line).await);
    for _ in 0..2 {
        fleet.grow().await;
    }
    fleet.connected().await;
    let mut heaps = Vec::new();
    let tokens = mint(&fleet).await;
    heaps.extend(held(&server));
    refuse(&fleet).await;
    heaps.extend(held(&server));
    let (sent, received) = (line.sent(), line.received());
    let passed = sent.iter().chain(&received).map(Vec::len).sum::<usize>();
    assert!(passed > 1000, "{passed} bytes on the line");
    heaps.extend(sent.iter().cloned().map(|text| ("what is sent", text)));
    heaps.extend(received.iter().cloned().map(|text| ("what comes", text)));

    let endpoint = format!("localhost:{}", fleet.site.upstream.addr().port());
    let key = fleet.site.folder.path().join("shared-cache.key");
    let key = fs::read_to_string(key).unwrap();
    let mut needles = vec![endpoint, key];
    needles.extend(
        [
            DESTINATION,
            REJECTED,
            NAME,
            APPLICATION,
            CLIENT,
            SECRET,
            COMMENT,
            CART,
        ]
        .map(str::to_owned),
    );
    needles.extend(tokens);
    // A shorter name would be found by chance.
    let host = rustix::system::uname();
    let host = host.nodename().to_string_lossy();
    needles.extend((host.len() >= 8).then(|| host.into_owned()));
    let looking = spawn_blocking(move || look(&needles, &heaps));
    looking.await.unwrap();

    // The password is for the door, and only there.
    let commands = sent.iter().flat_map(|text| commands(text));
    let with_it = commands.filter(|command| {
        let mut parts = command.iter();
        parts.any(|part| holds(part, PASSWORD.as_bytes()))
    });
    let doors: Vec<_> = with_it
        .map(|command| String::from_utf8(command[0].to_ascii_uppercase()).unwrap())
        .collect();
    assert!(!doors.is_empty());
    assert!(
        doors.iter().all(|name| name == "AUTH" || name == "HELLO"),
        "{doors:?}"
    );
    let told = received.iter().any(|text| holds(text, PASSWORD.as_bytes()));
    assert!(!told);
    fleet.stop().await;
}

/// Two destinations whose every detail is easy to find.
async fn canary(line: &Line) -> Site {
    let site = site(Setup::default(), line.address).await;
    let credential = site.folder.path().join("credentials/canary");
    fs::create_dir_all(&credential).unwrap();
    fs::write(credential.join("client_id"), CLIENT).unwrap();
    fs::write(credential.join("client_secret"), SECRET).unwrap();
    site.configure(|config| {
        let mut config = config.replace("http://127.0.0.1:", "http://localhost:");
        for (id, name) in [(DESTINATION, NAME), (REJECTED, "another-canary")] {
            write!(
                config,
                r#"
[[destination]]
id = "{id}"
name = "{name}"
upstream = "occtoo"
[[destination.application]]
name = "{APPLICATION}"
credential = "file:canary"
[[destination.grant]]
callers = ["{CART}"]
"#
            )
            .unwrap();
            site.upstream.register(id, CLIENT, SECRET);
        }
        config
    });
    site
}

/// A token and its successors. Returns them.
async fn mint(fleet: &Fleet) -> Vec<String> {
    let mut tokens = Vec::new();
    for replica in [0, 1, 0] {
        let mut client = fleet.client(replica).await;
        let token = ask(&mut client, DESTINATION).await.unwrap();
        tokens.push(token.access_token);
        refresh(fleet).await;
    }
    tokens
}

/// A rejection, a pause and a quarantine.
async fn refuse(fleet: &Fleet) {
    let upstream = &fleet.site.upstream;
    upstream.behave_for(REJECTED, Some(Behaviour::status(401)));
    let refusal = ask(&mut fleet.client(0).await, REJECTED).await;
    assert_eq!(reason(&refusal.unwrap_err()), "CREDENTIAL_REJECTED");
    upstream.behave(Behaviour::fault(Fault::Status {
        status: 429,
        retry_after: Some("30".to_owned()),
    }));
    refresh(fleet).await;
    let request = QuarantineRequest {
        destination_id: DESTINATION.to_owned(),
        comment: COMMENT.to_owned(),
        application: String::new(),
    };
    fleet.operator(0).await.quarantine(request).await.unwrap();
    until("the other one is told", async || {
        let refused = ask(&mut fleet.client(1).await, DESTINATION).await.err();
        refused.is_some_and(|status| reason(&status) == "DESTINATION_QUARANTINED")
    })
    .await;
}

async fn refresh(fleet: &Fleet) {
    let request = RefreshRequest {
        destination_id: DESTINATION.to_owned(),
        application: String::new(),
    };
    fleet.operator(0).await.refresh(request).await.unwrap();
}

/// All that the server holds, in every shape in which it can be had.
fn held(server: &Server) -> Vec<(&'static str, Vec<u8>)> {
    let mut heaps = Vec::new();
    for (location, value) in values(server) {
        heaps.push(("a place", format!("{location:?}").into_bytes()));
        heaps.push(("a value", value));
    }
    for name in server.names() {
        let mut connection = server.connect();
        let dump = redis::cmd("DUMP").arg(&name).to_owned();
        let dump: Option<Vec<u8>> = dump.query(&mut connection).unwrap();
        heaps.push(("a name", name));
        heaps.push(("a dump", dump.unwrap_or_default()));
    }
    assert!(!heaps.is_empty());
    heaps
}

fn look(needles: &[String], heaps: &[(&str, Vec<u8>)]) {
    let size: usize = heaps.iter().map(|(_, heap)| heap.len()).sum();
    println!(
        "{} texts are looked for in {} heaps of {size} bytes",
        needles.len(),
        heaps.len()
    );
    for needle in needles {
        for spelt in spellings(needle) {
            for (what, heap) in heaps {
                assert!(!holds(heap, &spelt), "{needle} is in {what}");
            }
        }
    }
}

fn holds(heap: &[u8], needle: &[u8]) -> bool {
    heap.windows(needle.len()).any(|window| window == needle)
}

/// A text as it may be hidden: as it is, in hexadecimal digits, and in Base64 from wherever it
/// begins.
fn spellings(text: &str) -> Vec<Vec<u8>> {
    let mut hex = String::new();
    for byte in text.bytes() {
        write!(hex, "{byte:02x}").unwrap();
    }
    let mut spellings = vec![
        text.as_bytes().to_vec(),
        hex.to_uppercase().into_bytes(),
        hex.into_bytes(),
    ];
    for before in 0..3 {
        // Groups of three bytes that are the text's alone.
        let text = &text.as_bytes()[before..];
        let whole = &text[..text.len() / 3 * 3];
        spellings.push(BASE64_STANDARD.encode(whole).into_bytes());
        spellings.push(BASE64_URL_SAFE.encode(whole).into_bytes());
    }
    spellings
}

/// The commands in what a client sent (<https://redis.io/docs/latest/develop/reference/protocol-spec/>).
fn commands(mut sent: &[u8]) -> Vec<Vec<Vec<u8>>> {
    let mut commands = Vec::new();
    while let Some(parts) = number(&mut sent, b'*') {
        let mut command = Vec::new();
        for _ in 0..parts {
            let length = number(&mut sent, b'$').unwrap();
            let Some((part, rest)) = sent.split_at_checked(length + 2) else {
                return commands;
            };
            command.push(part[..length].to_vec());
            sent = rest;
        }
        commands.push(command);
    }
    assert!(sent.is_empty(), "not a command: {sent:?}");
    commands
}

fn number(text: &mut &[u8], mark: u8) -> Option<usize> {
    let end = text.windows(2).position(|two| two == b"\r\n")?;
    let (line, rest) = text.split_at(end);
    let digits = line.strip_prefix(&[mark])?;
    *text = &rest[2..];
    std::str::from_utf8(digits).unwrap().parse().ok()
}
