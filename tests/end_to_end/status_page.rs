//! The status page, as browsers ask for it and as others should not.

use std::net::SocketAddr;

use reqwest::header::HeaderMap;
use token_broker::upstream::standin::Behaviour;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::trial::{CART, Setup, Trial, ask, http, http_client};

/// The status and the text of what is answered to this request.
async fn answer(address: SocketAddr, request: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
    (status, answer)
}

/// Has the broker listen for plain HTTP with these lines.
async fn with(lines: &str) -> Trial {
    let site = crate::trial::Site::new(Setup {
        destinations: 1,
        ..Setup::default()
    })
    .await;
    let config = std::fs::read_to_string(site.config()).unwrap();
    let changed = config.replace(
        "[http]\nlisten = \"127.0.0.1:0\"\n",
        &format!("[http]\n{lines}\n"),
    );
    assert_ne!(config, changed);
    std::fs::write(site.config(), changed).unwrap();
    Trial::of(site).await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_follows_a_destination() {
    let trial = Trial::with(1).await;
    let page = async || trial.http("/").await.1;
    assert!(page().await.contains("nobody asked yet"));
    let mut cart = trial.client(CART).await;
    ask(&mut cart, "d0").await.unwrap();
    let fresh = page().await;
    for words in [
        "name-of-d0",
        "fresh",
        "59 min",
        CART,
        "All is well",
        "file:d0",
    ] {
        assert!(fresh.contains(words), "{words} is not in {fresh}");
    }
    let trial = Trial::with(1).await;
    trial.upstream.behave(Behaviour::status(503));
    ask(&mut trial.client(CART).await, "d0").await.unwrap_err();
    let failing = trial.http("/").await.1;
    for words in [
        "UPSTREAM_UNAVAILABLE",
        "1 failing: callers get no token",
        "the token endpoint cannot be reached",
        "runway_short",
    ] {
        assert!(failing.contains(words), "{words} is not in {failing}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_browser_is_told_to_load_nothing_from_elsewhere_and_to_keep_nothing() {
    let trial = Trial::with(1).await;
    let address = trial.app.http_address().unwrap();
    let client = http_client().build().unwrap();
    for (path, kind) in [
        ("/", "text/html; charset=utf-8"),
        ("/status.css", "text/css; charset=utf-8"),
        ("/status.js", "text/javascript; charset=utf-8"),
    ] {
        let response = client.get(format!("http://{address}{path}")).send().await;
        let response = response.unwrap();
        assert_eq!(response.status(), 200);
        let headers: &HeaderMap = response.headers();
        let policy = headers["content-security-policy"].to_str().unwrap();
        assert!(policy.starts_with("default-src 'none'; "), "{policy}");
        assert!(policy.contains("frame-ancestors 'none'") && !policy.contains("unsafe"));
        for (name, value) in [
            ("content-type", kind),
            ("x-content-type-options", "nosniff"),
            ("x-frame-options", "DENY"),
            ("referrer-policy", "no-referrer"),
            ("cache-control", "no-store"),
            ("cross-origin-resource-policy", "same-origin"),
        ] {
            assert_eq!(headers[name], value, "{name} of {path}");
        }
        assert!(headers.get("access-control-allow-origin").is_none());
        let text = response.text().await.unwrap();
        for elsewhere in ["https://", "<script>", "style=", "onclick", "@import"] {
            assert!(!text.contains(elsewhere), "{elsewhere} in {path}");
        }
    }
    let (status, _) = answer(address, "POST / HTTP/1.1\r\nhost: localhost\r\n\r\n").await;
    assert_eq!(status, 405);
}

#[tokio::test(flavor = "multi_thread")]
async fn on_loopback_the_page_is_for_names_of_loopback_alone() {
    let trial = Trial::with(1).await;
    let address = trial.app.http_address().unwrap();
    for (host, status) in [
        ("host: 127.0.0.1\r\n", 200),
        ("host: localhost:9464\r\n", 200),
        ("host: attacker.example\r\n", 421),
        ("host: 127.0.0.1.attacker.example\r\n", 421),
        ("", 421),
    ] {
        for path in ["/", "/?q=x", "/status.js"] {
            let request = format!("GET {path} HTTP/1.1\r\n{host}\r\n");
            let (answered, text) = answer(address, &request).await;
            assert_eq!(answered, status, "{request}");
            assert_eq!(text.contains("name-of-d0"), status == 200 && path == "/");
            assert!(text.contains("x-content-type-options: nosniff"), "{text}");
        }
        // Probes and scrapers may use any name.
        for path in ["/healthz", "/metrics"] {
            let request = format!("GET {path} HTTP/1.1\r\n{host}\r\n");
            assert_eq!(answer(address, &request).await.0, 200, "{request}");
        }
    }
    let absolute = "GET http://attacker.example/ HTTP/1.1\r\nhost: localhost\r\n\r\n";
    assert_eq!(answer(address, absolute).await.0, 421);
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_of_others_cannot_have_the_page_drawn_but_lead_to_it() {
    let trial = Trial::with(1).await;
    let address = trial.app.http_address().unwrap();
    for (site, mode, dest, status) in [
        ("cross-site", "no-cors", "image", 403),
        ("cross-site", "cors", "empty", 403),
        ("cross-site", "navigate", "iframe", 403),
        ("cross-site", "navigate", "document", 200),
        ("same-origin", "cors", "empty", 200),
        ("same-origin", "no-cors", "script", 200),
        ("none", "navigate", "document", 200),
    ] {
        let headers = format!(
            "host: localhost\r\nsec-fetch-site: {site}\r\nsec-fetch-mode: {mode}\r\nsec-fetch-dest: {dest}\r\n"
        );
        for path in ["/?all=1", "/status.js"] {
            let request = format!("GET {path} HTTP/1.1\r\n{headers}\r\n");
            let (answered, text) = answer(address, &request).await;
            assert_eq!(answered, status, "{request}");
            assert!(text.contains("x-content-type-options: nosniff"), "{text}");
            assert!(status == 200 || !text.contains("name-of-d0"), "{text}");
        }
        for path in ["/healthz", "/metrics"] {
            let request = format!("GET {path} HTTP/1.1\r\n{headers}\r\n");
            assert_eq!(answer(address, &request).await.0, 200, "{request}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_can_be_turned_off_and_is_off_where_others_could_see_it() {
    for (lines, status) in [
        ("listen = \"127.0.0.1:0\"\nstatus_page = false", 404),
        ("listen = \"0.0.0.0:0\"", 404),
        ("listen = \"0.0.0.0:0\"\nstatus_page = true", 200),
    ] {
        let trial = with(lines).await;
        let port = trial.app.http_address().unwrap().port();
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        for path in ["/", "/status.css", "/status.js"] {
            let (answered, _) = http(address, path).await.unwrap();
            assert_eq!(answered, status, "{path} with {lines}");
        }
        assert_eq!(http(address, "/healthz").await.unwrap().0, 200);
        let pod = "GET / HTTP/1.1\r\nhost: broker.ns.svc:9464\r\n\r\n";
        assert_eq!(answer(address, pod).await.0, status, "{lines}");
    }
}
