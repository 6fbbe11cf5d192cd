//! What an operator's stop does to subscriptions, and what is told of how they end.

use futures_util::future::{BoxFuture, FutureExt as _};
use opentelemetry::trace::SpanKind;
use opentelemetry_sdk::trace::SpanData;
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::{
    Code,
    codec::{Codec as _, EncodeBody},
};
use tonic_prost::ProstCodec;

use super::*;
use crate::{
    admission::{Admission, Shares},
    audit::Audit,
    broker::{Catalogue, Listing},
    cache::{Cache, Edition, Registration},
    destination::TokenKey,
    metrics::Metrics,
    policy::CallerPattern,
    secret::Secret,
    shared_cache::SharedCache,
    telemetry::{Span, Traces},
    token::Minted,
    upstream::{FetchError, Rotation, TokenSource},
};

const CALLER: &str = "spiffe://corp.example/a";

/// Mints at once.
struct Endpoint;

impl TokenSource for Endpoint {
    fn mint<'a>(&'a self, _flight: &'a Span) -> BoxFuture<'a, Result<Minted, FetchError>> {
        let access_token = Secret::new("token".to_owned());
        std::future::ready(Ok(Minted {
            access_token,
            expires_in: None,
        }))
        .boxed()
    }
}

/// A service with the one destination `d`.
fn sds() -> Sds {
    sds_with(Traces::off()).0
}

/// The same, traced so, and where it counts.
fn sds_with(traces: Traces) -> (Sds, Arc<Metrics>) {
    let callers = CallerPattern::parse(CALLER).unwrap();
    let registration = Registration::sample("d", Rotation::of(Arc::new(Endpoint)));
    let mut catalogue = Catalogue::new(Edition::default(), Arc::default());
    let metrics = Arc::new(Metrics::new());
    let listing = Listing::sample(Arc::new(registration), callers, &metrics);
    catalogue.add(listing);
    let (cache, _schedule) = Cache::new(
        Arc::clone(&metrics),
        Arc::new(Audit::off()),
        SharedCache::off(),
        Traces::off(),
    );
    let sds = Sds {
        broker: Arc::new(Broker::new(catalogue, cache, Arc::new(Audit::off()))),
        calls: Calls::new(Arc::clone(&metrics), traces),
        stop: CancellationToken::new(),
    };
    (sds, metrics)
}

/// The requests of a client, which go on for as long as the sender is kept.
fn requests<T: prost::Message + Default + Send + 'static>() -> (
    mpsc::UnboundedSender<Result<T, Status>>,
    Request<Streaming<T>>,
) {
    let (sender, sent) = mpsc::unbounded_channel();
    let mut codec = ProstCodec::<T, T>::default();
    let body = EncodeBody::new_client(
        codec.encoder(),
        UnboundedReceiverStream::new(sent),
        None,
        None,
    );
    let streaming = Streaming::new_request(codec.decoder(), body, None, None);
    (sender, from_caller(streaming))
}

/// A request over a connection of the caller.
fn from_caller<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    let shares = Shares {
        connections_per_caller: 1,
        calls_per_second: std::num::NonZeroU32::MAX,
        calls: 10,
        longest_call: Duration::from_secs(30),
    };
    let caller = CallerId::parse(CALLER).unwrap();
    let connected = Admission::new(shares).connect(&caller, Instant::now());
    request
        .extensions_mut()
        .insert(Arc::new(connected.unwrap()));
    request
}

fn wanted(names: &[&str]) -> DiscoveryRequest {
    DiscoveryRequest {
        resource_names: names.iter().map(|name| (*name).to_owned()).collect(),
        ..DiscoveryRequest::default()
    }
}

/// The next call that has ended.
fn ended(kept: &mut mpsc::Receiver<SpanData>) -> SpanData {
    let mut spans = std::iter::from_fn(|| kept.try_recv().ok());
    spans
        .find(|span| span.span_kind == SpanKind::Server)
        .unwrap()
}

fn noted(span: &SpanData, key: &str) -> Option<String> {
    let mut found = span.attributes.iter().filter(|one| one.key.as_str() == key);
    let value = found.next().map(|one| one.value.as_str().into_owned());
    assert!(found.next().is_none(), "{key} is noted twice");
    value
}

fn quarantine(sds: &Sds) {
    let key = TokenKey::sample("d");
    let cache = sds.broker.cache();
    cache.quarantine(&key.destination, Some(&key.application));
}

#[tokio::test(start_paused = true)]
async fn a_quarantine_ends_a_stream_of_the_whole_state() {
    let sds = sds();
    let (sender, request) = requests::<DiscoveryRequest>();
    let mut answers = sds.stream_secrets(request).await.unwrap().into_inner();
    let wanted = DiscoveryRequest {
        resource_names: vec!["d".to_owned()],
        ..DiscoveryRequest::default()
    };
    sender.send(Ok(wanted)).unwrap();
    assert_eq!(answers.next().await.unwrap().unwrap().resources.len(), 1);
    quarantine(&sds);
    let end = answers.next().await.unwrap().unwrap_err();
    assert_eq!(end.code(), Code::FailedPrecondition);
    assert!(answers.next().await.is_none());
}

#[tokio::test(start_paused = true)]
async fn a_quarantine_removes_from_a_stream_of_changes_and_a_release_brings_back() {
    let sds = sds();
    let (sender, request) = requests::<DeltaDiscoveryRequest>();
    let mut answers = sds.delta_secrets(request).await.unwrap().into_inner();
    let wanted = DeltaDiscoveryRequest {
        resource_names_subscribe: vec!["d".to_owned()],
        ..DeltaDiscoveryRequest::default()
    };
    sender.send(Ok(wanted)).unwrap();
    assert_eq!(answers.next().await.unwrap().unwrap().resources.len(), 1);
    quarantine(&sds);
    let removed = answers.next().await.unwrap().unwrap();
    assert_eq!(removed.removed_resources, ["d"]);
    let key = TokenKey::sample("d");
    let cache = sds.broker.cache();
    cache.release(&key.destination, Some(&key.application));
    let back = answers.next().await.unwrap().unwrap();
    assert_eq!(back.resources.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn each_successor_is_sent_once_for_as_long_as_the_stream_lasts() {
    let sds = sds();
    let (sender, request) = requests::<DiscoveryRequest>();
    let mut answers = sds.stream_secrets(request).await.unwrap().into_inner();
    let wanted = DiscoveryRequest {
        resource_names: vec!["d".to_owned()],
        ..DiscoveryRequest::default()
    };
    sender.send(Ok(wanted)).unwrap();
    let first = answers.next().await.unwrap().unwrap();
    let granted = sds
        .authorise(&CallerId::parse(CALLER).unwrap(), "d")
        .unwrap();
    let id = TokenId::parse(&first.version_info).unwrap();
    sds.broker.report(&granted, id, || true, &Span::none());
    let second = answers.next().await.unwrap().unwrap();
    assert_ne!(second.version_info, first.version_info);
    let third = tokio::time::timeout(Duration::from_secs(60), answers.next()).await;
    assert!(third.is_err(), "nothing was minted");
}

#[tokio::test(start_paused = true)]
async fn a_poll_is_counted_once_and_its_span_says_how_it_ended() {
    let (traces, mut kept) = Traces::kept();
    let (sds, metrics) = sds_with(traces);
    let many: Vec<_> = (0..101).map(|number| format!("d{number}")).collect();
    let many: Vec<_> = many.iter().map(String::as_str).collect();
    let cluster = DiscoveryRequest {
        type_url: "type.googleapis.com/envoy.config.cluster.v3.Cluster".to_owned(),
        ..wanted(&["d"])
    };
    for (request, code, outcome) in [
        (wanted(&["d"]), "OK", "ok"),
        (cluster, "INVALID_ARGUMENT", "INVALID_ARGUMENT"),
        (wanted(&many), "INVALID_ARGUMENT", "INVALID_ARGUMENT"),
        (wanted(&["d", "e"]), "PERMISSION_DENIED", "NOT_GRANTED"),
    ] {
        let answer = sds.fetch_secrets(from_caller(request.into())).await;
        assert_eq!(answer.is_ok(), outcome == "ok");
        let span = ended(&mut kept);
        let status = noted(&span, "rpc.response.status_code");
        assert_eq!(status.as_deref(), Some(code));
        assert_eq!(noted(&span, "token_broker.caller").as_deref(), Some(CALLER));
        assert_eq!(
            noted(&span, "token_broker.outcome").as_deref(),
            Some(outcome)
        );
        // Each name has its own token.
        assert_eq!(noted(&span, "token_broker.token_id"), None);
        let said = span.events.iter().flat_map(|event| &event.attributes);
        let ids = said.filter(|one| one.key.as_str() == "token_broker.token_id");
        assert_eq!(
            ids.count(),
            usize::from(span.events.len() == 2 || outcome == "ok")
        );
    }
    let exposition = metrics.exposition().unwrap();
    for line in [
        "token_broker_call_duration_seconds_count{door=\"sds\"} 4\n",
        "door=\"sds\",destination=\"d\",outcome=\"ok\"} 2\n",
        "door=\"sds\",destination=\"\",outcome=\"INVALID_ARGUMENT\"} 2\n",
        "door=\"sds\",destination=\"\",outcome=\"NOT_GRANTED\"} 1\n",
    ] {
        assert!(exposition.contains(line), "{line} {exposition}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_span_of_a_stream_says_what_ended_it() {
    let (traces, mut kept) = Traces::kept();
    let (sds, _) = sds_with(traces);
    for (request, code, outcome) in [
        (
            DiscoveryRequest {
                type_url: "another".to_owned(),
                ..wanted(&["d"])
            },
            "INVALID_ARGUMENT",
            "INVALID_ARGUMENT",
        ),
        (wanted(&["e"]), "PERMISSION_DENIED", "NOT_GRANTED"),
    ] {
        let (sender, stream) = requests::<DiscoveryRequest>();
        let mut answers = sds.stream_secrets(stream).await.unwrap().into_inner();
        sender.send(Ok(request)).unwrap();
        answers.next().await.unwrap().unwrap_err();
        let span = ended(&mut kept);
        let status = noted(&span, "rpc.response.status_code");
        assert_eq!(status.as_deref(), Some(code));
        assert_eq!(noted(&span, "token_broker.caller").as_deref(), Some(CALLER));
        assert_eq!(
            noted(&span, "token_broker.outcome").as_deref(),
            Some(outcome)
        );
        assert_eq!(noted(&span, "error.type").as_deref(), Some(outcome));
    }
}
