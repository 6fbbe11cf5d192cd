//! Requests that are short on the wire, and become long once they are decoded.

use envoy_types::pb::envoy::{
    config::core::v3::{Extension, HeaderMap, HeaderValue, Node},
    service::{
        auth::v3::{
            AttributeContext, CheckRequest,
            attribute_context::{HttpRequest, Request},
            authorization_client::AuthorizationClient,
        },
        discovery::v3::DiscoveryRequest,
        secret::v3::secret_discovery_service_client::SecretDiscoveryServiceClient,
    },
};
use token_broker::upstream::standin::{Behaviour, Fault};
use tokio::task::JoinSet;

use crate::{
    broker::{Broker, machine},
    trial::{CART, Setup, Site},
};

/// So many of each wait for a token at once.
const AT_ONCE: usize = 20;
/// They may take so much more memory than there was, in bytes.
const BOUND: u64 = 64 * 1024 * 1024;

/// As long as the broker takes it: 120 kB, or some 11 MB decoded.
fn poll() -> DiscoveryRequest {
    DiscoveryRequest {
        resource_names: vec!["d0".to_owned()],
        node: Some(Node {
            extensions: vec![Extension::default(); 60_000],
            ..Node::default()
        }),
        ..DiscoveryRequest::default()
    }
}

/// The same of the other kind: 76 kB, or some 3 MB.
fn check() -> CheckRequest {
    let http = HttpRequest {
        header_map: Some(HeaderMap {
            headers: vec![HeaderValue::default(); 38_000],
        }),
        ..HttpRequest::default()
    };
    let attributes = AttributeContext {
        context_extensions: [("destination_id".to_owned(), "d0".to_owned())].into(),
        request: Some(Request {
            http: Some(http),
            ..Request::default()
        }),
        ..AttributeContext::default()
    };
    CheckRequest {
        attributes: Some(attributes),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_long_once_decoded_is_not_kept_while_it_waits_for_a_token() {
    let _machine = machine().await;
    let site = Site::new(Setup {
        destinations: 1,
        upstream: "timeout = \"10s\"",
        server: "request_timeout = \"3s\"",
        ..Setup::default()
    })
    .await;
    site.upstream.behave(Behaviour::fault(Fault::Silent));
    let broker = Broker::start(&site).await;
    let channel = site.endpoint(broker.address, CART).connect().await.unwrap();
    let before = broker.status("VmHWM");

    let mut calls = JoinSet::new();
    for _ in 0..AT_ONCE {
        let mut secrets = SecretDiscoveryServiceClient::new(channel.clone());
        calls.spawn(async move { secrets.fetch_secrets(poll()).await.is_err() });
        let mut proxy = AuthorizationClient::new(channel.clone());
        calls.spawn(async move {
            let verdict = proxy.check(check()).await.unwrap().into_inner();
            verdict.status.is_some_and(|status| status.code != 0)
        });
    }
    // None of them got a token, and all of them waited for it.
    let refused = calls.join_all().await;
    assert_eq!(refused, [true; 2 * AT_ONCE]);
    assert_eq!(site.upstream.calls(), 1);
    let more = (broker.status("VmHWM") - before) * 1024;
    println!("{} requests: {more} bytes at most", refused.len());
    assert!(more < BOUND, "{more}");
}
