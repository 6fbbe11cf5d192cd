//! Tokens without gRPC.

use std::{convert::Infallible, time::Duration};

use futures_util::{StreamExt as _, stream};
use http::Request;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::{
    body::{Bytes, Frame, Incoming},
    client::conn::http2,
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use oauth2::{
    ClientId, ClientSecret, HttpRequest, HttpResponse, RequestTokenError, Scope,
    TokenResponse as _, TokenUrl, basic::BasicClient,
};
use rcgen::SanType;
use reqwest::{Certificate, Identity};
use token_broker::upstream::standin::{Behaviour, Fault};

use crate::{
    disguise::{Disguise, Papers},
    exchange::{Answer, Exchange, oauth2, occtoo, post},
    trial::{CART, STRANGER, Setup, Trial, ask, client_id, client_secret, http_client},
};

const FORM: &str = "content-type: application/x-www-form-urlencoded\r\n";
const GRANT: &str = "grant_type=client_credentials";
const ISSUER: &str = "/.well-known/oauth-authorization-server";

/// A connection in HTTP/2 that takes the same requests as one in HTTP/1.1.
pub(crate) struct Http2(http2::SendRequest<Full<Bytes>>);

impl Http2 {
    pub(crate) async fn of(trial: &Trial, caller: &str) -> Self {
        let stream = Disguise::of(trial, caller).handshake().await.unwrap();
        let stream = TokioIo::new(stream);
        let (sender, connection) = http2::handshake(TokioExecutor::new(), stream)
            .await
            .unwrap();
        // It ends with the sender.
        tokio::spawn(connection);
        Self(sender)
    }

    pub(crate) async fn ask(&mut self, request: &str) -> Answer {
        let (head, body) = request.split_once("\r\n\r\n").unwrap();
        let mut lines = head.lines();
        let mut first = lines.next().unwrap().split(' ');
        let method = first.next().unwrap();
        let path = first.next().unwrap();
        let mut request = Request::builder().method(method);
        let mut host = "broker.example:7443";
        for (name, value) in lines.filter_map(|line| line.split_once(": ")) {
            if name == "host" {
                host = value;
            } else {
                request = request.header(name, value);
            }
        }
        let request = request
            .uri(format!("https://{host}{path}"))
            .body(Full::from(body.to_owned()))
            .unwrap();
        self.0.ready().await.unwrap();
        heard(self.0.send_request(request).await.unwrap()).await
    }
}

async fn heard(response: http::Response<Incoming>) -> Answer {
    let headers = response.headers().iter();
    let headers = headers
        .filter(|(name, _)| *name != "date")
        .map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned()))
        .collect();
    let status = response.status().as_u16();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    Answer {
        status,
        headers,
        body: String::from_utf8(body.to_vec()).unwrap(),
    }
}

/// The token of a successful answer, of which every byte is as it must be.
pub(crate) fn token(trial: &Trial, answer: &Answer) -> String {
    assert_eq!(answer.status, 200, "{}", answer.reason());
    let (token, left, expected) = if answer.body.contains("access_token") {
        let token = answer.says("access_token").as_str().unwrap().to_owned();
        let left = answer.says("expires_in").as_u64().unwrap();
        let body =
            format!(r#"{{"access_token":"{token}","token_type":"Bearer","expires_in":{left}}}"#);
        (token, left, body)
    } else {
        let token = answer.says("accessToken").as_str().unwrap().to_owned();
        let left = answer.says("expiresIn").as_u64().unwrap();
        let body = format!(r#"{{"accessToken":"{token}","expiresIn":{left}}}"#);
        (token, left, body)
    };
    assert!(answer.body == expected, "not the bytes of the protocol");
    assert!((3000..=3600).contains(&left), "{left}");
    assert!(trial.upstream.minted_for(&token).is_some());
    let mut headers = answer.headers.clone();
    headers.sort();
    let length = expected.len().to_string();
    let expected = [
        ("cache-control", "no-store"),
        ("content-length", &length),
        ("content-type", "application/json"),
        ("pragma", "no-cache"),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()));
    assert_eq!(headers, expected);
    token
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_the_same_at_every_door_and_in_both_versions_of_http() {
    let trial = Trial::with(1).await;
    let grpc = ask(&mut trial.client(CART).await, "d0").await.unwrap();
    let mut http1 = Exchange::of(&trial, CART).await;
    let mut http2 = Http2::of(&trial, CART).await;
    let in_query = post("/oauth2/token?audience=d0", FORM, GRANT);
    let resource = format!("{GRANT}&resource=urn%3Atokenbroker%3Aname-of-d0");
    let chunked = format!(
        "POST /oauth2/token HTTP/1.1\r\nhost: b\r\n{FORM}transfer-encoding: chunked\r\n\r\n\
         1d\r\n{GRANT}\r\nc\r\n&audience=d0\r\n0\r\n\r\n"
    );
    for request in [
        oauth2("d0"),
        oauth2("name-of-d0"),
        in_query,
        post("/oauth2/token", FORM, &resource),
        post(
            "/oauth2/token",
            "content-type: APPLICATION/x-www-form-urlencoded; charset=UTF-8\r\n",
            &format!("{GRANT}&audience=d0"),
        ),
        occtoo("d0"),
        occtoo("name-of-d0"),
        post("/destinations/d0/token", "", ""),
        post(
            "/destinations/d0/token",
            "content-type: text/plain\r\n",
            "{no json",
        ),
    ] {
        for answer in [http1.ask(&request).await, http2.ask(&request).await] {
            assert!(token(&trial, &answer) == grpc.access_token, "{request}");
        }
    }
    let answer = http1.ask(&chunked).await;
    assert!(token(&trial, &answer) == grpc.access_token);
    assert_eq!(trial.upstream.calls(), 1);
    let (_, metrics) = trial.http("/metrics").await;
    for (door, calls) in [("oauth2", 11), ("occtoo", 8), ("grpc", 1)] {
        let series = format!(
            r#"token_broker_calls_total{{door="{door}",destination="d0",outcome="ok"}} {calls}"#
        );
        assert!(metrics.contains(&series), "{series} is not in {metrics}");
    }
}

#[tokio::test(flavor = "multi_thread")]
#[expect(clippy::too_many_lines, reason = "a table")]
async fn every_refusal_has_its_status_error_and_reason() {
    let trial = Trial::with(5).await;
    let misbehave = |destination: &str, fault| {
        let behaviour = Some(Behaviour::fault(fault));
        trial.upstream.behave_for(destination, behaviour);
    };
    let status = |status, retry_after: Option<&str>| Fault::Status {
        status,
        retry_after: retry_after.map(str::to_owned),
    };
    misbehave("d0", status(401, None));
    misbehave("d1", status(503, None));
    misbehave("d2", Fault::Body("<html>".to_owned()));
    misbehave("d3", status(429, Some("30")));
    let form = |body: &str| post("/oauth2/token", FORM, body);
    let json = "content-type: application/json\r\n";
    let long = "a".repeat(9_000);
    let mut http1 = Exchange::of(&trial, CART).await;
    let mut http2 = Http2::of(&trial, CART).await;
    // What answers, and the earliest and latest seconds to come back after.
    for (request, code, error, reason, retry_after) in [
        (form(""), 400, "invalid_request", "INVALID_REQUEST", None),
        (
            form("audience=d4"),
            400,
            "invalid_request",
            "INVALID_REQUEST",
            None,
        ),
        (form(GRANT), 400, "invalid_request", "INVALID_REQUEST", None),
        (
            form("grant_type=password&audience=d4"),
            400,
            "unsupported_grant_type",
            "INVALID_REQUEST",
            None,
        ),
        (
            form(&format!("{GRANT}&{GRANT}&audience=d4")),
            400,
            "invalid_request",
            "INVALID_REQUEST",
            None,
        ),
        (
            form(&format!("{GRANT}&scope=a&scope=b&audience=d4")),
            400,
            "invalid_request",
            "INVALID_REQUEST",
            None,
        ),
        (
            form(&format!("{GRANT}&audience=d4&resource=d3")),
            400,
            "invalid_target",
            "INVALID_REQUEST",
            None,
        ),
        (
            form(&format!("{GRANT}&audience=d4&audience=d4")),
            400,
            "invalid_target",
            "INVALID_REQUEST",
            None,
        ),
        (
            form(&format!("{GRANT}&audience=d4&scope=%")),
            400,
            "invalid_request",
            "INVALID_REQUEST",
            None,
        ),
        (
            form(&format!("{GRANT}&audience=d4&scope=%ff")),
            400,
            "invalid_request",
            "INVALID_REQUEST",
            None,
        ),
        (form(&long), 413, "invalid_request", "INVALID_REQUEST", None),
        (
            post("/oauth2/token", json, "{}"),
            400,
            "invalid_request",
            "INVALID_REQUEST",
            None,
        ),
        (
            post("/oauth2/token", "", GRANT),
            400,
            "invalid_request",
            "INVALID_REQUEST",
            None,
        ),
        (
            oauth2("a%2Fb"),
            400,
            "invalid_target",
            "INVALID_DESTINATION_ID",
            None,
        ),
        (
            oauth2("nothing"),
            400,
            "invalid_target",
            "NOT_GRANTED",
            None,
        ),
        (
            oauth2("public"),
            400,
            "invalid_target",
            "DESTINATION_UNPROTECTED",
            None,
        ),
        (
            oauth2("d0"),
            503,
            "server_error",
            "CREDENTIAL_REJECTED",
            None,
        ),
        (
            oauth2("d1"),
            503,
            "temporarily_unavailable",
            "UPSTREAM_UNAVAILABLE",
            Some(1..=2),
        ),
        (
            oauth2("d2"),
            503,
            "temporarily_unavailable",
            "UPSTREAM_MALFORMED",
            Some(1..=2),
        ),
        (
            oauth2("d3"),
            503,
            "temporarily_unavailable",
            "UPSTREAM_THROTTLED",
            Some(28..=34),
        ),
        (occtoo("a%2Fb"), 400, "", "INVALID_DESTINATION_ID", None),
        (occtoo(""), 400, "", "INVALID_DESTINATION_ID", None),
        (occtoo("%ff"), 400, "", "INVALID_DESTINATION_ID", None),
        (occtoo("nothing"), 403, "", "NOT_GRANTED", None),
        (occtoo("public"), 400, "", "DESTINATION_UNPROTECTED", None),
        (occtoo("d0"), 503, "", "CREDENTIAL_REJECTED", None),
        (occtoo("d3"), 503, "", "UPSTREAM_THROTTLED", Some(28..=34)),
        (
            post("/destinations/d4/token", json, &long),
            413,
            "",
            "INVALID_REQUEST",
            None,
        ),
    ] {
        for answer in [http1.ask(&request).await, http2.ask(&request).await] {
            assert_eq!(
                (answer.status, answer.reason()),
                (code, reason),
                "{request}"
            );
            if error.is_empty() {
                assert_eq!(answer.says("reason"), reason, "{request}");
                assert!(answer.says("message").is_string());
            } else {
                assert_eq!(answer.says("error"), error, "{request}");
                assert!(answer.says("error_description").is_string());
            }
            assert_eq!(answer.header("cache-control"), Some("no-store"));
            assert_eq!(answer.header("pragma"), Some("no-cache"));
            assert_eq!(answer.header("content-type"), Some("application/json"));
            let delay = answer
                .header("retry-after")
                .map(|delay| delay.parse().unwrap());
            match (delay, &retry_after) {
                (None, None) => {}
                (Some(delay), Some(range)) => assert!(range.contains(&delay), "{delay}: {request}"),
                (found, _) => panic!("{found:?} for {request}"),
            }
        }
    }
    assert_eq!(trial.upstream.calls_for("d4"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_exact_bytes_of_a_refusal() {
    let trial = Trial::with(1).await;
    let mut caller = Exchange::of(&trial, CART).await;
    let head = |status: u16, length: usize, reason: &str| {
        let headers = [
            ("content-type", "application/json"),
            ("cache-control", "no-store"),
            ("pragma", "no-cache"),
            ("x-token-broker-reason", reason),
            ("content-length", &length.to_string()),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()));
        (status, headers.to_vec())
    };
    let sentence = "this caller has no grant for this destination, or there is no such destination: check the id, or ask the broker's operator for a grant";
    for (request, status, body) in [
        (
            oauth2("nothing"),
            400,
            format!(r#"{{"error":"invalid_target","error_description":"{sentence}"}}"#),
        ),
        (
            occtoo("nothing"),
            403,
            format!(r#"{{"reason":"NOT_GRANTED","message":"{sentence}"}}"#),
        ),
    ] {
        let answer = caller.ask(&request).await;
        assert_eq!(answer.body, body);
        let expected = head(status, body.len(), "NOT_GRANTED");
        assert_eq!((answer.status, answer.headers), expected);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn unknown_and_forbidden_destinations_give_the_same_bytes_without_grpc() {
    let trial = Trial::with(1).await;
    let mut stranger = Exchange::of(&trial, STRANGER).await;
    for door in [oauth2, occtoo] {
        let forbidden = stranger.ask(&door("d0")).await;
        assert_eq!(forbidden.reason(), "NOT_GRANTED");
        for destination in ["nothing", "name-of-d0", "public"] {
            assert_eq!(
                stranger.ask(&door(destination)).await,
                forbidden,
                "{destination}"
            );
        }
    }
    assert_eq!(trial.upstream.calls(), 0);
    let (_, metrics) = trial.http("/metrics").await;
    for door in ["oauth2", "occtoo"] {
        let denied = format!(
            r#"token_broker_calls_total{{door="{door}",destination="",outcome="NOT_GRANTED"}} 4"#
        );
        assert!(metrics.contains(&denied), "{metrics}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_client_says_of_itself_changes_nothing() {
    let trial = Trial::with(1).await;
    let (id, secret) = (client_id("d0"), client_secret("d0"));
    let spoofed = format!(
        "authorization: Basic Y2FydDpjYXJ0\r\nx-forwarded-client-cert: URI={CART}\r\n\
         x-spiffe-id: {CART}\r\nforwarded: for={CART}\r\nx-client-identity: {CART}\r\n"
    );
    let body = format!("{GRANT}&audience=d0&client_id={id}&client_secret={secret}&scope=all");
    let in_form = post("/oauth2/token", &format!("{FORM}{spoofed}"), &body);
    let body = format!(r#"{{"clientId":"{id}","clientSecret":"{secret}"}}"#);
    let in_json = post("/destinations/d0/token", &spoofed, &body);
    for request in [in_form, in_json] {
        let refused = Exchange::of(&trial, STRANGER).await.ask(&request).await;
        assert_eq!(refused.reason(), "NOT_GRANTED");
        let granted = Exchange::of(&trial, CART).await.ask(&request).await;
        token(&trial, &granted);
    }
    let names = vec![
        SanType::URI(CART.try_into().unwrap()),
        SanType::URI(STRANGER.try_into().unwrap()),
    ];
    let papers = Papers::from(&trial.authority.client_with(names).unwrap());
    let mut nobody = Exchange::with(Disguise::with(&trial, Some(&papers))).await;
    let metadata = format!("GET {ISSUER} HTTP/1.1\r\nhost: b\r\n\r\n");
    for request in [oauth2("d0"), occtoo("d0"), metadata] {
        let refused = nobody.ask(&request).await;
        assert_eq!(
            (refused.status, refused.reason()),
            (401, "CALLER_UNIDENTIFIED")
        );
        assert_eq!(
            refused.header("www-authenticate"),
            Some("ClientCertificate")
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_that_is_too_fast_or_too_late_is_told_so() {
    let trial = Trial::start(Setup {
        destinations: 2,
        server: "max_calls_per_second = 1\nrequest_timeout = \"300ms\"",
        ..Setup::default()
    })
    .await;
    trial
        .upstream
        .behave_for("d1", Some(Behaviour::fault(Fault::Silent)));
    let mut caller = Exchange::of(&trial, CART).await;
    let mut refused = Vec::new();
    for _ in 0..20 {
        for request in [oauth2("d0"), occtoo("d0")] {
            let answer = caller.ask(&request).await;
            if answer.status != 200 {
                refused.push(answer);
            }
        }
    }
    assert!(refused.len() > 20, "only {} of 40 refused", refused.len());
    for answer in refused {
        assert_eq!((answer.status, answer.reason()), (429, "CALLER_RATE"));
        assert_eq!(answer.header("retry-after"), Some("1"));
    }
    let stranger = Exchange::of(&trial, STRANGER)
        .await
        .ask(&oauth2("d0"))
        .await;
    assert_eq!(
        stranger.reason(),
        "NOT_GRANTED",
        "another caller is answered"
    );

    let search = "spiffe://corp.example/ns/shop/sa/search";
    let late = Exchange::of(&trial, search).await.ask(&oauth2("d1")).await;
    assert_eq!((late.status, late.reason()), (504, "DEADLINE_EXCEEDED"));
    let other = "spiffe://corp.example/ns/shop/sa/other";
    let late = Exchange::of(&trial, other).await.ask(&occtoo("d1")).await;
    assert_eq!((late.status, late.reason()), (504, "DEADLINE_EXCEEDED"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_without_an_end_is_given_up_in_http2_too() {
    let trial = Trial::start(Setup {
        destinations: 1,
        server: "request_timeout = \"300ms\"",
        ..Setup::default()
    })
    .await;
    let stream = Disguise::of(&trial, CART).handshake().await.unwrap();
    let (mut sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
        .await
        .unwrap();
    tokio::spawn(connection);
    for path in ["/oauth2/token", "/destinations/d0/token"] {
        let begun = Ok::<_, Infallible>(Frame::data(Bytes::from_static(b"grant_type=")));
        let body = stream::iter([begun]).chain(stream::pending()).boxed();
        let request = Request::post(format!("https://broker{path}"))
            .header("content-type", "application/x-www-form-urlencoded")
            .body(StreamBody::new(body))
            .unwrap();
        let answer = heard(sender.send_request(request).await.unwrap()).await;
        assert_eq!((answer.status, answer.reason()), (408, "INVALID_REQUEST"));
    }
    assert_eq!(trial.upstream.calls(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_find_the_token_endpoint_where_they_looked_for_the_broker() {
    let trial = Trial::with(1).await;
    let mut http1 = Exchange::of(&trial, CART).await;
    let mut http2 = Http2::of(&trial, CART).await;
    for host in [
        "broker.example:7443",
        "localhost",
        "127.0.0.1:9",
        "[::1]:7443",
    ] {
        let request = format!("GET {ISSUER} HTTP/1.1\r\nhost: {host}\r\n\r\n");
        for answer in [http1.ask(&request).await, http2.ask(&request).await] {
            assert_eq!(answer.status, 200);
            assert_eq!(
                answer.body,
                format!(
                    r#"{{"issuer":"https://{host}","token_endpoint":"https://{host}/oauth2/token","grant_types_supported":["client_credentials"],"response_types_supported":[],"token_endpoint_auth_methods_supported":["tls_client_auth","none","client_secret_basic","client_secret_post"]}}"#
                )
            );
        }
    }
    for host in ["evil@broker", "broker/path", "a b", "\"", "broker:port", ""] {
        let request = format!("GET {ISSUER} HTTP/1.1\r\nhost: {host}\r\n\r\n");
        assert_eq!(http1.ask(&request).await.status, 400, "{host}");
    }
    // Where both are given, the target counts (RFC 9112 §3.2.2).
    let request = format!("GET https://broker{ISSUER} HTTP/1.1\r\nhost: other\r\n\r\n");
    assert_eq!(http1.ask(&request).await.says("issuer"), "https://broker");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_there_is_not_is_said_so_and_nobody_is_sent_elsewhere() {
    let trial = Trial::with(1).await;
    let mut caller = Exchange::of(&trial, CART).await;
    let origin = "origin: https://evil.example\r\naccess-control-request-method: POST\r\n";
    for (method, path, status, allow) in [
        ("GET", "/", 404, None),
        ("GET", "/metrics", 404, None),
        ("GET", "/healthz", 404, None),
        ("POST", "/oauth2/token/", 404, None),
        ("POST", "/oauth2//token", 404, None),
        ("POST", "/OAUTH2/TOKEN", 404, None),
        ("POST", "/oauth2/token/../token", 404, None),
        ("POST", "/destinations/d0/token/", 404, None),
        ("POST", "/destinations/d0", 404, None),
        ("POST", "/tokenbroker.v1.TokenBroker/GetToken", 404, None),
        ("GET", "/.well-known/openid-configuration", 404, None),
        ("GET", "/oauth2/token", 405, Some("POST")),
        ("HEAD", "/oauth2/token", 405, Some("POST")),
        ("OPTIONS", "/oauth2/token", 405, Some("POST")),
        ("PUT", "/destinations/d0/token", 405, Some("POST")),
        ("GET", "/destinations/d0/token", 405, Some("POST")),
        ("POST", ISSUER, 405, Some("GET,HEAD")),
        ("TRACE", ISSUER, 405, Some("GET,HEAD")),
    ] {
        let request = format!("{method} {path} HTTP/1.1\r\nhost: b\r\n{origin}\r\n");
        caller.say(request).await;
        // An answer to HEAD has the length of the body that it leaves out.
        let answer = caller.hear().await.unwrap();
        let allowed = answer.header("allow");
        assert_eq!((answer.status, allowed), (status, allow), "{method} {path}");
        assert_eq!(answer.body, "");
        assert_eq!(answer.header("location"), None);
        let is_cors = |(name, _): &(String, String)| name.starts_with("access-control");
        assert!(!answer.headers.iter().any(is_cors));
    }
    let grpc = "content-type: application/grpc\r\nte: trailers\r\n";
    for path in ["/tokenbroker.v1.TokenBroker/GetToken", "/nothing"] {
        let answer = caller.ask(&post(path, grpc, "\0\0\0\0\0")).await;
        assert_eq!(
            (answer.status, answer.body.as_str()),
            (505, "gRPC needs HTTP/2\n")
        );
    }
    let mut http2 = Http2::of(&trial, CART).await;
    let answer = http2.ask(&post("/nothing", grpc, "")).await;
    assert_eq!(
        (answer.status, answer.header("grpc-status")),
        (200, Some("12"))
    );
    let answer = http2.ask(&post("/nothing", "", "")).await;
    assert_eq!(answer.status, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stock_client_is_given_an_address_a_certificate_and_an_audience() {
    let trial = Trial::with(1).await;
    let signed = trial.authority.client(CART).unwrap();
    let pem = format!("{}{}", signed.certificate, signed.key.expose());
    let ca = Certificate::from_pem(trial.authority.certificate().as_bytes()).unwrap();
    let http = http_client()
        .identity(Identity::from_pem(pem.as_bytes()).unwrap())
        .tls_certs_only([ca])
        .build()
        .unwrap();
    let send = async |request: HttpRequest| {
        let response = http.execute(request.try_into()?).await?;
        let mut answer = HttpResponse::new(Vec::new());
        *answer.status_mut() = response.status();
        *answer.headers_mut() = response.headers().clone();
        *answer.body_mut() = response.bytes().await?.to_vec();
        Ok::<_, reqwest::Error>(answer)
    };
    let send = |request| Box::pin(send(request));
    let endpoint = format!("https://{}/oauth2/token", trial.app.address());
    let client = BasicClient::new(ClientId::new("whoever".to_owned()))
        .set_client_secret(ClientSecret::new("whatever".to_owned()))
        .set_token_uri(TokenUrl::new(endpoint).unwrap());
    let answer = client
        .exchange_client_credentials()
        .add_scope(Scope::new("anything".to_owned()))
        .add_extra_param("audience", "d0")
        .request_async(&send)
        .await
        .unwrap();
    let minted = trial.upstream.minted_for(answer.access_token().secret());
    assert!(minted.is_some(), "not the upstream's token");
    assert!(answer.expires_in().unwrap() <= Duration::from_secs(3600));
    let refused = client
        .exchange_client_credentials()
        .add_extra_param("audience", "nothing")
        .request_async(&send)
        .await
        .unwrap_err();
    let RequestTokenError::ServerResponse(refused) = refused else {
        panic!("{refused}");
    };
    assert_eq!(refused.error().as_ref(), "invalid_target");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_flight_serves_callers_of_all_doors() {
    let trial = Trial::with(1).await;
    trial
        .upstream
        .behave(Behaviour::delay(Duration::from_millis(500)));
    let mut grpc = trial.client(CART).await;
    let mut first = Exchange::of(&trial, CART).await;
    let mut second = Exchange::of(&trial, CART).await;
    let (oauth2, occtoo) = (oauth2("d0"), occtoo("d0"));
    let (reply, first, second) = tokio::join!(
        ask(&mut grpc, "d0"),
        first.ask(&oauth2),
        second.ask(&occtoo)
    );
    let reply = reply.unwrap().access_token;
    assert!(token(&trial, &first) == reply && token(&trial, &second) == reply);
    assert_eq!(trial.upstream.calls(), 1);
}
