use std::collections::HashMap;

use envoy_types::pb::envoy::{
    config::core::v3::header_value_option::HeaderAppendAction,
    service::auth::v3::{
        AttributeContext, CheckRequest, CheckResponse, OkHttpResponse,
        attribute_context::{HttpRequest, Peer, Request as Requested},
        authorization_client::AuthorizationClient,
        check_response::HttpResponse,
    },
};
use token_broker::upstream::standin::Behaviour;
use tonic::transport::Channel;

use crate::trial::{CART, STRANGER, Setup, Site, Trial, ask, reason};

/// A proxy whose word about its callers is taken.
pub(crate) const GATEWAY: &str = "spiffe://corp.example/ns/mesh/sa/gateway";

/// A question about a request that the route of the proxy sends to this destination.
pub(crate) fn routed(destination: &str, principal: &str) -> CheckRequest {
    let id = ("destination_id".to_owned(), destination.to_owned());
    question(HashMap::from([id]), "ignored.example", "/", principal)
}

/// A question about a request to this host and path.
fn addressed(host: &str, path: &str) -> CheckRequest {
    question(HashMap::new(), host, path, "")
}

fn question(
    context_extensions: HashMap<String, String>,
    host: &str,
    path: &str,
    principal: &str,
) -> CheckRequest {
    let http = HttpRequest {
        method: "GET".to_owned(),
        host: host.to_owned(),
        path: path.to_owned(),
        headers: HashMap::from([("authorization".to_owned(), "Bearer forged".to_owned())]),
        ..HttpRequest::default()
    };
    CheckRequest {
        attributes: Some(AttributeContext {
            source: Some(Peer {
                principal: principal.to_owned(),
                ..Peer::default()
            }),
            request: Some(Requested {
                http: Some(http),
                ..Requested::default()
            }),
            context_extensions,
            ..AttributeContext::default()
        }),
    }
}

/// What the proxy does with the request.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It goes on, with this header instead of any other.
    Authorized(String),
    /// It goes on as it is.
    Unchanged,
    /// It is answered with this status, reason and whether to come back.
    Denied(i32, String, bool),
}

fn verdict(response: CheckResponse) -> Verdict {
    let code = response.status.unwrap().code;
    match response.http_response.unwrap() {
        HttpResponse::OkResponse(OkHttpResponse { headers, .. }) => {
            assert_eq!(code, 0);
            let [set] = headers.as_slice() else {
                assert!(headers.is_empty());
                return Verdict::Unchanged;
            };
            assert_eq!(
                set.append_action(),
                HeaderAppendAction::OverwriteIfExistsOrAdd
            );
            let header = set.header.clone().unwrap();
            assert_eq!(header.key, "authorization");
            Verdict::Authorized(header.value)
        }
        HttpResponse::DeniedResponse(denied) => {
            assert_ne!(code, 0);
            let headers = denied.headers.into_iter().map(|set| set.header.unwrap());
            let headers: HashMap<_, _> = headers.map(|set| (set.key, set.value)).collect();
            Verdict::Denied(
                denied.status.unwrap().code,
                headers["x-token-broker-reason"].clone(),
                headers.contains_key("retry-after"),
            )
        }
        HttpResponse::ErrorResponse(error) => panic!("{error:?}"),
    }
}

pub(crate) fn denied(status: i32, reason: &str) -> Verdict {
    Verdict::Denied(status, reason.to_owned(), false)
}

pub(crate) async fn proxy(trial: &Trial, caller: &str) -> AuthorizationClient<Channel> {
    let signed = trial.authority.client(caller).unwrap();
    AuthorizationClient::new(trial.connect(&signed).await.unwrap())
}

pub(crate) async fn check(
    client: &mut AuthorizationClient<Channel>,
    question: CheckRequest,
) -> Verdict {
    verdict(client.check(question).await.unwrap().into_inner())
}

async fn bearer(trial: &Trial, destination: &str) -> Verdict {
    let token = ask(&mut trial.client(CART).await, destination)
        .await
        .unwrap();
    Verdict::Authorized(format!("Bearer {}", token.access_token))
}

/// A broker with a changed configuration.
pub(crate) async fn with(setup: Setup, change: impl FnOnce(String) -> String) -> Trial {
    let site = Site::new(setup).await;
    let config = std::fs::read_to_string(site.config()).unwrap();
    std::fs::write(site.config(), change(config)).unwrap();
    Trial::of(site).await
}

async fn mesh() -> Trial {
    let setup = Setup {
        destinations: 2,
        ..Setup::default()
    };
    with(setup, |config| {
        format!(
            r#"{config}
[[destination.route]]
host = "api.example"
path_prefix = "/tenant/"
[ext_authz]
trusted_proxies = ["{GATEWAY}"]
"#
        )
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn every_request_is_authorized_left_alone_or_denied() {
    let trial = mesh().await;
    let token = bearer(&trial, "d0").await;
    let mut cart = proxy(&trial, CART).await;
    let mut stranger = proxy(&trial, STRANGER).await;
    assert_eq!(check(&mut cart, routed("d0", "")).await, token);
    assert_eq!(check(&mut cart, routed("name-of-d0", "")).await, token);
    assert_eq!(
        check(&mut cart, routed("public", "")).await,
        Verdict::Unchanged
    );
    let forbidden = denied(403, "NOT_GRANTED");
    assert_eq!(check(&mut stranger, routed("d0", "")).await, forbidden);
    assert_eq!(check(&mut stranger, routed("public", "")).await, forbidden);
    assert_eq!(
        check(&mut cart, routed("no such/id", "")).await,
        denied(400, "INVALID_DESTINATION_ID")
    );
    assert_eq!(check(&mut cart, CheckRequest::default()).await, forbidden);

    trial.upstream.behave(Behaviour::status(503));
    assert_eq!(
        check(&mut cart, routed("d1", "")).await,
        Verdict::Denied(503, "UPSTREAM_UNAVAILABLE".to_owned(), true)
    );
    // The token that is there is still good.
    assert_eq!(check(&mut cart, routed("d0", "")).await, token);
    let (_, metrics) = trial.http("/metrics").await;
    for line in [
        r#"token_broker_calls_total{door="ext_authz",destination="d0",outcome="ok"} 3"#,
        r#"token_broker_calls_total{door="ext_authz",destination="",outcome="NOT_GRANTED"} 3"#,
        r#"token_broker_calls_total{door="ext_authz",destination="",outcome="DESTINATION_UNPROTECTED"} 1"#,
    ] {
        assert!(
            metrics.lines().any(|found| found == line),
            "{line}\n{metrics}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn forbidden_unknown_and_unrouted_are_the_same_bytes() {
    let trial = mesh().await;
    let mut stranger = proxy(&trial, STRANGER).await;
    let mut answers = Vec::new();
    for question in [
        routed("d0", ""),
        routed("nowhere", ""),
        addressed("api.example", "/tenant/x"),
        addressed("nowhere.example", "/"),
        addressed("api.example", "/tenant/../x"),
    ] {
        answers.push(stranger.check(question).await.unwrap().into_inner());
    }
    for answer in &answers[1..] {
        assert_eq!(*answer, answers[0]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_goes_where_its_host_and_path_say() {
    let trial = mesh().await;
    let token = bearer(&trial, "d1").await;
    let mut cart = proxy(&trial, CART).await;
    let nowhere = denied(403, "NOT_GRANTED");
    for (host, path, expected) in [
        ("api.example", "/tenant/orders?page=2", &token),
        ("API.example:443", "/tenant", &token),
        ("api.example", "/tenants", &nowhere),
        ("api.example", "/tenant/%2e%2e/x", &nowhere),
        ("api.example", "/tenant//x", &nowhere),
        ("other.example", "/tenant/x", &nowhere),
    ] {
        let verdict = check(&mut cart, addressed(host, path)).await;
        assert_eq!(verdict, *expected, "{host} {path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn only_a_trusted_proxy_speaks_for_its_callers() {
    let trial = mesh().await;
    let token = bearer(&trial, "d0").await;
    let mut gateway = proxy(&trial, GATEWAY).await;
    let mut stranger = proxy(&trial, STRANGER).await;
    assert_eq!(check(&mut gateway, routed("d0", CART)).await, token);
    assert_eq!(
        check(&mut gateway, routed("d0", "cart.corp.example")).await,
        token
    );
    assert_eq!(
        check(&mut gateway, routed("d0", STRANGER)).await,
        denied(403, "NOT_GRANTED")
    );
    for principal in ["", "CN=cart", "spiffe://corp.example", "*.corp.example"] {
        assert_eq!(
            check(&mut gateway, routed("d0", principal)).await,
            denied(401, "CALLER_UNIDENTIFIED"),
            "{principal}"
        );
    }
    assert_eq!(
        check(&mut stranger, routed("d0", CART)).await,
        denied(403, "NOT_GRANTED")
    );
    // Its word counts here only: for tokens it is a caller like any other.
    let asked = ask(&mut trial.client(GATEWAY).await, "d0").await;
    assert_eq!(reason(&asked.unwrap_err()), "NOT_GRANTED");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_is_no_longer_trusted_after_a_reload() {
    let trial = mesh().await;
    let mut gateway = proxy(&trial, GATEWAY).await;
    let token = bearer(&trial, "d0").await;
    assert_eq!(check(&mut gateway, routed("d0", CART)).await, token);
    let config = std::fs::read_to_string(trial.config()).unwrap();
    let config = config.replace(GATEWAY, "spiffe://corp.example/ns/mesh/sa/other");
    let config = config.replace("path_prefix = \"/tenant/\"", "path_prefix = \"/renamed\"");
    std::fs::write(trial.config(), config).unwrap();
    while check(&mut gateway, routed("d0", CART)).await != denied(403, "NOT_GRANTED") {
        tokio::task::yield_now().await;
    }
    let mut cart = proxy(&trial, CART).await;
    let moved = bearer(&trial, "d1").await;
    let renamed = addressed("api.example", "/renamed/x");
    assert_eq!(check(&mut cart, renamed).await, moved);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_guard_refuses_is_a_denial_too() {
    let trial = Trial::start(Setup {
        destinations: 1,
        server: "max_calls_per_second = 1",
        ..Setup::default()
    })
    .await;
    let mut cart = proxy(&trial, CART).await;
    assert!(matches!(
        check(&mut cart, routed("d0", "")).await,
        Verdict::Authorized(_)
    ));
    assert_eq!(
        check(&mut cart, routed("d0", "")).await,
        Verdict::Denied(429, "CALLER_RATE".to_owned(), true)
    );
    let nobody = trial.authority.client_with(Vec::new()).unwrap();
    let mut nobody = AuthorizationClient::new(trial.connect(&nobody).await.unwrap());
    assert_eq!(
        check(&mut nobody, routed("d0", "")).await,
        denied(401, "CALLER_UNIDENTIFIED")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deadline_is_a_denial_of_its_own() {
    let trial = Trial::start(Setup {
        destinations: 1,
        server: r#"request_timeout = "200ms""#,
        ..Setup::default()
    })
    .await;
    trial.upstream.behave(Behaviour {
        delay: std::time::Duration::from_secs(3),
        ..Behaviour::default()
    });
    let mut cart = proxy(&trial, CART).await;
    assert_eq!(
        check(&mut cart, routed("d0", "")).await,
        denied(504, "DEADLINE_EXCEEDED")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_with_large_headers_is_read() {
    let trial = mesh().await;
    let mut cart = proxy(&trial, CART).await;
    let mut large = addressed("api.example", "/tenant/x");
    let http = large.attributes.as_mut().unwrap().request.as_mut().unwrap();
    let headers = &mut http.http.as_mut().unwrap().headers;
    headers.insert("cookie".to_owned(), "x".repeat(60 * 1024));
    assert!(matches!(
        check(&mut cart, large).await,
        Verdict::Authorized(_)
    ));
}
