//! What is read, and every mistake with its place and its words.

use std::{fs, time::Duration};

use tempfile::TempDir;

use super::*;
use crate::{
    admission::Shares,
    audit::{DEFAULT_STALL_TIMEOUT, OnFailure},
    cli::dev::Authority,
    credential::{
        CredentialRef, Offered, Proof,
        sealed::{Keys, Store},
    },
    mesh::Route,
    secret::Secret,
    shared_cache::{HostPort, Login, Ring, Servers, Settings},
    upstream::{AddressRule, ClientAuthentication, Endpoint, OAuth2Settings, Protocol},
};

mod fuzz;

const CERTIFICATE: &str = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
const KEY: &str = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";

/// Of 32 bytes each.
const SEALING_KEY: &str = "Y2FuYXJ5LW9mLXRoZS1zaGFyZWQtY2FjaGUtMDAwMDE=\n";
const NEXT_SEALING_KEY: &str = "Y2FuYXJ5LW9mLXRoZS1zaGFyZWQtY2FjaGUtMDAwMDI=\n";

const SERVER: &str = r#"
[server]
cert = "tls/server.pem"
key = "tls/server-key.pem"
client_ca = "tls/client-ca.pem"
"#;
const CREDENTIALS: &str = r#"
[credentials]
directory = "credentials"
"#;
const DESTINATION: &str = r#"
[[destination]]
id = "d"
upstream = "occtoo"
[[destination.application]]
name = "shop"
credential = "file:shop"
[[destination.grant]]
callers = ["spiffe://td/a"]
"#;

/// A folder with everything that the configurations here name.
struct Site(TempDir);

impl Site {
    fn new() -> Self {
        let site = Self(TempDir::new().unwrap());
        for (file, content) in [
            ("tls/server.pem", CERTIFICATE),
            ("tls/server-key.pem", KEY),
            ("tls/client-ca.pem", CERTIFICATE),
            ("credentials/shop/client_id", "shop-id\n"),
            ("credentials/shop/client_secret", "shop-secret\n"),
            ("credentials/depot/client_id", "depot-id"),
            ("credentials/depot/client_secret", "depot-secret"),
            ("credentials/accounting/client_id", "accounting-id"),
            ("credentials/accounting/private_key", KEY),
            ("credentials/accounting/key_id", "k1"),
            ("credentials/hollow/client_id", ""),
            ("credentials/hollow/client_secret", "canary"),
        ] {
            let path = site.0.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
        site.seal();
        site.share();
        site
    }

    /// Writes what a `[shared_cache]` names, right and wrong.
    fn share(&self) {
        let authority = Authority::new().unwrap();
        let [own, other] = ["own", "other"].map(|name| {
            let id = format!("spiffe://td/{name}");
            authority.client(&id).unwrap()
        });
        for (file, content) in [
            ("shared.key", SEALING_KEY.as_bytes()),
            ("shared-cache.key", SEALING_KEY.as_bytes()),
            (
                "shared-spaced.key",
                format!(" {SEALING_KEY}\r\n").as_bytes(),
            ),
            ("next.key", NEXT_SEALING_KEY.as_bytes()),
            ("redis.password", b"canary-password\n"),
            ("sentinel.password", b"canary of sentinels"),
            ("tls/redis-ca.pem", authority.certificate().as_bytes()),
            ("tls/redis.pem", own.certificate.as_bytes()),
            ("tls/redis-key.pem", own.key.expose().as_bytes()),
            ("tls/redis-other-key.pem", other.key.expose().as_bytes()),
            ("wrong/empty", b"\n"),
            ("wrong/lines", b"canary\ncanary\n"),
            ("wrong/bytes", b"canary\xff"),
            ("wrong/short", b"Y2FuYXJ5"),
            ("wrong/zeros", format!("{}=", "A".repeat(43)).as_bytes()),
            (
                "wrong/twice",
                format!("{SEALING_KEY}{NEXT_SEALING_KEY}").as_bytes(),
            ),
            ("wrong/large", &[b'x'; 4097]),
        ] {
            let path = self.0.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
    }

    /// Writes the key `broker.key`, and the store `credentials.age` with two credentials.
    fn seal(&self) {
        let path = |name: &str| self.0.path().join(name);
        for name in ["broker.key", "other.key"] {
            let key = Keys::draw(jiff::Timestamp::now());
            fs::write(path(name), key.file.expose()).unwrap();
        }
        let keys = Keys::read(&path("broker.key")).unwrap();
        let store = Store::new(path("credentials.age"), keys, false);
        store.create().unwrap();
        for (name, proof) in [("depot", "depot-secret"), ("signer", KEY)] {
            let offered = Offered {
                client_id: format!("{name}-id"),
                proof: proof.as_bytes().to_vec().into(),
                place: name.to_owned(),
                is_key: proof == KEY,
                key_id: None,
            };
            let reference = CredentialRef::Sealed(name.to_owned());
            let credential = offered.assemble(reference).unwrap();
            store
                .change(|contents| contents.set(name, &credential, jiff::Timestamp::now()))
                .unwrap();
        }
    }

    fn read(&self, text: &str) -> Result<Config, Vec<String>> {
        let folder = Folder::of(&self.0.path().join("broker.toml"));
        let environment = Environment::new(|name| match name {
            "SHOP_CLIENT_ID" | "BARE_CLIENT_ID" => Some("shop-id".into()),
            "SHOP_CLIENT_SECRET" => Some("shop-secret".into()),
            _ => None,
        });
        Config::read(text, &folder, &environment).map_err(|found| {
            let mistakes = Mistakes::new(Path::new("f"), found);
            let shown = mistakes.to_string();
            let folder = self.0.path().display().to_string();
            let lines = shown.lines().map(|line| line.replace(&folder, "DIR"));
            let lines = lines.map(|line| line.trim_start_matches("f:").to_owned());
            let mut lines: Vec<_> = lines.collect();
            lines.pop();
            lines
        })
    }

    /// The mistakes in a text, to which the sections are added that it does not hold.
    fn mistakes(&self, text: &str) -> Vec<String> {
        let mut whole = text.to_owned();
        // In which `server` is a key.
        let shares = text.contains("[shared_cache]");
        for (title, section) in [
            ("server", SERVER),
            ("credentials", CREDENTIALS),
            ("destination", DESTINATION),
        ] {
            let begins = |line: &str| line.trim_start_matches('[').starts_with(title);
            if shares || !text.lines().any(begins) {
                whole.push_str(section);
            }
        }
        let mistakes = self.read(&whole).err().unwrap_or_default();
        // The second one is how the first begins in Base64.
        for canary in ["canary", "Y2FuYXJ5"] {
            assert!(!mistakes.concat().contains(canary), "{mistakes:?}");
        }
        mistakes
    }

    fn destination(&self, text: &str) -> Result<Config, Vec<String>> {
        self.read(&[SERVER, CREDENTIALS, text].concat())
    }
}

fn url(text: &str) -> Endpoint {
    Endpoint::parse(text).unwrap()
}

#[track_caller]
fn protected(destination: &Destination) -> &Protected {
    match &destination.protection {
        Protection::Protected(protected) => protected,
        Protection::Unprotected => panic!("{} is protected", destination.id),
    }
}

#[track_caller]
fn oauth2(destination: &Destination) -> &OAuth2Settings {
    match &protected(destination).protocol {
        Protocol::OAuth2(settings) => settings,
        other => panic!("{other:?}"),
    }
}

/// Reads configurations that are separated by `---` and followed by the mistakes that are
/// expected in them, each after `=>`.
#[track_caller]
fn assert_mistakes(cases: &str) {
    let site = Site::new();
    for case in cases.split("---\n") {
        let lines = case.lines();
        let (expected, text): (Vec<_>, Vec<_>) = lines.partition(|line| line.starts_with("=> "));
        let expected: Vec<_> = expected.iter().map(|line| &line[3..]).collect();
        // A key that somebody wrote where its file belongs.
        let text = text.join("\n").replace("KEY", SEALING_KEY.trim_end());
        assert_eq!(site.mistakes(&text), expected, "in:\n{case}");
    }
}

#[test]
fn the_example_says_the_defaults() {
    let site = Site::new();
    let config = site.read(EXAMPLE).unwrap();
    assert_eq!(config.shared_cache, None);
    // Every key that is commented out shows its default, so writing it changes nothing.
    let (before, shared, after) = parts_of_example();
    let written = [with_defaults(before), with_defaults(after)].join(shared);
    let explicit = site.read(&written).unwrap();
    let keys = |text: &str| {
        text.lines()
            .filter(|line| !line.starts_with('#') && line.contains(" = "))
            .count()
    };
    assert_eq!(
        keys(&written) - keys(EXAMPLE),
        38,
        "every default is written"
    );
    assert_eq!(config.server, explicit.server);
    assert_eq!(config.http, explicit.http);
    assert_eq!(config.admin, explicit.admin);
    assert_eq!(config.cache, explicit.cache);
    assert_eq!(config.audit, explicit.audit);
    assert_eq!(config.telemetry, explicit.telemetry);
    assert_eq!(config.upstreams, explicit.upstreams);
    let grants = |config: &Config| config.destinations[1].grants.clone();
    assert_eq!(grants(&config), grants(&explicit));
}

/// The section that is commented out as a whole, and what stands before and after it.
fn parts_of_example() -> (&'static str, &'static str, &'static str) {
    let at = EXAMPLE.find("# [shared_cache]\n").unwrap();
    let (before, rest) = EXAMPLE.split_at(at);
    let (shared, after) = rest.split_at(rest.find("\n\n").unwrap());
    (before, shared, after)
}

fn without_marks(text: &str, is_key: impl Fn(&str) -> bool) -> String {
    let lines = text.lines().map(|line| match line.strip_prefix("# ") {
        Some(key) if is_key(key) => format!("{key}\n"),
        _ => format!("{line}\n"),
    });
    lines.collect()
}

fn with_defaults(text: &str) -> String {
    without_marks(text, is_default)
}

/// Whether a comment is a key with its default, and not prose or a mere example.
fn is_default(comment: &str) -> bool {
    let Some((key, value)) = comment.split_once(" = ") else {
        return false;
    };
    key.bytes().all(|b| b.is_ascii_lowercase() || b == b'_')
        && ![
            "ca",
            "crl",
            "file",
            "identity",
            "otlp_ca",
            "otlp_endpoint",
            "sealed",
            "trust_domains",
            "trusted_proxies",
            "allow",
            "state_file",
        ]
        .contains(&key)
        && !value.starts_with("\"https://...\"")
}

#[test]
fn the_example_is_read_into_the_documented_values() {
    let site = Site::new();
    let config = site.read(EXAMPLE).unwrap();
    let folder = site.0.path();
    assert_eq!(
        config.server,
        Server {
            listen: "127.0.0.1:7443".parse().unwrap(),
            tls: TlsFiles {
                cert: folder.join("tls/server.pem"),
                key: folder.join("tls/server-key.pem"),
                client_ca: folder.join("tls/client-ca.pem"),
                crl: Vec::new(),
                crl_lenient: false,
                min_version: TlsVersion::Tls13,
            },
            connections: ConnectionLimits {
                count: 10_000,
                handshake: Duration::from_secs(3),
                first_request: Duration::from_secs(10),
                idle: Duration::from_secs(3600),
                age: Duration::from_secs(7200),
                last_calls: Duration::from_secs(30),
                drain: Duration::from_secs(10),
                trust_domains: Vec::new(),
            },
            shares: Shares {
                connections_per_caller: 2000,
                calls_per_second: 10_000.try_into().unwrap(),
                calls: 20_000,
                longest_call: Duration::from_secs(30),
            },
        }
    );
    let listen = "127.0.0.1:9464".parse().unwrap();
    let http = Http {
        listen,
        status_page: true,
    };
    assert_eq!(config.http, Some(http));
    assert_eq!(config.admin, Admin::default());
    assert_eq!(config.cache.expiry_margin, Duration::from_secs(60));
    assert_eq!(config.cache.runway_warning, Duration::from_secs(600));
    assert_eq!(
        config.audit,
        AuditSettings {
            file: None,
            stdout: false,
            max_file_size: 100 * 1024 * 1024,
            stall_timeout: DEFAULT_STALL_TIMEOUT,
            on_failure: OnFailure::Refuse,
        }
    );
    assert_eq!(config.telemetry.log_level, tracing::Level::INFO);
    assert_eq!(config.telemetry.log_format, LogFormat::Auto);
    assert_eq!(config.telemetry.collector, None);
    assert_eq!(config.ext_authz.trusted_proxies, []);

    let [occtoo, provider] = config.upstreams.as_slice() else {
        panic!("two upstreams are written")
    };
    assert_eq!(occtoo.name, "occtoo");
    assert_eq!(occtoo.http.connect_timeout, Duration::from_secs(3));
    assert_eq!(occtoo.http.total_timeout, Duration::from_secs(5));
    assert_eq!(occtoo.concurrency, 16);
    assert_eq!(occtoo.lifetimes.default, Duration::from_secs(3600));
    assert_eq!(occtoo.lifetimes.max, Duration::from_secs(86_400));
    assert!(!occtoo.http.plain_http);
    assert_eq!(occtoo.http.addresses, AddressRule::default());
    assert_eq!(occtoo.http.ca_pem, None);
    assert_eq!(provider.name, "identity-provider");
}

#[test]
fn the_destinations_of_the_example_are_read() {
    let site = Site::new();
    let config = site.read(EXAMPLE).unwrap();
    let [catalogue, invoices, hours] = config.destinations.as_slice() else {
        panic!("three destinations are written")
    };
    assert_eq!(
        catalogue.id.as_str(),
        "7d3c1f0e-5b8e-4a53-9f6b-0a3c5d1e2f40"
    );
    assert_eq!(
        catalogue.name.as_ref().unwrap().as_str(),
        "product-catalogue-v2"
    );
    assert!(!catalogue.warm);
    let route = Route::to_host("global.occtoo.com").and_then(|host| host.below("/tenant"));
    assert_eq!(*catalogue.routes, [route.unwrap()]);
    let Protected {
        upstream,
        protocol,
        endpoint,
        applications,
    } = protected(catalogue);
    assert!(Arc::ptr_eq(upstream, &config.upstreams[0]));
    assert_eq!(*protocol, Protocol::Occtoo);
    assert_eq!(*endpoint, url("https://destinations.occtoo.com"));
    assert_eq!(applications[0].name.as_str(), "shop");
    assert_eq!(&**applications[0].credential.current.client_id(), "shop-id");
    assert_eq!(
        &**applications[1].credential.current.client_id(),
        "depot-id"
    );
    let grants: Vec<_> = catalogue
        .grants
        .iter()
        .map(|grant| {
            (
                grant.callers.len(),
                grant.application.as_ref().unwrap().as_str(),
            )
        })
        .collect();
    assert_eq!(grants, [(2, "shop"), (1, "depot")]);

    let Protected {
        upstream,
        endpoint,
        applications,
        ..
    } = protected(invoices);
    assert!(Arc::ptr_eq(upstream, &config.upstreams[1]));
    assert_eq!(*endpoint, url("https://auth.example/oauth2/token"));
    let oauth2 = oauth2(invoices);
    assert_eq!(
        oauth2.client_authentication,
        ClientAuthentication::PrivateKeyJwt
    );
    assert_eq!(
        oauth2.asked.scope.as_deref(),
        Some("invoices.read invoices.write")
    );
    assert_eq!(oauth2.asked.audience.as_deref(), Some("urn:invoices"));
    assert_eq!(oauth2.asked.resource, ["https://invoices.example/api"]);
    assert_eq!(
        oauth2.asked.parameters,
        [("tenant".to_owned(), "corp".to_owned())]
    );
    assert!(matches!(
        applications[0].credential.current.proof,
        Proof::PrivateKey { .. }
    ));
    // With one application a grant need not name it.
    assert_eq!(
        invoices.grants[0].application,
        Some(applications[0].name.clone())
    );

    assert!(matches!(hours.protection, Protection::Unprotected));
    assert_eq!(hours.grants[0].application, None);
}

#[test]
fn built_in_upstreams_need_no_section() {
    let site = Site::new();
    let config = site
        .destination(
            r#"
[[destination]]
id = "a"
upstream = "occtoo-ingest"
[[destination.application]]
name = "shop"
credential = "env:SHOP"
[[destination.grant]]
callers = ["spiffe://td/a"]
[[destination]]
id = "b"
upstream = "oauth2"
endpoint = "https://auth.example/token?tenant=1"
resource = ["https://a.example", "urn:b"]
parameters = { z = "1", a = "2", m = "" }
[[destination.application]]
name = "shop"
credential = "file:shop"
[[destination]]
id = "c"
upstream = "occtoo-ingest"
[[destination.application]]
name = "shop"
credential = "file:shop"
"#,
        )
        .unwrap();
    assert_eq!(config.upstreams.len(), 2);
    let ingest = "https://ingest.occtoo.com/dataProviders/tokens";
    let token = "https://auth.example/token?tenant=1";
    let read: Vec<_> = config.destinations.iter().map(protected).collect();
    for (read, upstream, name, endpoint) in [
        (read[0], 0, "occtoo-ingest", ingest),
        (read[1], 1, "oauth2/client_secret_basic", token),
        (read[2], 0, "occtoo-ingest", ingest),
    ] {
        assert!(Arc::ptr_eq(&read.upstream, &config.upstreams[upstream]));
        assert_eq!(read.protocol.name(), name);
        assert_eq!(read.endpoint, url(endpoint));
    }
    let oauth2 = oauth2(&config.destinations[1]);
    let names: Vec<_> = oauth2
        .asked
        .parameters
        .iter()
        .map(|(name, _)| name.as_str())
        .collect();
    assert_eq!(names, ["z", "a", "m"], "in file order");
    assert_eq!(oauth2.asked.resource, ["https://a.example", "urn:b"]);
}

#[test]
fn every_client_authentication_is_read_by_its_registered_name() {
    let site = Site::new();
    for known in ClientAuthentication::ALL {
        let credential = match known {
            ClientAuthentication::PrivateKeyJwt => "accounting",
            _ => "shop",
        };
        let name = known.as_str();
        let config = site.destination(&format!(
            r#"
[[destination]]
id = "a"
upstream = "oauth2"
endpoint = "https://auth.example/token"
client_authentication = "{name}"
[[destination.application]]
name = "shop"
credential = "file:{credential}"
[[destination.grant]]
callers = ["spiffe://td/a"]
"#
        ));
        let config = config.unwrap();
        assert_eq!(oauth2(&config.destinations[0]).client_authentication, known);
    }
}

#[test]
fn marks_and_line_ends_of_other_systems_change_nothing() {
    let site = Site::new();
    let text = format!("\u{feff}{}", EXAMPLE.replace('\n', "\r\n"));
    let config = site.read(decode(text.as_bytes()).unwrap()).unwrap();
    assert_eq!(config.destinations.len(), 3);
    let text = text.replace("[server]", "[sever]");
    let mistakes = site.read(decode(text.as_bytes()).unwrap()).unwrap_err();
    let line = 1 + EXAMPLE.lines().position(|line| line == "[server]").unwrap();
    assert!(mistakes.contains(&format!(
        "{line}:2: unknown key \"sever\": write \"server\""
    )));
    let found = decode(b"\xef\xbb\xbf# caf\xe9").unwrap_err();
    assert_eq!(
        found[0].to_string(),
        "1:6: not UTF-8: save the file as UTF-8 text"
    );
}

#[test]
fn http_can_be_turned_off() {
    let site = Site::new();
    let text = [
        SERVER,
        CREDENTIALS,
        DESTINATION,
        "[http]\nenabled = false\n",
    ]
    .concat();
    assert_eq!(site.read(&text).unwrap().http, None);
}

#[test]
fn the_status_page_is_on_where_nobody_else_can_reach_it() {
    let site = Site::new();
    for (lines, expected) in [
        ("", true),
        ("listen = \"127.3.2.1:9464\"", true),
        ("listen = \"[::1]:9464\"", true),
        ("listen = \"[::ffff:127.0.0.1]:9464\"", true),
        ("listen = \"[::ffff:10.0.0.1]:9464\"", false),
        ("listen = \"0.0.0.0:9464\"", false),
        ("listen = \"[::]:9464\"", false),
        ("listen = \"10.0.0.1:9464\"", false),
        ("listen = \"10.0.0.1:9464\"\nstatus_page = true", true),
        ("status_page = false", false),
    ] {
        let http = format!("[http]\n{lines}\n");
        let text = [SERVER, CREDENTIALS, DESTINATION, &http].concat();
        let http = site.read(&text).unwrap().http.unwrap();
        assert_eq!(http.status_page, expected, "{lines}");
    }
}

#[test]
fn administrators_are_patterns_and_the_state_file_is_beside_the_configuration() {
    let site = Site::new();
    let admin = "[admin]\nallow = [\"spiffe://td/ns/ops/**\", \"ops.example\"]\nstate_file = \"state.json\"\n";
    let config = site.destination(&[DESTINATION, admin].concat()).unwrap();
    let allow: Vec<_> = config.admin.allow.iter().map(ToString::to_string).collect();
    assert_eq!(allow, ["spiffe://td/ns/ops/**", "ops.example"]);
    let path = site.0.path().join("state.json");
    assert_eq!(config.admin.state_file, Some(path));
    let nobody = [DESTINATION, "[admin]\nallow = []\n"].concat();
    assert_eq!(site.destination(&nobody).unwrap().admin, Admin::default());
}

#[test]
fn mistakes_of_syntax_and_type() {
    assert_mistakes(include_str!("mistaken/syntax.txt"));
}

#[test]
fn mistakes_in_the_sections_of_the_broker() {
    assert_mistakes(include_str!("mistaken/broker.txt"));
}

#[test]
fn mistakes_in_what_replicas_share() {
    assert_mistakes(include_str!("mistaken/shared_cache.txt"));
}

#[test]
fn the_shared_cache_of_the_example_says_the_defaults() {
    let site = Site::new();
    let (before, shared, after) = parts_of_example();
    let shared = without_marks(shared, |_| true);
    let read = |shared: &str| {
        let config = site.read(&[before, after].join(shared)).unwrap();
        config.shared_cache.unwrap()
    };
    let settings = read(&shared);
    assert_eq!(
        settings,
        Settings {
            servers: Servers::One(HostPort {
                host: "redis.example".to_owned(),
                port: 6379,
            }),
            login: Login::default(),
            tls: None,
            database: 0,
            namespace: "token-broker".to_owned(),
            timeout: Duration::from_millis(50),
            ring: Arc::new(Ring::new(SEALING_KEY, None).unwrap()),
        }
    );
    let defaults = ["database", "namespace", "tls", "timeout"];
    let explicit = without_marks(&shared, |key| {
        defaults.contains(&key.split(' ').next().unwrap())
    });
    let written = |text: &str| text.lines().filter(|line| !line.starts_with('#')).count();
    assert_eq!(written(&explicit) - written(&shared), defaults.len());
    assert_eq!(read(&explicit), settings);
}

#[test]
fn no_key_of_the_shared_cache_in_the_example_is_unknown() {
    let site = Site::new();
    let (_, shared, _) = parts_of_example();
    let shared = without_marks(&without_marks(shared, |_| true), |key| key.contains(" = "));
    let mistakes = site.mistakes(&shared.replace("tls = false", "tls = true"));
    let messages: Vec<_> = mistakes
        .iter()
        .filter_map(|mistake| mistake.split_once(' '))
        .map(|(_, message)| message)
        .collect();
    assert_eq!(
        messages,
        [
            "\"cluster\" cannot stand beside \"server\": write one of them",
            "\"sentinels\" cannot stand beside \"server\": write one of them",
            "\"database\" cannot stand beside \"cluster\": a cluster has database 0 only, so remove it",
        ]
    );
}

#[test]
fn a_shared_cache_is_read_with_everything_that_it_names() {
    let site = Site::new();
    let shared = |section: &str| {
        let text = [DESTINATION, "[shared_cache]\n", section].concat();
        let settings = site.destination(&text).unwrap().shared_cache.unwrap();
        // Nothing of what was read from files is in what can be printed.
        let printed = format!("{settings:?}");
        assert!(!printed.contains("canary") && !printed.contains("Y2FuYXJ5"));
        assert!(!printed.contains("PRIVATE KEY"), "{printed}");
        settings
    };
    let at = |host: &str, port| HostPort {
        host: host.to_owned(),
        port,
    };
    let login = |username: Option<&str>, password: &str| Login {
        username: username.map(str::to_owned),
        password: Some(Arc::new(Secret::new(password.to_owned()))),
    };

    let one = shared(
        r#"
server = "[fd00::1]"
sealing_keys = ["shared-spaced.key", "next.key"]
username = "broker"
password_file = "redis.password"
database = 3
namespace = "shop.1_-"
tls = true
timeout = "5s"
"#,
    );
    assert_eq!(one.servers, Servers::One(at("fd00::1", 6379)));
    assert_eq!(one.login, login(Some("broker"), "canary-password"));
    assert_eq!((one.database, one.namespace.as_str()), (3, "shop.1_-"));
    assert_eq!(one.timeout, Duration::from_secs(5));
    let public = one.tls.unwrap();
    assert!(public.ca.is_none() && public.client.is_none());
    let ring = |current, other| Arc::new(Ring::new(current, other).unwrap());
    assert_eq!(one.ring, ring(SEALING_KEY, Some(NEXT_SEALING_KEY)));

    let cluster = shared(
        r#"
cluster = ["a.example", "10.0.0.1:7000"]
sealing_keys = ["next.key"]
password_file = "redis.password"
tls = true
ca = "tls/redis-ca.pem"
cert = "tls/redis.pem"
key = "tls/redis-key.pem"
"#,
    );
    let nodes = vec![at("a.example", 6379), at("10.0.0.1", 7000)];
    assert_eq!(cluster.servers, Servers::Cluster(nodes));
    assert_eq!(cluster.login, login(None, "canary-password"));
    assert_eq!(cluster.ring, ring(NEXT_SEALING_KEY, None));
    let tls = cluster.tls.unwrap();
    let file = |name: &str| fs::read(site.0.path().join(name)).unwrap();
    assert_eq!(tls.ca.unwrap(), file("tls/redis-ca.pem"));
    let (cert, key) = tls.client.unwrap();
    assert_eq!(cert, file("tls/redis.pem"));
    assert_eq!(key.expose().as_bytes(), file("tls/redis-key.pem"));

    let sentinel = shared(
        r#"
sentinels = ["a.example", "b.example:26380"]
master = "mymaster"
sentinel_username = "watcher"
sentinel_password_file = "sentinel.password"
sealing_keys = ["shared.key"]
"#,
    );
    let expected = Servers::Sentinel {
        sentinels: vec![at("a.example", 26_379), at("b.example", 26_380)],
        master: "mymaster".to_owned(),
        login: login(Some("watcher"), "canary of sentinels"),
    };
    assert_eq!(sentinel.servers, expected);
    assert_eq!(sentinel.login, Login::default());
    assert!(sentinel.tls.is_none());
}

#[test]
fn a_change_of_any_file_of_the_shared_cache_is_noticed() {
    let site = Site::new();
    let shared = r#"
[shared_cache]
sentinels = ["a.example"]
master = "mymaster"
sentinel_password_file = "sentinel.password"
sealing_keys = ["shared.key", "next.key"]
password_file = "redis.password"
tls = true
ca = "tls/redis-ca.pem"
cert = "tls/redis.pem"
key = "tls/redis-key.pem"
"#;
    let file = site.0.path().join("broker.toml");
    fs::write(&file, [SERVER, CREDENTIALS, DESTINATION, shared].concat()).unwrap();
    let reading = Reading::of(&file);
    let before = reading.config.unwrap().shared_cache;
    assert!(before.is_some());
    for (name, content) in [
        ("sentinel.password", "canary 1"),
        ("redis.password", "canary 2"),
        ("shared.key", "Y2FuYXJ5LW9mLXRoZS1zaGFyZWQtY2FjaGUtMDAwMDM="),
        ("next.key", "Y2FuYXJ5LW9mLXRoZS1zaGFyZWQtY2FjaGUtMDAwMDQ="),
    ] {
        let was = Reading::of(&file);
        fs::write(site.0.path().join(name), content).unwrap();
        assert_ne!(was.files.again(), was.files, "{name}");
        let is = Reading::of(&file).config.unwrap().shared_cache;
        assert_ne!(was.config.unwrap().shared_cache, is, "{name}");
    }
    assert_ne!(Reading::of(&file).config.unwrap().shared_cache, before);
    for name in ["tls/redis-ca.pem", "tls/redis.pem", "tls/redis-key.pem"] {
        let was = Reading::of(&file);
        fs::write(site.0.path().join(name), CERTIFICATE).unwrap();
        assert_ne!(was.files.again(), was.files, "{name}");
    }
}

#[test]
fn mistakes_in_what_is_recorded() {
    assert_mistakes(include_str!("mistaken/audit.txt"));
}

#[test]
fn an_audit_file_need_not_be_there_and_its_growth_is_no_change() {
    let site = Site::new();
    let text = [
        SERVER,
        CREDENTIALS,
        DESTINATION,
        "[audit]\nfile = \"audit.jsonl\"\n",
    ]
    .concat();
    let file = site.0.path().join("broker.toml");
    fs::write(&file, &text).unwrap();
    let reading = Reading::of(&file);
    let audit = reading.config.unwrap().audit;
    assert_eq!(audit.file, Some(site.0.path().join("audit.jsonl")));
    fs::write(site.0.path().join("audit.jsonl"), "a record").unwrap();
    assert_eq!(reading.files.again(), reading.files);
}

#[test]
fn mistakes_in_upstreams() {
    assert_mistakes(include_str!("mistaken/upstreams.txt"));
}

#[test]
fn mistakes_in_destinations() {
    assert_mistakes(include_str!("mistaken/destinations.txt"));
}

#[test]
fn mistakes_in_routes_and_proxies() {
    assert_mistakes(include_str!("mistaken/mesh.txt"));
}

#[test]
fn ids_and_names_are_unique() {
    assert_mistakes(include_str!("mistaken/unique.txt"));
}

#[test]
fn start_refused_without_policy() {
    assert_mistakes(include_str!("mistaken/policy.txt"));
    let site = Site::new();
    let without = [SERVER, CREDENTIALS].concat();
    assert_eq!(
        site.read(&without).unwrap_err(),
        [
            "1:1: no destination is configured: write [[destination]] with id, upstream, an application and a grant"
        ]
    );
}

#[test]
fn all_mistakes_of_a_file_are_reported_at_once() {
    assert_mistakes(include_str!("mistaken/many.txt"));
}

#[test]
fn every_kind_of_reference_can_be_in_one_configuration() {
    let site = Site::new();
    let applications = ["file:shop", "sealed:depot", "env:SHOP"].map(|reference| {
        let name = reference.replace(':', "-");
        format!("[[destination.application]]\nname = \"{name}\"\ncredential = \"{reference}\"\n")
    });
    let text = [
        SERVER,
        "[credentials]\ndirectory = \"credentials\"\nsealed = \"credentials.age\"\nidentity = \"broker.key\"\n",
        "[[destination]]\nid = \"d\"\nupstream = \"occtoo\"\n",
        &applications.concat(),
        "[[destination.grant]]\ncallers = [\"spiffe://td/a\"]\napplication = \"sealed-depot\"\n",
    ]
    .concat();
    let config = site.read(&text).unwrap();
    let names: Vec<_> = protected(&config.destinations[0])
        .applications
        .iter()
        .map(|application| {
            let current = &application.credential.current;
            (&*current.name.credential, &**current.client_id())
        })
        .collect();
    let expected = [
        ("file:shop", "shop-id"),
        ("sealed:depot", "depot-id"),
        ("env:SHOP", "shop-id"),
    ];
    assert_eq!(names, expected);
}

#[test]
fn what_destinations_have_in_common_is_in_memory_once() {
    let site = Site::new();
    // Written once more, and not only taken over from the application.
    let one = [DESTINATION, "application = \"shop\"\n"].concat();
    let text = [&*one, &one.replace("id = \"d\"", "id = \"e\"")].concat();
    let config = site.destination(&text).unwrap();
    let [callers, granted, applied] = [
        |one: &Destination| one.grants[0].callers[0].to_shared(),
        |one: &Destination| one.grants[0].application.as_ref().unwrap().to_shared(),
        |one: &Destination| protected(one).applications[0].name.to_shared(),
    ]
    .map(|text| [text(&config.destinations[0]), text(&config.destinations[1])]);
    assert!(Arc::ptr_eq(&callers[0], &callers[1]));
    for name in [&granted[1], &applied[0], &applied[1]] {
        assert!(Arc::ptr_eq(&granted[0], name));
    }
}

#[test]
fn mistakes_in_sealed_credentials() {
    assert_mistakes(include_str!("mistaken/sealed.txt"));
}

#[test]
fn mistakes_in_applications_and_grants() {
    assert_mistakes(include_str!("mistaken/grants.txt"));
}
