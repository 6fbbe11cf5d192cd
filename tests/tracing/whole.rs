//! Traces that begin at a client, go through the broker, and end at the upstream.

use envoy_types::pb::envoy::service::{
    auth::v3::{
        AttributeContext, CheckRequest,
        attribute_context::{HttpRequest, Request as Requested},
        authorization_client::AuthorizationClient,
    },
    discovery::v3::DiscoveryRequest,
    secret::v3::secret_discovery_service_client::SecretDiscoveryServiceClient,
};
use opentelemetry_proto::tonic::trace::v1::{Span, span::SpanKind};
use token_broker::api::{
    admin::v1::{RefreshRequest, admin_client::AdminClient},
    v1::{GetTokenRequest, ReportRejectedRequest, WatchTokenRequest},
};
use tonic::{Request, transport::Channel};

use crate::{
    exchange::{Exchange, post},
    receiver::{Receiver, failed, hex, is, named, noted, text},
    trial::{CART, STRANGER, Setup, Site, Trial},
    upstream::Upstream,
};

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const CLIENT_SPAN: &str = "b7ad6b7169203331";
const GET_TOKEN: &str = "tokenbroker.v1.TokenBroker/GetToken";

/// A broker that is traced, its upstream and its collector.
struct Bench {
    trial: Trial,
    upstream: Upstream,
    receiver: Receiver,
}

impl Bench {
    async fn new() -> Self {
        let receiver = Receiver::start().await;
        let upstream = Upstream::start().await;
        let telemetry = format!(
            "[telemetry]\notlp_endpoint = \"http://{}\"\n[admin]\nallow = [\"{CART}\"]",
            receiver.address
        );
        let site = Site::new(Setup {
            destinations: 3,
            upstream: "trace_context = true",
            audit: telemetry.leak(),
            ..Setup::default()
        })
        .await;
        upstream.mint_for(&site);
        Self {
            trial: Trial::of(site).await,
            upstream,
            receiver,
        }
    }

    async fn connect(&self) -> Channel {
        let signed = self.trial.authority.client(CART).unwrap();
        self.trial.connect(&signed).await.unwrap()
    }

    /// Stops the broker, after which every span has arrived.
    async fn stop(self) -> (Vec<Span>, Upstream, Receiver) {
        let (app, _site) = self.trial.into_parts();
        app.stop().await;
        (self.receiver.got().spans(), self.upstream, self.receiver)
    }
}

/// A request that is part of the client's trace.
fn traced<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    let parent = format!("00-{TRACE}-{CLIENT_SPAN}-01");
    let headers = request.metadata_mut();
    headers.insert("traceparent", parent.parse().unwrap());
    headers.insert("tracestate", "shop=basket".parse().unwrap());
    headers.insert("x-request-id", "from-the-basket".parse().unwrap());
    request
}

fn token(destination: &str) -> GetTokenRequest {
    GetTokenRequest {
        destination_id: destination.to_owned(),
        min_validity: None,
    }
}

fn assert_below(span: &Span, parent: &[u8]) {
    assert_eq!(hex(&span.trace_id), TRACE, "{span:#?}");
    assert_eq!(hex(&span.parent_span_id), hex(parent), "{span:#?}");
    assert_eq!(span.trace_state, "shop=basket");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trace_from_a_client_through_the_broker_to_the_upstream_arrives_whole() {
    let bench = Bench::new().await;
    let mut client = bench.trial.client(CART).await;
    let reply = client.get_token(traced(token("name-of-d0"))).await.unwrap();
    let token_id = reply.into_inner().token_id;
    let (spans, upstream, receiver) = bench.stop().await;

    let [call, flight, asked] = [GET_TOKEN, "flight", "POST"].map(|name| named(&spans, name));
    assert_eq!(spans.len(), 3);
    let mut client_span = [0; 8];
    client_span.copy_from_slice(&u64::from_str_radix(CLIENT_SPAN, 16).unwrap().to_be_bytes());
    assert_below(call, &client_span);
    assert_below(flight, &call.span_id);
    assert_below(asked, &flight.span_id);
    // The span of the upstream would be below the one of the request to it.
    let parent = format!("00-{TRACE}-{}-01", hex(&asked.span_id));
    let state = Some("shop=basket".to_owned());
    assert_eq!(upstream.said(), [(Some(parent), state)]);

    assert!(is(call, SpanKind::Server) && is(flight, SpanKind::Internal));
    assert!(is(asked, SpanKind::Client));
    let port = upstream.address.port().to_string();
    for (span, key, value) in [
        (call, "rpc.system.name", "grpc"),
        (call, "rpc.method", GET_TOKEN),
        (call, "rpc.response.status_code", "OK"),
        (call, "token_broker.door", "grpc"),
        (call, "token_broker.caller", CART),
        (call, "token_broker.destination", "d0"),
        (call, "token_broker.outcome", "ok"),
        (call, "token_broker.token_id", &token_id),
        (call, "token_broker.request_id", "from-the-basket"),
        (flight, "token_broker.destination", "d0"),
        (flight, "token_broker.application", "shop"),
        (flight, "token_broker.outcome", "ok"),
        (flight, "token_broker.token_id", &token_id),
        (asked, "http.request.method", "POST"),
        (asked, "http.response.status_code", "200"),
        (asked, "server.address", "127.0.0.1"),
        (asked, "server.port", &port),
    ] {
        assert_eq!(noted(span, key).as_deref(), Some(value), "{key}");
    }
    for span in &spans {
        assert!(span.end_time_unix_nano >= span.start_time_unix_nano);
        assert_eq!(failed(span), None);
    }

    let got = receiver.got();
    let resource = &got.requests[0].resource_spans[0].resource;
    let attributes = &resource.as_ref().unwrap().attributes;
    assert_eq!(
        text(attributes, "service.name").as_deref(),
        Some("token-broker")
    );
    assert_eq!(
        text(attributes, "service.version").as_deref(),
        Some(env!("CARGO_PKG_VERSION"))
    );
    assert!(text(attributes, "service.instance.id").is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn every_door_goes_on_with_the_trace_of_its_caller() {
    let bench = Bench::new().await;
    ask_over_grpc(&bench).await;
    ask_as_a_proxy(&bench).await;
    ask_without_grpc(&bench).await;
    let (spans, ..) = bench.stop().await;

    let servers: Vec<_> = spans
        .iter()
        .filter(|span| is(span, SpanKind::Server))
        .collect();
    for (name, count) in [
        (GET_TOKEN, 1),
        ("tokenbroker.v1.TokenBroker/WatchToken", 1),
        ("tokenbroker.v1.TokenBroker/ReportRejected", 1),
        ("tokenbroker.admin.v1.Admin/Refresh", 1),
        ("envoy.service.auth.v3.Authorization/Check", 2),
        (
            "envoy.service.secret.v3.SecretDiscoveryService/FetchSecrets",
            1,
        ),
        (
            "envoy.service.secret.v3.SecretDiscoveryService/StreamSecrets",
            1,
        ),
        ("POST /oauth2/token", 1),
        ("POST /destinations/{destination_id}/token", 1),
    ] {
        let found: Vec<_> = servers.iter().filter(|span| span.name == name).collect();
        assert_eq!(found.len(), count, "{name}");
        for span in found {
            assert_eq!(hex(&span.trace_id), TRACE, "{name}");
            assert_eq!(hex(&span.parent_span_id), CLIENT_SPAN, "{name}");
            assert_eq!(span.trace_state, "shop=basket");
            assert_eq!(noted(span, "token_broker.outcome").as_deref(), Some("ok"));
            assert_eq!(noted(span, "token_broker.caller").as_deref(), Some(CART));
            assert_eq!(failed(span), None);
        }
    }
    assert_eq!(servers.len(), 10);
    // What a report launches is nobody's to wait for.
    let flights = spans.iter().filter(|span| span.name == "flight");
    let (own, parts): (Vec<_>, Vec<_>) = flights.partition(|span| span.parent_span_id.is_empty());
    assert_eq!((own.len(), parts.len()), (1, 2));
    let report = named(&spans, "tokenbroker.v1.TokenBroker/ReportRejected");
    assert_eq!(own[0].links[0].span_id, report.span_id);
}

async fn ask_over_grpc(bench: &Bench) {
    let mut client = bench.trial.client(CART).await;
    let reply = client.get_token(traced(token("d0"))).await.unwrap();
    let token_id = reply.into_inner().token_id;
    let watch = WatchTokenRequest {
        destination_id: "d0".to_owned(),
    };
    let mut watch = client
        .watch_token(traced(watch))
        .await
        .unwrap()
        .into_inner();
    watch.message().await.unwrap().unwrap();
    drop(watch);
    let report = ReportRejectedRequest {
        destination_id: "d0".to_owned(),
        token_id,
    };
    client.report_rejected(traced(report)).await.unwrap();
    let refresh = RefreshRequest {
        destination_id: "d1".to_owned(),
        ..RefreshRequest::default()
    };
    let mut admin = AdminClient::new(bench.connect().await);
    admin.refresh(traced(refresh)).await.unwrap();
}

async fn ask_as_a_proxy(bench: &Bench) {
    // The proxy's own word, and that of its client.
    let check = |headers: &[(&str, String)]| CheckRequest {
        attributes: Some(AttributeContext {
            context_extensions: [("destination_id".to_owned(), "d0".to_owned())].into(),
            request: Some(Requested {
                http: Some(HttpRequest {
                    headers: headers
                        .iter()
                        .map(|(name, value)| ((*name).to_owned(), value.clone()))
                        .collect(),
                    ..HttpRequest::default()
                }),
                ..Requested::default()
            }),
            ..AttributeContext::default()
        }),
    };
    let parent = format!("00-{TRACE}-{CLIENT_SPAN}-01");
    let mut proxy = AuthorizationClient::new(bench.connect().await);
    proxy.check(traced(check(&[]))).await.unwrap();
    let said = [
        ("traceparent", parent),
        ("tracestate", "shop=basket".to_owned()),
    ];
    proxy.check(Request::new(check(&said))).await.unwrap();
    let subscription = DiscoveryRequest {
        resource_names: vec!["d0".to_owned()],
        type_url: "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret".to_owned(),
        ..DiscoveryRequest::default()
    };
    let mut proxy = SecretDiscoveryServiceClient::new(bench.connect().await);
    proxy
        .fetch_secrets(traced(subscription.clone()))
        .await
        .unwrap();
    let (subscriptions, requests) = tokio::sync::mpsc::channel(1);
    subscriptions.send(subscription).await.unwrap();
    let requests = tokio_stream::wrappers::ReceiverStream::new(requests);
    let secrets = proxy.stream_secrets(traced(requests)).await.unwrap();
    secrets.into_inner().message().await.unwrap().unwrap();
    drop(subscriptions);
}

async fn ask_without_grpc(bench: &Bench) {
    let header = format!(
        "content-type: application/x-www-form-urlencoded\r\ntraceparent: 00-{TRACE}-{CLIENT_SPAN}-01\r\ntracestate: shop=basket\r\n"
    );
    let form = "grant_type=client_credentials&audience=d0";
    for request in [
        post("/oauth2/token", &header, form),
        post("/destinations/d0/token", &header, "{}"),
    ] {
        let answer = Exchange::of(&bench.trial, CART).await.ask(&request).await;
        assert_eq!(answer.status, 200);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_fails_says_so_by_its_reason_code_and_names_nothing_that_was_not_granted() {
    let bench = Bench::new().await;
    let mut stranger = bench.trial.client(STRANGER).await;
    stranger.get_token(traced(token("d0"))).await.unwrap_err();
    let mut client = bench.trial.client(CART).await;
    client.get_token(traced(token("a/b"))).await.unwrap_err();
    let (spans, ..) = bench.stop().await;

    let find = |caller: &str| {
        let mut spans = spans.iter();
        spans.find(|span| noted(span, "token_broker.caller").as_deref() == Some(caller))
    };
    let refused = find(STRANGER).unwrap();
    assert_eq!(failed(refused), None, "the broker did what it should");
    assert_eq!(noted(refused, "token_broker.destination"), None);
    let code = noted(refused, "rpc.response.status_code");
    assert_eq!(code.as_deref(), Some("PERMISSION_DENIED"));
    assert_eq!(noted(refused, "error.type").as_deref(), Some("NOT_GRANTED"));
    let refused = find(CART).unwrap();
    assert_eq!(failed(refused), None);
    let reason = noted(refused, "error.type");
    assert_eq!(reason.as_deref(), Some("INVALID_DESTINATION_ID"));
    assert!(spans.iter().all(|span| hex(&span.trace_id) == TRACE));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_who_does_not_record_is_heeded_and_told_so_to_the_upstream() {
    let bench = Bench::new().await;
    let mut request = traced(token("d0"));
    let parent = format!("00-{TRACE}-{CLIENT_SPAN}-00");
    let headers = request.metadata_mut();
    headers.insert("traceparent", parent.parse().unwrap());
    bench
        .trial
        .client(CART)
        .await
        .get_token(request)
        .await
        .unwrap();
    let (spans, upstream, _receiver) = bench.stop().await;
    assert_eq!(spans, []);
    let (parent, _) = &upstream.said()[0];
    let parent = parent.as_deref().unwrap();
    assert!(parent.starts_with(&format!("00-{TRACE}-")) && parent.ends_with("-00"));
}

#[tokio::test(flavor = "multi_thread")]
async fn third_parties_are_told_of_no_trace_unless_they_are_to_be() {
    let receiver = Receiver::start().await;
    let on = format!(
        "[telemetry]\notlp_endpoint = \"http://{}\"",
        receiver.address
    );
    for (upstream_lines, telemetry) in [("", &*on), ("trace_context = true", "")] {
        let upstream = Upstream::start().await;
        let site = Site::new(Setup {
            destinations: 1,
            upstream: upstream_lines,
            audit: telemetry.to_owned().leak(),
            ..Setup::default()
        })
        .await;
        upstream.mint_for(&site);
        let trial = Trial::of(site).await;
        let mut client = trial.client(CART).await;
        client.get_token(traced(token("d0"))).await.unwrap();
        assert_eq!(upstream.said(), [(None, None)]);
        trial.into_parts().0.stop().await;
    }
    assert_eq!(receiver.got().spans().len(), 3, "of the first alone");
}
