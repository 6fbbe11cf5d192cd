//! That nobody can tell which way a call was answered.

use std::{collections::BTreeMap, convert::Infallible, num::NonZeroU32, time::Duration};

use bytes::Buf as _;
use futures_util::{
    FutureExt as _, StreamExt as _,
    future::BoxFuture,
    stream::{self, BoxStream},
};
use http::{HeaderName, HeaderValue};
use http_body_util::{BodyExt as _, StreamBody};
use opentelemetry::trace::SpanKind;
use opentelemetry_sdk::trace::SpanData;
use proptest::{collection::vec, option, prelude::*, sample::select};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use tower::Service as _;

use super::*;
use crate::{
    admission::{Admission, Shares},
    audit::Audit,
    broker::{Broker, Catalogue, Listing, Opening, Operator},
    cache::{Cache, Edition, Registration},
    clock::Instant,
    destination::TokenKey,
    grpc::{Door, Readiness},
    identity::CallerId,
    mesh::LiveMesh,
    metrics::{Format, Metrics},
    policy::{CallerPattern, Grants},
    secret::Secret,
    shared_cache::SharedCache,
    telemetry::{Calls, Span, Traces},
    token::Minted,
    upstream::{FetchError, Rotation, TokenSource},
    usage::{Mark, Stamp},
};

const CALLER: &str = "spiffe://corp.example/a";
const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

/// How a token endpoint behaves.
#[derive(Clone, Copy)]
enum Endpoint {
    /// Mints a token of this length.
    Mints(usize),
    Fails,
    Hangs,
}

impl TokenSource for Endpoint {
    fn mint<'a>(&'a self, _flight: &'a Span) -> BoxFuture<'a, Result<Minted, FetchError>> {
        let minted = match *self {
            Self::Mints(length) => Ok(Minted {
                access_token: Secret::new("t".repeat(length)),
                expires_in: None,
            }),
            Self::Fails => Err(FetchError::Malformed("no token")),
            Self::Hangs => return std::future::pending().boxed(),
        };
        std::future::ready(minted).boxed()
    }
}

/// A request, as it comes.
#[derive(Clone, Debug)]
struct Asks {
    method: Method,
    path: &'static str,
    headers: Vec<(&'static str, &'static str)>,
    frames: Vec<Vec<u8>>,
    trailers: Option<(&'static str, &'static str)>,
    /// Whether the body comes when somebody waits for it.
    is_late: bool,
}

/// What comes of a request, one piece after the other.
type Frames = BoxStream<'static, Result<Frame<Bytes>, Infallible>>;

impl Asks {
    /// An ordinary request.
    fn of(destination: &str) -> Self {
        Self::within(destination, None)
    }

    fn within(destination: &str, min_validity: Option<(i64, i32)>) -> Self {
        let message = GetTokenRequest {
            destination_id: destination.to_owned(),
            min_validity: min_validity
                .map(|(seconds, nanos)| prost_types::Duration { seconds, nanos }),
        };
        Self {
            method: Method::POST,
            path: PATH,
            headers: vec![("content-type", "application/grpc"), ("te", "trailers")],
            frames: vec![prefixed(0, &message.encode_to_vec())],
            trailers: None,
            is_late: false,
        }
    }

    fn with(mut self, name: &'static str, value: &'static str) -> Self {
        self.headers.push((name, value));
        self
    }

    fn request(&self) -> Request<StreamBody<Frames>> {
        let mut frames: Vec<_> = self
            .frames
            .iter()
            .map(|frame| Frame::data(Bytes::from(frame.clone())))
            .collect();
        frames.extend(self.trailers.map(|(name, value)| {
            let header = (
                HeaderName::from_static(name),
                HeaderValue::from_static(value),
            );
            Frame::trailers([header].into_iter().collect())
        }));
        let frames = stream::iter(frames.into_iter().map(Ok));
        let body = if self.is_late {
            let wait = stream::once(tokio::task::yield_now());
            wait.filter_map(|()| std::future::ready(None))
                .chain(frames)
                .boxed()
        } else {
            frames.boxed()
        };
        let mut request = Request::builder()
            .method(self.method.clone())
            .uri(self.path)
            .version(Version::HTTP_2);
        for (name, value) in &self.headers {
            request = request.header(*name, *value);
        }
        request.body(StreamBody::new(body)).unwrap()
    }
}

fn prefixed(flag: u8, message: &[u8]) -> Vec<u8> {
    let length = u32::try_from(message.len()).unwrap().to_be_bytes();
    [&[flag], &length[..], message].concat()
}

/// One door, and what is traced there.
struct Way {
    shortcut: Shortcut,
    routes: Routes,
    spans: mpsc::Receiver<SpanData>,
}

/// All that a caller sees of an answer.
#[derive(Debug, PartialEq)]
struct Seen {
    status: u16,
    headers: BTreeMap<String, Vec<u8>>,
    body: Vec<u8>,
    trailers: Option<HeaderMap>,
}

impl Way {
    fn to(broker: &Arc<Broker>, metrics: &Arc<Metrics>) -> Self {
        let (traces, spans) = Traces::kept();
        let (_, operator) = Operator::sample();
        let door = Door {
            broker: Arc::clone(broker),
            operator,
            calls: Calls::new(Arc::clone(metrics), traces),
            mesh: Arc::new(LiveMesh::default()),
            readiness: watch::channel(Readiness::Ready).1,
            stop: CancellationToken::new(),
        };
        let (router, shortcut) = door.open().unwrap();
        Self {
            shortcut,
            routes: Routes::from(router).prepare(),
            spans,
        }
    }

    /// Answers in the shorter way, if that takes it.
    async fn shortly(&mut self, peer: Option<&Arc<Connected>>, asks: &Asks) -> (bool, Seen) {
        match self.shortcut.enter(peer, asks.request()) {
            Ok(call) => (true, seen(call.answer().await).await),
            Err(request) => (false, self.route(peer, request).await),
        }
    }

    async fn route<B>(&mut self, peer: Option<&Arc<Connected>>, mut request: Request<B>) -> Seen
    where
        B: HttpBody<Data = Bytes, Error = Infallible> + Send + 'static,
    {
        if let Some(peer) = peer {
            request.extensions_mut().insert(Arc::clone(peer));
        }
        let Ok(answer) = self.routes.call(request).await;
        seen(answer.map(Body::Other)).await
    }

    /// What was noted of the calls since the last look, but for what is drawn for each.
    fn noted(&mut self) -> Vec<(String, String)> {
        let spans = std::iter::from_fn(|| self.spans.try_recv().ok());
        // Flights are not of the one call or the other.
        let calls = spans.filter(|span| span.span_kind == SpanKind::Server);
        let attributes = calls.flat_map(|span| {
            let name = ("name".to_owned(), span.name.to_string());
            let parent = ("parent".to_owned(), span.parent_span_id.to_string());
            let status = ("status".to_owned(), format!("{:?}", span.status));
            let attributes = span.attributes.into_iter();
            let attributes =
                attributes.map(|one| (one.key.to_string(), one.value.as_str().into_owned()));
            [name, parent, status].into_iter().chain(attributes)
        });
        let is_drawn = |value: &str| value.len() > 17 && value.as_bytes()[16] == b'-';
        attributes
            .filter(|(key, value)| key != "token_broker.request_id" || !is_drawn(value))
            .collect()
    }
}

async fn seen(answer: Response<Body>) -> Seen {
    let (parts, body) = answer.into_parts();
    let has_ended = body.is_end_stream();
    let hint = body.size_hint();
    let body = body.map_frame(|frame| {
        frame.map_data(|mut data| {
            assert!(data.remaining() > 0);
            data.copy_to_bytes(data.remaining())
        })
    });
    let collected = body.collect().await.unwrap();
    let trailers = collected.trailers().cloned();
    let body = collected.to_bytes().to_vec();
    assert_eq!(has_ended, body.is_empty() && trailers.is_none());
    assert!(hint.exact().is_none_or(|size| size == body.len() as u64));
    let headers = parts.headers.iter();
    Seen {
        status: parts.status.as_u16(),
        headers: headers
            .map(|(name, value)| (name.to_string(), value.as_bytes().to_vec()))
            .collect(),
        body,
        trailers,
    }
}

/// A broker that knows these destinations: tokens of some lengths, one whose endpoint fails,
/// one whose endpoint hangs, one that is stopped, and one that is public.
fn broker(metrics: &Metrics) -> Arc<Broker> {
    let callers = || CallerPattern::parse(CALLER).unwrap();
    let mut catalogue = Catalogue::new(Edition::default(), Arc::default());
    let mut add = |destination: &str, endpoint| {
        let registration = Registration::sample(destination, Rotation::of(Arc::new(endpoint)));
        catalogue.add(Listing::sample(Arc::new(registration), callers(), metrics));
    };
    add("d", Endpoint::Mints(900));
    for length in [1, 940, 941, 942, 943, 944, 945, 946, 947, 1023, 5000] {
        add(&format!("long-{length}"), Endpoint::Mints(length));
    }
    add("fails", Endpoint::Fails);
    add("hangs", Endpoint::Hangs);
    add("stopped", Endpoint::Mints(1));
    let opening = Opening {
        registration: None,
        number: 1,
        used: Arc::new(Mark::of(Stamp(0), None)),
        served: Arc::default(),
    };
    let id = TokenKey::sample("public").destination;
    catalogue.add(Listing {
        tally: metrics.tally(&id),
        id,
        name: None,
        grants: Grants::new([(callers(), opening)]),
        registrations: Vec::new(),
    });
    let audit = Arc::new(Audit::off());
    let (cache, _schedule) = Cache::new(
        Arc::new(Metrics::new()),
        Arc::clone(&audit),
        SharedCache::off(),
        Traces::off(),
    );
    let broker = Arc::new(Broker::new(catalogue, cache, audit));
    let stopped = TokenKey::sample("stopped");
    broker
        .cache()
        .quarantine(&stopped.destination, Some(&stopped.application));
    broker
}

/// Somebody who may have so many calls under way.
fn peer(calls: usize) -> Arc<Connected> {
    let admission = Admission::new(Shares {
        connections_per_caller: 1,
        calls_per_second: NonZeroU32::MAX,
        calls,
        longest_call: Duration::from_secs(30),
    });
    let caller = CallerId::parse(CALLER).unwrap();
    let connected = admission.connect(&caller, Instant::now());
    Arc::new(connected.ok().unwrap())
}

/// Both ways to the same broker.
struct Ways {
    shorter: Way,
    other: Way,
    metrics: Arc<Metrics>,
}

impl Ways {
    fn new() -> Self {
        let metrics = Arc::new(Metrics::new());
        let broker = broker(&metrics);
        Self {
            shorter: Way::to(&broker, &metrics),
            other: Way::to(&broker, &metrics),
            metrics,
        }
    }

    /// Answers in both, which nobody can tell apart, and says whether the shorter one is
    /// taken.
    async fn compare(&mut self, peer: Option<&Arc<Connected>>, asks: &Asks) -> (bool, Seen) {
        let before = self.counted();
        let (is_short, short) = self.shorter.shortly(peer, asks).await;
        let between = self.counted();
        let other = self.other.route(peer, asks.request()).await;
        let after = self.counted();
        assert_eq!(short, other, "{asks:?}");
        assert_eq!(more(&between, &before), more(&after, &between), "{asks:?}");
        assert_eq!(self.shorter.noted(), self.other.noted(), "{asks:?}");
        (is_short, other)
    }

    /// What was counted of calls so far.
    fn counted(&self) -> BTreeMap<String, f64> {
        let text = self.metrics.exposition_in(Format::OpenMetrics).unwrap();
        let series = text.lines().filter(|line| line.contains("_call"));
        let series = series.filter_map(|line| line.rsplit_once(' '));
        series
            .filter_map(|(name, count)| Some((name.to_owned(), count.parse::<f64>().ok()?)))
            .collect()
    }
}

/// By what each count has grown.
fn more(now: &BTreeMap<String, f64>, before: &BTreeMap<String, f64>) -> Vec<(String, String)> {
    let all = now.iter().map(|(name, count)| {
        let more = count - before.get(name).unwrap_or(&0.0);
        // In seconds, if it is a time.
        (name.clone(), format!("{more:.6}"))
    });
    all.filter(|(_, more)| more != "0.000000").collect()
}

#[expect(clippy::too_many_lines, reason = "a table")]
fn asks() -> Vec<(bool, &'static str, Asks)> {
    let d = || Asks::of("d");
    let message = || d().frames.concat();
    let lengths = [
        "long-1", "long-940", "long-941", "long-942", "long-943", "long-944",
    ];
    let further = ["long-945", "long-946", "long-947", "long-1023", "long-5000"];
    let ordinary = lengths.into_iter().chain(further).map(Asks::of).chain([
        d(),
        d().with("x-request-id", "mine"),
        d().with("x-request-id", "not a name"),
        d().with("traceparent", PARENT),
        d().with("traceparent", PARENT).with("traceparent", PARENT),
        d().with("grpc-timeout", "1S"),
        d().with("grpc-timeout", "soon"),
        d().with("grpc-accept-encoding", "gzip"),
        d().with("user-agent", "somebody"),
    ]);
    let ordinary = ordinary.map(|asks| (true, "0", asks));
    let within = |seconds, nanos| Asks::within("d", Some((seconds, nanos)));
    let odd = |change: fn(&mut Asks)| {
        let mut asks = d();
        change(&mut asks);
        asks
    };
    let cut = |at: usize| {
        let (one, another) = (message()[..at].to_vec(), message()[at..].to_vec());
        Asks {
            frames: vec![one, another],
            ..d()
        }
    };
    ordinary
        .chain([
            (true, "0", within(0, 0)),
            (true, "0", within(60, 1)),
            (true, "9", within(3600, 0)),
            (true, "3", within(-1, 0)),
            (true, "3", within(0, 1_000_000_000)),
            (true, "3", Asks::of("")),
            (true, "3", Asks::of("not an id")),
            (true, "7", Asks::of("unknown")),
            (true, "9", Asks::of("public")),
            (true, "9", Asks::of("stopped")),
            (true, "14", Asks::of("fails")),
            (true, "4", Asks::of("hangs").with("grpc-timeout", "1S")),
            (true, "0", odd(|asks| asks.frames.push(Vec::new()))),
            (true, "0", odd(|asks| asks.frames.insert(0, Vec::new()))),
            (
                true,
                "0",
                odd(|asks| asks.headers[0].1 = "application/grpc+proto"),
            ),
            (false, "0", odd(|asks| asks.is_late = true)),
            (false, "0", cut(1)),
            (false, "0", cut(5)),
            (false, "0", cut(6)),
            (false, "13", odd(|asks| asks.frames.clear())),
            (false, "13", odd(|asks| asks.frames[0].truncate(4))),
            (false, "13", odd(|asks| asks.frames[0].truncate(6))),
            (false, "13", odd(|asks| asks.frames[0][0] = 1)),
            (false, "13", odd(|asks| asks.frames[0][0] = 2)),
            (
                false,
                "13",
                odd(|asks| asks.frames = vec![prefixed(0, b"\xff")]),
            ),
            (
                false,
                "11",
                odd(|asks| asks.frames = vec![prefixed(0, &[0; MAX_REQUEST + 1])]),
            ),
            (
                false,
                "0",
                odd(|asks| asks.trailers = Some(("x-request-id", "late"))),
            ),
            (
                false,
                "0",
                odd(|asks| asks.trailers = Some(("grpc-timeout", "1S"))),
            ),
            (false, "0", odd(|asks| asks.method = Method::GET)),
            (false, "0", d().with("grpc-encoding", "identity")),
            (false, "12", d().with("grpc-encoding", "gzip")),
            (
                false,
                "12",
                odd(|asks| asks.path = "/tokenbroker.v1.TokenBroker/Other"),
            ),
            (
                false,
                "12",
                odd(|asks| asks.path = "/tokenbroker.v1.TokenBroker/GetToken/"),
            ),
            (
                false,
                "12",
                odd(|asks| asks.path = "/another.Service/GetToken"),
            ),
            (
                false,
                "",
                odd(|asks| asks.headers[0].1 = "application/json"),
            ),
        ])
        .collect()
}

#[tokio::test(start_paused = true)]
async fn both_ways_give_the_same_answers_and_count_them_alike() {
    let mut ways = Ways::new();
    let peer = peer(10);
    for (is_ordinary, code, asks) in asks() {
        let (is_short, answer) = ways.compare(Some(&peer), &asks).await;
        assert_eq!(is_short, is_ordinary, "{asks:?}");
        let trailers = answer
            .trailers
            .as_ref()
            .and_then(|all| all.get("grpc-status"));
        let status = answer.headers.get("grpc-status").cloned();
        let status = status.or_else(|| trailers.map(|value| value.as_bytes().to_vec()));
        let status = status.unwrap_or_default();
        assert_eq!(String::from_utf8(status).unwrap(), code, "{asks:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn who_is_not_let_in_does_not_get_past_the_guard() {
    let mut ways = Ways::new();
    for peer in [None, Some(peer(0))] {
        let (is_short, answer) = ways.compare(peer.as_ref(), &Asks::of("d")).await;
        assert!(!is_short);
        let code = if peer.is_some() { "8" } else { "16" };
        assert_eq!(answer.headers["grpc-status"], code.as_bytes());
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_is_under_way_until_it_is_answered() {
    let ways = Ways::new();
    let peer = peer(2);
    let hangs = || {
        ways.shorter
            .shortcut
            .enter(Some(&peer), Asks::of("hangs").request())
            .ok()
    };
    let first = hangs().unwrap();
    assert!(hangs().is_none(), "one caller has half of the calls");
    drop(first);
    assert!(hangs().is_some());
}

proptest! {
    // Two doors are opened for each.
    #![proptest_config(ProptestConfig::with_cases(100))]
    #[test]
    fn whatever_is_asked_is_answered_in_one_way(
        message in prop_oneof![
            vec(any::<u8>(), 0..20),
            ("[a-z]{0,3}", option::of((-2..4000_i64, -1..2_i32)))
                .prop_map(|(id, validity)| Asks::within(&id, validity).frames[0][PREFIX..].to_vec()),
        ],
        flag in prop_oneof![9 => Just(0_u8), 1 => any::<u8>()],
        longer in prop_oneof![9 => Just(0_i64), 1 => -2..3_i64],
        cuts in vec(any::<prop::sample::Index>(), 0..3),
        further in option::weighted(0.1, vec(any::<u8>(), 0..10)),
        headers in vec(select(vec![
            ("x-request-id", "mine"), ("traceparent", PARENT), ("tracestate", "a=b"),
            ("grpc-timeout", "5S"), ("grpc-timeout", "0n"), ("grpc-encoding", "gzip"),
            ("content-type", "application/json"), ("grpc-accept-encoding", "gzip"),
        ]), 0..3),
        trailers in option::weighted(0.1, Just(("x-request-id", "late"))),
        is_late in prop::bool::weighted(0.1),
    ) {
        let mut body = prefixed(flag, &message);
        let length = i64::try_from(message.len()).unwrap() + longer;
        body[1..PREFIX].copy_from_slice(&u32::try_from(length.max(0)).unwrap().to_be_bytes());
        let mut cuts: Vec<_> = cuts.iter().map(|cut| cut.index(body.len() + 1)).collect();
        cuts.sort_unstable();
        let ends = cuts.iter().copied().chain([body.len()]);
        let starts = [0].into_iter().chain(cuts.iter().copied());
        let frames = starts.zip(ends).map(|(start, end)| body[start..end].to_vec());
        let mut asks = Asks { frames: frames.chain(further).collect(), trailers, is_late, ..Asks::of("d") };
        asks.headers.extend(headers);
        tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap()
            .block_on(async { Ways::new().compare(Some(&peer(10)), &asks).await });
    }
}
