//! What is read, and every mistake with its place and its words.

use std::{fs, time::Duration};

use proptest::prelude::*;
use tempfile::TempDir;

use super::*;
use crate::credential::Proof;

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
        self.read(&whole).err().unwrap_or_default()
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
    for case in cases.trim_start_matches('\n').split("---\n") {
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
    assert_mistakes(
        r#"
[server
listen = 1
=> 1:8: not TOML: unclosed table, expected `]`
---
[cache]
expiry_margin = 90s
=> 2:17: not TOML: texts and durations must be in quotes
---
[cache]
"ä\n" = 1
=> 2:1: unknown key "ä\n": write "expiry_margin"
---
http = { "ä" = 1, listen = 5 }
=> 1:10: unknown key "ä": write one of "enabled", "listen"
=> 1:28: "listen" must be a text, not an integer
---
[[destination]]
id = "a" # the rest is on a torn line
upstream = "occtoo
[[destination.application]]
name = "shop"
credential = "file:none"
[[destination.grant]]
callers = ["*"]
=> 3:19: not TOML: invalid basic string, expected `"`
=> 6:14: "credential" cannot be loaded: DIR/credentials/none is missing: make a folder with the files client_id and client_secret in it
=> 8:12: "callers" has "*", but "*" may only be the last path level of a SPIFFE ID: write spiffe://trust-domain/path/* for one further level, or /** for any
---
[server]
listen = 127.0.0.1:7443
=> 2:15: not TOML: invalid float: write texts in quotes
---
[http]
listen = "127.0.0.1:9464
lsten = 5
=> 2:25: not TOML: invalid basic string, expected `"`
=> 3:1: unknown key "lsten": write "listen"
---
[http]
enabled = true
enabled = false
=> 3:1: not TOML: duplicate key: write it once
---
= 1
[[[
[cache]
margin = 1
=> 1:1: not TOML: unquoted keys cannot be empty, expected letters, numbers, `-`, `_`
=> 2:3: not TOML: unquoted keys cannot be empty, expected letters, numbers, `-`, `_`
---
server = 5
=> 1:10: "server" must be written as [server]
---
[[server]]
cert = 5
=> 1:1: "server" must be written as [server]
---
[http]
listen = 9464
enabled = "no"
=> 2:10: "listen" must be a text, not an integer
=> 3:11: "enabled" must be true or false, not a text
---
[http]
listen = []
enabled = 1.5
=> 2:10: "listen" must be a text, not an array
=> 3:11: "enabled" must be true or false, not a decimal number
---
[http]
listen = {}
enabled = 2026-01-01
=> 2:10: "listen" must be a text, not a table
=> 3:11: "enabled" must be true or false, not a date or time
---
upstream = 5
destination = "x"
=> 1:12: "upstream" must be written as [[upstream]]
=> 2:15: "destination" must be written as [[destination]]
---
[[destination]]
id = true
upstream = 3
grant = 5
application = [1]
resource = 5
parameters = [1]
=> 2:6: "id" must be a text, not true or false
=> 3:12: "upstream" must be a text, not an integer
=> 4:9: "grant" must be written as [[destination.grant]]
=> 5:15: "application" must be written as [[destination.application]]
=> 6:12: "resource" must be a text, not an integer
=> 7:14: "parameters" must be a table, not an array
"#,
    );
}

#[test]
fn mistakes_in_the_sections_of_the_broker() {
    assert_mistakes(
        r#"
[server]
=> 1:1: "cert" is missing in [server]: write cert = "server.pem"
=> 1:1: "key" is missing in [server]: write key = "server-key.pem"
=> 1:1: "client_ca" is missing in [server]: write client_ca = "client-ca.pem"
---
[server]
lisen = "x"
cert = "tls/server.pem"
key = "tls/server-key.pem"
client_ca = "tls/client-ca.pem"
foo = 1
=> 2:1: unknown key "lisen": write "listen"
=> 6:1: unknown key "foo": write one of "listen", "cert", "key", "client_ca", "request_timeout", "handshake_timeout", "drain_timeout", "max_connections"
---
[server]
listen = "localhost:7443"
cert = "no.pem"
key = "tls"
client_ca = "tls/server-key.pem"
=> 2:10: "listen" must be an IP address and a port, such as "127.0.0.1:7443" or "[::]:7443"
=> 3:8: "cert" names "DIR/no.pem", which does not exist
=> 4:7: "key" names "DIR/tls", which is not a regular file
=> 5:13: "client_ca" names "DIR/tls/server-key.pem", which holds no certificates in PEM
---
[server]
cert = ""
key = "tls/server.pem"
client_ca = "tls/client-ca.pem"
=> 2:8: "cert" must be a text of one line that is not empty
=> 3:7: "key" names "DIR/tls/server.pem", which holds no private key in PEM
---
[server]
cert = "tls/server.pem"
key = "tls/server-key.pem"
client_ca = "tls/client-ca.pem"
request_timeout = "0s"
handshake_timeout = 3
drain_timeout = "10"
max_connections = 0
=> 5:19: "request_timeout" must be from 100ms to 10m
=> 6:21: "handshake_timeout" must have a unit: write "3s" for seconds
=> 7:17: "drain_timeout" cannot be "10": write a number and a unit, such as "90s", "5m" or "24h"
=> 8:19: "max_connections" must be a whole number from 1 to 1000000
---
[server]
cert = "tls/server.pem"
key = "tls/server-key.pem"
client_ca = "tls/client-ca.pem"
request_timeout = "-5s"
handshake_timeout = "5 apples"
drain_timeout = "1d"
max_connections = -1
=> 5:19: "request_timeout" cannot be "-5s": write a number and a unit, such as "90s", "5m" or "24h"
=> 6:21: "handshake_timeout" cannot be "5 apples": write a number and a unit, such as "90s", "5m" or "24h"
=> 7:17: "drain_timeout" cannot be "1d": write a number and a unit, such as "90s", "5m" or "24h"
=> 8:19: "max_connections" must be a whole number from 1 to 1000000
---
[http]
listen = "127.0.0.1:7443"
=> 2:10: "listen" is also the address of [server]: write another port
---
[http]
listen = ":9464"
enable = false
=> 2:10: "listen" must be an IP address and a port, such as "127.0.0.1:7443" or "[::]:7443"
=> 3:1: unknown key "enable": write "enabled"
---
[cache]
expiry_margin = "2h"
expiry = "1s"
=> 2:17: "expiry_margin" must be from 1s to 30m
=> 3:1: unknown key "expiry": write "expiry_margin"
---
[telemetry]
log_level = "inof"
log_format = "xml"
=> 2:13: "log_level" cannot be "inof": write "info"
=> 3:14: "log_format" cannot be "xml": write one of "auto", "pretty", "json"
---
[credentials]
directory = "nowhere"
=> 2:13: "directory" names "DIR/nowhere", which is not a folder
---
[credentials]
dir = "credentials"
=> 2:1: unknown key "dir": write "directory"
=> 13:14: "credential" needs a folder of credentials: write directory = "..." in [credentials]
---
[sever]
[cachee]
[admin]
=> 1:2: unknown key "sever": write "server"
=> 2:2: unknown key "cachee": write "cache"
=> 3:2: unknown key "admin": write one of "server", "http", "credentials", "cache", "telemetry", "upstream", "destination"
---
server = { cert = "tls/server.pem", key = "tls/server-key.pem", client_ca = "tls/client-ca.pem", lst = 5 }
http.listen = "x"
=> 1:98: unknown key "lst": write one of "listen", "cert", "key", "client_ca", "request_timeout", "handshake_timeout", "drain_timeout", "max_connections"
=> 2:15: "listen" must be an IP address and a port, such as "127.0.0.1:7443" or "[::]:7443"
---
[server]
[credentials]
[[destination]]
=> 1:1: "cert" is missing in [server]: write cert = "server.pem"
=> 1:1: "key" is missing in [server]: write key = "server-key.pem"
=> 1:1: "client_ca" is missing in [server]: write client_ca = "client-ca.pem"
=> 3:1: no destination has a grant, so nobody could have a token: write [[destination.grant]] with callers
=> 3:1: "id" is missing in [[destination]]: write id = "the id of the destination"
=> 3:1: the destination has no application: write [[destination.application]] with name and credential, or unprotected = true
=> 3:1: "upstream" is missing in [[destination]]: write upstream = "occtoo"
"#,
    );
}

#[test]
fn mistakes_in_upstreams() {
    assert_mistakes(
        r#"
[[upstream]]
=> 1:1: "name" is missing in [[upstream]]: write name = "occtoo"
---
[upstream]
name = "occtoo"
=> 1:1: "upstream" must be written as [[upstream]]
---
[[upstream]]
name = "mine"
=> 1:1: "kind" is missing in [[upstream]]: write kind = "occtoo", "occtoo-ingest" or "oauth2"
---
[[upstream]]
name = "mine"
kind = "occtoo"
---
[[upstream]]
name = "occtoo"
[[upstream]]
name = "occtoo"
=> 4:8: "name" cannot be "occtoo", which is taken on line 2: write another
---
[[upstream]]
name = "occtoo"
endpoint = "http://destinations.example"
=> 3:12: "endpoint" must begin with https://: without TLS only loopback is spoken to
---
[[upstream]]
name = "occtoo"
endpoint = "http://127.0.0.1:1"
=> 3:12: "endpoint" must begin with https://, unless its [[upstream]] has plain_http = true
---
[[upstream]]
name = "occtoo"
plain_http = true
endpoint = "http://destinations.example"
=> 4:12: "endpoint" must begin with https://: without TLS only loopback is spoken to
---
[[upstream]]
name = "occtoo"
plain_http = true
endpoint = "http://127.0.0.1:1"
=> 4:12: "endpoint" is on loopback: write allow_loopback = true in its [[upstream]]
---
[[upstream]]
name = "occtoo"
endpoint = "https://10.1.1.1"
=> 3:12: "endpoint" is at a private address: write allow_private = true in its [[upstream]]
---
[[upstream]]
name = "occtoo"
endpoint = "https://a.example/?x=1"
=> 3:12: "endpoint" must be a base URL without a query
---
[[upstream]]
name = "occtoo"
endpoint = "https://id:secret@a.example"
=> 3:12: "endpoint" must not hold a user or a password: credentials are never in this file
---
[[upstream]]
name = "occtoo"
endpoint = "nonsense"
ca = "tls/server-key.pem"
=> 3:12: "endpoint" must be a URL such as "https://auth.example/oauth2/token"
=> 4:6: "ca" names "DIR/tls/server-key.pem", which holds no certificates in PEM
---
[[upstream]]
name = "occtoo"
timeout = "1s"
connect_timeout = "2s"
concurrency = 0
max_lifetime = "5m"
default_lifetime = "6m"
=> 4:19: "connect_timeout" must not be longer than "timeout"
=> 5:15: "concurrency" must be a whole number from 1 to 1024
=> 7:20: "default_lifetime" must not be longer than "max_lifetime"
---
[[upstream]]
name = "occtoo"
timeout = "0s"
max_lifetime = "0s"
client_secret = "canary"
=> 3:11: "timeout" must be from 10ms to 5m
=> 4:16: "max_lifetime" must be from 1s to 720h
=> 5:1: unknown key "client_secret": credentials are never in this file: write credential = "file:NAME" or "env:NAME"
---
[[upstream]]
name = "occtoo"
timeout = "1s"
max_lifetime = "5m"
"#,
    );
}

#[test]
fn mistakes_in_destinations() {
    assert_mistakes(
        r#"
[[destination]]
id = "a b"
upstream = "occto"
endpoint = "https://a.example"
scope = 5
[[destination.application]]
name = "shop"
credential = "file:shop"
[[destination.grant]]
callers = ["spiffe://td/a"]
=> 2:6: "id" must be 1 to 128 characters of A-Z a-z 0-9 . _ -
=> 3:12: "upstream" names "occto", which is no [[upstream]]: write "occtoo"
=> 5:9: "scope" must be a text, not an integer
---
[[destination]]
[[destination.application]]
name = "shop"
credential = "file:shop"
[[destination.grant]]
callers = ["spiffe://td/a"]
=> 1:1: "id" is missing in [[destination]]: write id = "the id of the destination"
=> 1:1: "upstream" is missing in [[destination]]: write upstream = "occtoo"
---
[[destination]]
id = ".."
upstream = "occtoo"
[[destination.application]]
name = "shop"
credential = "file:shop"
[[destination.grant]]
callers = ["spiffe://td/a"]
=> 2:6: "id" must be the id that Occtoo Studio shows, a dashed GUID
---
[[destination]]
id = "a"
name = "a"
upstream = "occtoo"
[[destination.application]]
name = "shop"
credential = "file:shop"
[[destination.grant]]
callers = ["spiffe://td/a"]
---
[[destination]]
id = "a"
upstream = "oauth2"
[[destination.application]]
name = "shop"
credential = "file:shop"
[[destination.grant]]
callers = ["spiffe://td/a"]
=> 1:1: "endpoint" is missing in [[destination]]: write endpoint = "https://...", here or in its [[upstream]]
---
[[destination]]
id = "a"
upstream = "occtoo"
scope = "x"
endpoint = "https://a.example"
[[destination.application]]
name = "shop"
credential = "file:shop"
[[destination.grant]]
callers = ["spiffe://td/a"]
=> 4:9: "scope" is only for oauth2, not for occtoo: remove it
=> 5:12: "endpoint" is only for oauth2, not for occtoo: remove it
---
[[destination]]
id = "a"
upstream = "oauth2"
endpoint = "http://a.example"
scope = ""
resource = ["x", "https://a.example#f", 5]
[[destination.application]]
name = "shop"
credential = "file:shop"
[[destination.grant]]
callers = ["spiffe://td/a"]
=> 4:12: "endpoint" must begin with https://: without TLS only loopback is spoken to
=> 5:9: "scope" must be a text of one line that is not empty
=> 6:13: "resource" must be an absolute URI without a fragment (RFC 8707)
=> 6:18: "resource" must be an absolute URI without a fragment (RFC 8707)
=> 6:41: "resource" must be a text, not an integer
---
[[destination]]
id = "a"
upstream = "oauth2"
endpoint = "https://a.example"
client_authentication = "client_secret"
parameters = { client_id = "x", grant_type = "y", tenant = 5, "" = "z" }
[[destination.application]]
name = "shop"
credential = "file:shop"
[[destination.grant]]
callers = ["spiffe://td/a"]
=> 5:25: "client_authentication" cannot be "client_secret": write "client_secret_post"
=> 6:16: "client_id" is a parameter that the broker sends itself: remove it
=> 6:33: "grant_type" is a parameter that the broker sends itself: remove it
=> 6:60: "tenant" must be a text, not an integer
=> 6:63: "" is no name of a parameter
---
[[destination]]
id = "a"
upstream = "oauth2"
endpoint = "https://a.example"
client_authentication = "private_key_jwt"
[[destination.application]]
name = "shop"
credential = "file:shop"
[[destination.grant]]
callers = ["spiffe://td/a"]
=> 8:14: "credential" holds a client secret, but private_key_jwt needs a private key
---
[[destination]]
id = "a"
unprotected = true
warm = true
upstream = "nowhere"
audience = "x"
[[destination.application]]
name = "shop"
credential = "file:shop"
[[destination.grant]]
callers = ["spiffe://td/a"]
=> 4:8: "warm" must not be there, because the destination is unprotected and has no token
=> 5:12: "upstream" names "nowhere", which is no [[upstream]]: write one of "oauth2", "occtoo", "occtoo-ingest"
=> 6:12: "audience" must not be there, because the destination is unprotected and has no token
=> 7:1: "application" must not be there, because the destination is unprotected and has no token
---
[[destination]]
id = "a"
upstream = "occtoo"
client_secret = "canary"
wram = true
protected = true
[[destination.application]]
name = "shop"
credential = "file:shop"
[[destination.grant]]
callers = ["spiffe://td/a"]
=> 4:1: unknown key "client_secret": credentials are never in this file: write credential = "file:NAME" or "env:NAME"
=> 5:1: unknown key "wram": write "warm"
=> 6:1: unknown key "protected": write "unprotected"
"#,
    );
}

#[test]
fn ids_and_names_are_unique() {
    assert_mistakes(
        r#"
[[destination]]
id = "a"
name = "b"
unprotected = true
[[destination.grant]]
callers = ["spiffe://td/**"]
[[destination]]
id = "b"
name = "a"
unprotected = true
[[destination]]
id = "a"
name = "c"
unprotected = true
[[destination]]
id = "d"
name = "c"
unprotected = true
[[destination]]
id = "e"
name = "e"
unprotected = true
=> 8:6: "id" cannot be "b", which is taken on line 3: write another
=> 9:8: "name" cannot be "a", which is taken on line 2: write another
=> 12:6: "id" cannot be "a", which is taken on line 2: write another
=> 17:8: "name" cannot be "c", which is taken on line 13: write another
"#,
    );
}

#[test]
fn start_refused_without_policy() {
    assert_mistakes(
        r#"
[[destination]]
id = "a"
unprotected = true
[[destination]]
id = "b"
upstream = "occtoo"
[[destination.application]]
name = "shop"
credential = "file:shop"
=> 1:1: no destination has a grant, so nobody could have a token: write [[destination.grant]] with callers
---
destination = []
=> 1:1: no destination is configured: write [[destination]] with id, upstream, an application and a grant
---
[[destination]]
id = "a"
unprotected = true
grant = []
=> 1:1: no destination has a grant, so nobody could have a token: write [[destination.grant]] with callers
---
[[destination]]
id = "a"
unprotected = true
[[destination.grant]]
callers = []
=> 5:11: "callers" must not be empty: write callers = ["spiffe://trust-domain/path/*"]
---
[[destination]]
id = "a"
unprotected = true
[[destination]]
id = "b"
unprotected = true
[[destination.grant]]
callers = ["spiffe://td/**"]
"#,
    );
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
    assert_mistakes(
        r#"
# A broker with a bad day.
[server]
lisen = "127.0.0.1:7443"
cert = "tls/server.pem"
key = "tls/missing.pem"
request_timeout = 30

[htpp]
enabled = false

[credentials]
directory = "credentials"

[telemetry]
log_level = verbose
log_format = "pretyt"

[[upstream]]
name = "idp"
kind = "oauth"
endpoint = "http://idp.example/token"

[[destination]]
id = "one two"
name = "catalogue"
upstream = "octoo"
warm = "yes"

[[destination.application]]
name = "shop"
credential = "shop"
client_secret = "canary"

[[destination.grant]]
callers = ["spiffe://*/ns/shop/sa/*", "spiffe://td/ns/shop/sa/cart"]
application = "shopp"

[[destination]]
id = "catalogue"
unprotected = true
upstream = "idp"

[[destination.application]]
name = "shop"
credential = "file:shop"
=> 3:1: unknown key "lisen": write "listen"
=> 5:7: "key" names "DIR/tls/missing.pem", which does not exist
=> 6:19: "request_timeout" must have a unit: write "30s" for seconds
=> 8:2: unknown key "htpp": write "http"
=> 15:13: not TOML: texts and durations must be in quotes
=> 16:14: "log_format" cannot be "pretyt": write "pretty"
=> 20:8: "kind" cannot be "oauth": write "oauth2"
=> 21:12: "endpoint" must begin with https://: without TLS only loopback is spoken to
=> 24:6: "id" must be 1 to 128 characters of A-Z a-z 0-9 . _ -
=> 26:12: "upstream" names "octoo", which is no [[upstream]]: write "occtoo"
=> 27:8: "warm" must be true or false, not a text
=> 31:14: "credential" must be "file:NAME" with a folder name of A-Z a-z 0-9 . _ -, or "env:NAME" with the beginning of variable names of A-Z 0-9 _
=> 32:1: unknown key "client_secret": credentials are never in this file: write credential = "file:NAME" or "env:NAME"
=> 35:12: "callers" has "spiffe://*/ns/shop/sa/*", but "*" may only be the last path level of a SPIFFE ID: write spiffe://trust-domain/path/* for one further level, or /** for any
=> 36:15: "application" names "shopp", which is no application of this destination: write "shop"
=> 39:6: "id" cannot be "catalogue", which is taken on line 25: write another
=> 43:1: "application" must not be there, because the destination is unprotected and has no token
"#,
    );
}

#[test]
fn mistakes_in_applications_and_grants() {
    assert_mistakes(
        r#"
[[destination]]
id = "a"
upstream = "occtoo"
=> 1:1: no destination has a grant, so nobody could have a token: write [[destination.grant]] with callers
=> 1:1: the destination has no application: write [[destination.application]] with name and credential, or unprotected = true
---
[[destination]]
id = "a"
upstream = "occtoo"
[[destination.grant]]
callers = ["spiffe://td/a"]
=> 1:1: the destination has no application: write [[destination.application]] with name and credential, or unprotected = true
---
[[destination]]
id = "a"
upstream = "occtoo"
[[destination.application]]
[[destination.grant]]
=> 4:1: "name" is missing in [[destination.application]]: write name = "shop"
=> 4:1: "credential" is missing in [[destination.application]]: write credential = "file:shop"
=> 5:1: "callers" is missing in [[destination.grant]]: write callers = ["spiffe://trust-domain/path/*"]
---
[[destination]]
id = "a"
upstream = "occtoo"
[destination.application]
name = "x"
[destination.grant]
callers = []
=> 4:1: "application" must be written as [[destination.application]]
=> 6:1: "grant" must be written as [[destination.grant]]
---
[[destination]]
id = "a"
upstream = "occtoo"
[[destination.application]]
name = "a b"
credential = "file:../x"
[[destination.grant]]
callers = []
application = "x"
=> 5:8: "name" must be 1 to 128 characters of A-Z a-z 0-9 . _ -
=> 6:14: "credential" must be "file:NAME" with a folder name of A-Z a-z 0-9 . _ -, or "env:NAME" with the beginning of variable names of A-Z 0-9 _
=> 8:11: "callers" must not be empty: write callers = ["spiffe://trust-domain/path/*"]
---
[[destination]]
id = "a"
upstream = "occtoo"
[[destination.application]]
name = "a"
credential = "file:none"
[[destination.application]]
name = "a"
credential = "file:hollow"
[[destination.grant]]
callers = ["spiffe://td/**"]
=> 6:14: "credential" cannot be loaded: DIR/credentials/none is missing: make a folder with the files client_id and client_secret in it
=> 8:8: "name" cannot be "a", which is taken on line 5: write another
=> 9:14: "credential" cannot be loaded: DIR/credentials/hollow/client_id is empty: write the value into it
=> 10:1: "application" is missing in [[destination.grant]]: write application = "a" or another of its applications
---
[[destination]]
id = "a"
upstream = "occtoo"
[[destination.application]]
name = "a"
credential = "env:NONE"
[[destination.application]]
name = "b"
credential = "env:BARE"
[[destination.grant]]
callers = ["spiffe://td/**"]
application = "c"
=> 6:14: "credential" cannot be loaded: the variable NONE_CLIENT_ID is missing: set it to the client id
=> 9:14: "credential" cannot be loaded: the variable BARE_CLIENT_SECRET is missing: set it to the client secret, or _PRIVATE_KEY to a private key
=> 12:15: "application" names "c", which is no application of this destination: write "a"
---
[[destination]]
id = "a"
upstream = "occtoo"
[[destination.application]]
name = "shop"
credential = "file:accounting"
[[destination.grant]]
callers = ["spiffe://td/**"]
application = "shpo"
caller = 1
=> 6:14: "credential" holds a private key, but occtoo needs a client secret
=> 9:15: "application" names "shpo", which is no application of this destination: write "shop"
=> 10:1: unknown key "caller": write "callers"
---
[[destination]]
id = "a"
upstream = "occtoo"
[[destination.application]]
name = "shop"
credential = "canary"
secret = "canary"
[[destination.grant]]
callers = ["*", "spiffe://*/a", "spiffe://td/a*", "https://x", "Cart", 5]
=> 6:14: "credential" must be "file:NAME" with a folder name of A-Z a-z 0-9 . _ -, or "env:NAME" with the beginning of variable names of A-Z 0-9 _
=> 7:1: unknown key "secret": credentials are never in this file: write credential = "file:NAME" or "env:NAME"
=> 9:12: "callers" has "*", but "*" may only be the last path level of a SPIFFE ID: write spiffe://trust-domain/path/* for one further level, or /** for any
=> 9:17: "callers" has "spiffe://*/a", but "*" may only be the last path level of a SPIFFE ID: write spiffe://trust-domain/path/* for one further level, or /** for any
=> 9:33: "callers" has "spiffe://td/a*", but "*" may only be the last path level of a SPIFFE ID: write spiffe://trust-domain/path/* for one further level, or /** for any
=> 9:51: "callers" has "https://x", but the URI is not a SPIFFE ID of a workload: spiffe://trust-domain/path, lower-case trust domain, no port, query, fragment, empty or dot segment
=> 9:64: "callers" has "Cart", but the name is not a lower-case DNS host name without wildcards
=> 9:72: "callers" must be a text, not an integer
---
[[destination]]
id = "a"
upstream = "occtoo"
[[destination.application]]
name = "shop"
credential = "file:shop"
[[destination.grant]]
callers = "spiffe://td/**"
=> 8:11: "callers" must be an array, not a text
"#,
    );
}

/// What may be done to the example: a piece is cut out, put in, or replaced.
fn mutated() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        "\\PC{0,8}",
        "[\\[\\]{}=\"'#\n.,\\\\]{1,6}",
        Just("[[destination]]\n".to_owned()),
        Just("= 5\n".to_owned()),
        Just(" = [{}]\n".to_owned()),
    ];
    let edit = (any::<proptest::sample::Index>(), 0..40_usize, piece);
    proptest::collection::vec(edit, 1..6).prop_map(|edits| {
        let mut text: Vec<char> = EXAMPLE.chars().collect();
        for (at, cut, piece) in edits {
            let start = at.index(text.len());
            let end = (start + cut).min(text.len());
            text.splice(start..end, piece.chars());
        }
        text.into_iter().collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400), text in "\\PC{0,200}") {
        let folder = Folder::of(Path::new("nowhere/broker.toml"));
        let environment = Environment::new(|_| None);
        for bytes in [bytes.as_slice(), text.as_bytes()] {
            let read = decode(bytes).and_then(|text| Config::read(text, &folder, &environment));
            prop_assert!(read.is_err());
        }
    }

    #[test]
    fn random_edits_never_panic_and_every_mistake_has_its_place(text in mutated()) {
        thread_local!(static SITE: Site = Site::new());
        let folder = SITE.with(|site| Folder::of(&site.0.path().join("broker.toml")));
        let environment = Environment::new(|_| None);
        match Config::read(&text, &folder, &environment) {
            Ok(config) => {
                prop_assert!(config.destinations.iter().any(|destination| !destination.grants.is_empty()));
            }
            Err(found) => {
                prop_assert!(!found.is_empty());
                let lines = text.split('\n').count();
                for mistake in found {
                    prop_assert!(mistake.at.is_some_and(|at| at.line <= lines));
                }
            }
        }
    }
}
