//! What is read, and every mistake with its place and its words.

use std::{fs, time::Duration};

use tempfile::TempDir;

use super::*;
use crate::credential::Proof;

mod fuzz;

const CERTIFICATE: &str = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
const KEY: &str = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";

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
        site
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
        for (title, section) in [
            ("server", SERVER),
            ("credentials", CREDENTIALS),
            ("destination", DESTINATION),
        ] {
            if !text
                .lines()
                .any(|line| line.trim_start_matches('[').starts_with(title))
            {
                whole.push_str(section);
            }
        }
        let mistakes = self.read(&whole).err().unwrap_or_default();
        assert!(!mistakes.concat().contains("canary"), "{mistakes:?}");
        mistakes
    }

    fn destination(&self, text: &str) -> Result<Config, Vec<String>> {
        self.read(&[SERVER, CREDENTIALS, text].concat())
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
        assert_eq!(site.mistakes(&text.join("\n")), expected, "in:\n{case}");
    }
}

#[test]
fn the_example_says_the_defaults() {
    let site = Site::new();
    let config = site.read(EXAMPLE).unwrap();
    // Every key that is commented out shows its default, so writing it changes nothing.
    let written: String = EXAMPLE
        .lines()
        .map(|line| match line.strip_prefix("# ") {
            Some(key) if is_default(key) => format!("{key}\n"),
            _ => format!("{line}\n"),
        })
        .collect();
    let explicit = site.read(&written).unwrap();
    let keys = |text: &str| {
        text.lines()
            .filter(|line| !line.starts_with('#') && line.contains(" = "))
            .count()
    };
    assert_eq!(
        keys(&written) - keys(EXAMPLE),
        22,
        "every default is written"
    );
    assert_eq!(config.server, explicit.server);
    assert_eq!(config.http, explicit.http);
    assert_eq!(config.cache, explicit.cache);
    assert_eq!(config.telemetry, explicit.telemetry);
    assert_eq!(config.upstreams, explicit.upstreams);
    let grants = |config: &Config| config.destinations[1].grants.clone();
    assert_eq!(grants(&config), grants(&explicit));
}

/// Whether a comment is a key with its default, and not prose or a mere example.
fn is_default(comment: &str) -> bool {
    let Some((key, value)) = comment.split_once(" = ") else {
        return false;
    };
    key.bytes().all(|b| b.is_ascii_lowercase() || b == b'_')
        && key != "ca"
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
            cert: folder.join("tls/server.pem"),
            key: folder.join("tls/server-key.pem"),
            client_ca: folder.join("tls/client-ca.pem"),
            request_timeout: Duration::from_secs(30),
            handshake_timeout: Duration::from_secs(3),
            drain_timeout: Duration::from_secs(10),
            max_connections: 10_000,
        }
    );
    let listen = "127.0.0.1:9464".parse().unwrap();
    assert_eq!(config.http, Some(Http { listen }));
    assert_eq!(config.cache.expiry_margin, Duration::from_secs(60));
    assert_eq!(config.telemetry.log_level, tracing::Level::INFO);
    assert_eq!(config.telemetry.log_format, LogFormat::Auto);

    let [occtoo, provider] = config.upstreams.as_slice() else {
        panic!("two upstreams are written")
    };
    assert_eq!(occtoo.kind, Kind::Occtoo);
    assert_eq!(occtoo.connect_timeout, Duration::from_secs(3));
    assert_eq!(occtoo.timeout, Duration::from_secs(5));
    assert_eq!(occtoo.concurrency, 16);
    assert_eq!(occtoo.lifetimes.default, Duration::from_secs(3600));
    assert_eq!(occtoo.lifetimes.max, Duration::from_secs(86_400));
    assert!(!occtoo.plain_http && !occtoo.allow_loopback && !occtoo.allow_private);
    assert_eq!(occtoo.ca, None);
    assert_eq!(
        (provider.name.as_str(), provider.kind),
        ("identity-provider", Kind::OAuth2)
    );
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
    let Protection::Protected {
        upstream: 0,
        endpoint,
        oauth2: None,
        applications,
    } = &catalogue.protection
    else {
        panic!("{:?}", catalogue.protection)
    };
    assert_eq!(endpoint, "https://destinations.occtoo.com");
    assert_eq!(applications[0].name.as_str(), "shop");
    assert_eq!(applications[0].credential.client_id, "shop-id");
    assert_eq!(applications[1].credential.client_id, "depot-id");
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

    let Protection::Protected {
        upstream: 1,
        endpoint,
        oauth2: Some(oauth2),
        applications,
    } = &invoices.protection
    else {
        panic!("{:?}", invoices.protection)
    };
    assert_eq!(endpoint, "https://auth.example/oauth2/token");
    assert_eq!(
        oauth2.client_authentication,
        ClientAuthentication::PrivateKeyJwt
    );
    assert_eq!(
        oauth2.scope.as_deref(),
        Some("invoices.read invoices.write")
    );
    assert_eq!(oauth2.audience.as_deref(), Some("urn:invoices"));
    assert_eq!(oauth2.resource, ["https://invoices.example/api"]);
    assert_eq!(
        oauth2.parameters,
        [("tenant".to_owned(), "corp".to_owned())]
    );
    assert!(matches!(
        applications[0].credential.proof,
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
    let kinds: Vec<_> = config
        .upstreams
        .iter()
        .map(|upstream| upstream.kind)
        .collect();
    assert_eq!(kinds, [Kind::OcctooIngest, Kind::OAuth2]);
    let endpoints: Vec<_> = config
        .destinations
        .iter()
        .map(|destination| match &destination.protection {
            Protection::Protected {
                upstream, endpoint, ..
            } => (*upstream, endpoint.as_str()),
            Protection::Unprotected => panic!("all are protected"),
        })
        .collect();
    assert_eq!(
        endpoints,
        [
            (0, "https://ingest.occtoo.com/dataProviders/tokens"),
            (1, "https://auth.example/token?tenant=1"),
            (0, "https://ingest.occtoo.com/dataProviders/tokens"),
        ]
    );
    let Protection::Protected {
        oauth2: Some(oauth2),
        ..
    } = &config.destinations[1].protection
    else {
        panic!("it is an OAuth 2 destination")
    };
    let names: Vec<_> = oauth2
        .parameters
        .iter()
        .map(|(name, _)| name.as_str())
        .collect();
    assert_eq!(names, ["z", "a", "m"], "in file order");
    assert_eq!(oauth2.resource, ["https://a.example", "urn:b"]);
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
fn mistakes_of_syntax_and_type() {
    assert_mistakes(include_str!("mistaken/syntax.txt"));
}

#[test]
fn mistakes_in_the_sections_of_the_broker() {
    assert_mistakes(include_str!("mistaken/broker.txt"));
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
fn mistakes_in_applications_and_grants() {
    assert_mistakes(include_str!("mistaken/grants.txt"));
}
