//! Which flights are parts of which calls, and what they are linked to.

use opentelemetry::trace::{SpanId, SpanKind, Status};
use opentelemetry_sdk::trace::SpanData;
use tokio::sync::mpsc;

use super::*;
use crate::{
    metrics::Door,
    telemetry::{Calls, End, Operation},
};

/// A cache whose flights are traced, and calls that ask it.
struct Bench {
    cache: Arc<Cache>,
    calls: Calls,
    kept: mpsc::Receiver<SpanData>,
    _stop: DropGuard,
}

impl Bench {
    fn new() -> Self {
        let (traces, kept) = Traces::kept();
        let (cache, stop) = cache_with(Arc::default(), traces.clone());
        Self {
            cache,
            calls: Calls::new(Arc::default(), traces),
            kept,
            _stop: stop,
        }
    }

    fn begin(&self) -> Span {
        let operation = Operation::Grpc("service/method");
        let id = crate::request_id::RequestId::fresh();
        self.calls
            .begin(Door::Grpc, operation, &http::HeaderMap::new(), id)
            .span
    }

    /// Asks in a call that ends with its answer.
    async fn ask(&self, registration: &Arc<Registration>) -> Span {
        let call = self.begin();
        let found = self.cache.find(registration, Duration::ZERO, &call).await;
        call.end(End::of(if found.is_ok() { "ok" } else { "NONE" }));
        call
    }

    /// Everything that has ended.
    fn ended(&mut self) -> Vec<SpanData> {
        std::iter::from_fn(|| self.kept.try_recv().ok()).collect()
    }
}

fn id(span: &Span) -> String {
    span.context().unwrap().span_id.to_string()
}

fn links(span: &SpanData) -> Vec<String> {
    let links = span.links.links.iter();
    links
        .map(|link| link.span_context.span_id().to_string())
        .collect()
}

fn of<'a>(spans: &'a [SpanData], span: &Span) -> &'a SpanData {
    let id = id(span);
    let mut spans = spans.iter();
    spans
        .find(|one| one.span_context.span_id().to_string() == id)
        .unwrap()
}

fn the_flight(spans: &[SpanData]) -> &SpanData {
    let mut flights = spans.iter().filter(|span| span.name == "flight");
    let flight = flights.next().unwrap();
    assert_eq!(flights.next(), None, "there is one flight");
    flight
}

fn noted(span: &SpanData, key: &str) -> Option<String> {
    let mut attributes = span.attributes.iter();
    let found = attributes.find(|attribute| attribute.key.as_str() == key);
    found.map(|attribute| attribute.value.as_str().into_owned())
}

#[tokio::test(start_paused = true)]
async fn a_flight_is_a_part_of_the_call_that_waits_for_it_and_those_who_join_link_to_it() {
    let mut bench = Bench::new();
    let registration = Arc::new(registration("d", steady(), &host()));
    let (cold, joiner) = tokio::join!(bench.ask(&registration), bench.ask(&registration));

    let spans = bench.ended();
    assert_eq!(spans.len(), 3);
    let flight = the_flight(&spans);
    let cold = of(&spans, &cold);
    assert_eq!(flight.parent_span_id, cold.span_context.span_id());
    assert_eq!(flight.span_context.trace_id(), cold.span_context.trace_id());
    assert_eq!(flight.span_kind, SpanKind::Internal);
    assert_eq!(
        noted(flight, "token_broker.destination").as_deref(),
        Some("d")
    );
    assert_eq!(noted(flight, "token_broker.outcome").as_deref(), Some("ok"));
    assert!(noted(flight, "token_broker.token_id").is_some());
    assert_eq!(links(cold), [""; 0]);

    let joiner = of(&spans, &joiner);
    assert_ne!(joiner.span_context.trace_id(), cold.span_context.trace_id());
    let flight_id = flight.span_context.span_id().to_string();
    assert_eq!(links(joiner), [flight_id]);
    let linked = &joiner.links.links[0].span_context;
    assert_eq!(linked.trace_id(), flight.span_context.trace_id());
}

#[tokio::test(start_paused = true)]
async fn a_refresh_ahead_is_a_trace_of_its_own_with_a_link_to_the_call_that_launched_it() {
    let mut bench = Bench::new();
    let registration = Arc::new(registration("d", steady(), &host()));
    bench.ask(&registration).await;
    bench.ended();
    // Nobody tends it: the call comes at the very moment at which it is due.
    let due = bench.cache.survey(&registration).unwrap().due.unwrap();
    let entry = bench.cache.slots.get(&registration.key).unwrap();
    let call = bench.begin();
    let answer = bench
        .cache
        .flights
        .ask(&entry, &registration, due, Duration::ZERO, &call);
    assert!(matches!(answer, Answer::Now(Ok(_))), "it is served at once");
    call.end(End::of("ok"));
    tokio::time::sleep(secs(1)).await;

    let spans = bench.ended();
    let flight = the_flight(&spans);
    let call = of(&spans, &call);
    assert_eq!(flight.parent_span_id, SpanId::INVALID);
    assert_ne!(flight.span_context.trace_id(), call.span_context.trace_id());
    assert_eq!(links(flight), [call.span_context.span_id().to_string()]);
}

#[tokio::test(start_paused = true)]
async fn a_flight_of_the_schedule_is_a_trace_of_its_own() {
    let mut bench = Bench::new();
    let registration = Arc::new(registration("d", steady(), &host()));
    bench.ask(&registration).await;
    bench.ended();
    tokio::time::sleep(secs(32 * 60)).await;

    let spans = bench.ended();
    assert_eq!(spans.len(), 1);
    let flight = the_flight(&spans);
    assert_eq!(flight.parent_span_id, SpanId::INVALID);
    assert_eq!(links(flight), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn a_report_launches_a_trace_of_its_own_and_an_operator_waits_for_a_part_of_theirs() {
    let mut bench = Bench::new();
    let registration = Arc::new(registration("d", steady(), &host()));
    bench.ask(&registration).await;
    let token = bench.cache.survey(&registration).unwrap().token.unwrap();
    bench.ended();

    let call = bench.begin();
    bench.cache.report(&registration, token.id, || true, &call);
    tokio::time::sleep(secs(1)).await;
    let spans = bench.ended();
    let flight = the_flight(&spans);
    assert_eq!(flight.parent_span_id, SpanId::INVALID);
    assert_eq!(links(flight), [id(&call)]);

    bench.cache.refresh(&registration, &call).await.unwrap();
    let spans = bench.ended();
    assert_eq!(the_flight(&spans).parent_span_id.to_string(), id(&call));
}

#[tokio::test(start_paused = true)]
async fn a_flight_that_fails_or_panics_says_so_by_its_reason_code() {
    let mut bench = Bench::new();
    for source in [
        Scripted::new(|_| async { unavailable() }),
        Scripted::new(|_| async { panic!("canary") }),
    ] {
        let registration = Arc::new(registration("d", source, &host()));
        let call = bench.ask(&registration).await;
        let spans = bench.ended();
        let flight = the_flight(&spans);
        assert_eq!(flight.parent_span_id.to_string(), id(&call));
        assert_eq!(flight.status, Status::error("UPSTREAM_UNAVAILABLE"));
        let code = noted(flight, "error.type");
        assert_eq!(code.as_deref(), Some("UPSTREAM_UNAVAILABLE"));
        bench = Bench::new();
    }
}
