//! What is recorded of calls, and what is not.

use http::HeaderValue;
use opentelemetry::trace::{SpanId, Status};

use super::*;
use crate::{
    destination::DestinationId,
    metrics::{Door, Metrics},
    request_id::RequestId,
    telemetry::{Calls, End},
};

const CALLER: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const OPERATION: Operation = Operation::Grpc("package.Service/Method");

fn headers(lines: &[(&'static str, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in lines {
        headers.append(*name, HeaderValue::from_str(value).unwrap());
    }
    headers
}

fn from_caller(traceparent: &str) -> HeaderMap {
    headers(&[("traceparent", traceparent)])
}

fn noted(span: &SpanData, key: &str) -> Option<String> {
    let mut attributes = span.attributes.iter();
    let found = attributes.find(|attribute| attribute.key.as_str() == key);
    found.map(|attribute| attribute.value.as_str().into_owned())
}

#[test]
fn a_call_goes_on_with_the_trace_of_its_caller() {
    let (traces, mut kept) = Traces::kept();
    let calls = Calls::new(Arc::default(), traces);
    let id = RequestId::parse("request").unwrap();
    let mut headers = from_caller(CALLER);
    headers.append(TRACESTATE, HeaderValue::from_static("a=1"));
    headers.append(TRACESTATE, HeaderValue::from_static("b=2"));
    let call = calls.begin(Door::Grpc, OPERATION, &headers, id);
    let context = call.span.context().unwrap();
    let (parent, state) = call.span.passed_on().unwrap();
    assert_eq!(parent, context.to_string());
    assert_eq!(state.as_deref(), Some("a=1,b=2"));
    let orders = Metrics::new().tally(&DestinationId::parse("orders").unwrap());
    calls.answered(
        &call,
        "spiffe://corp.example/a",
        Some(&orders),
        "NOT_GRANTED",
    );

    let span = kept.try_recv().unwrap();
    assert_eq!(span.span_context.trace_id().to_string(), TRACE);
    assert_eq!(span.parent_span_id.to_string(), "b7ad6b7169203331");
    assert!(span.parent_span_is_remote);
    assert_eq!(
        span.span_context.span_id().to_string(),
        context.span_id.to_string()
    );
    assert_eq!(span.span_kind, SpanKind::Server);
    assert_eq!(span.name, "package.Service/Method");
    assert_eq!(span.status, Status::error("NOT_GRANTED"));
    for (key, value) in [
        ("rpc.system.name", "grpc"),
        ("rpc.method", "package.Service/Method"),
        ("token_broker.door", "grpc"),
        ("token_broker.request_id", "request"),
        ("token_broker.caller", "spiffe://corp.example/a"),
        ("token_broker.destination", "orders"),
        ("token_broker.outcome", "NOT_GRANTED"),
        ("error.type", "NOT_GRANTED"),
    ] {
        assert_eq!(noted(&span, key).as_deref(), Some(value), "{key}");
    }
    drop(call);
    assert!(kept.try_recv().is_err(), "it ended once");
}

#[test]
fn a_malformed_context_begins_a_trace_anew() {
    let (traces, mut kept) = Traces::kept();
    let bad = CALLER.to_uppercase();
    traces
        .call(OPERATION, &from_caller(&bad))
        .end(End::Well("ok"));
    let span = kept.try_recv().unwrap();
    assert_eq!(span.parent_span_id, SpanId::INVALID);
    assert_ne!(span.span_context.trace_id().to_string(), TRACE);
}

#[test]
fn what_tracing_systems_keep_is_bounded_and_well_formed_or_left_out() {
    let (traces, _kept) = Traces::kept();
    let fits = format!("a={}", "x".repeat(250));
    let too_long = format!("a={0},b={0},c={0}", "x".repeat(200));
    for (state, passed_on) in [
        (&*fits, Some(&*fits)),
        ("", None),
        ("A=1", None),
        ("nonsense", None),
        (&too_long, None),
    ] {
        let headers = headers(&[("traceparent", CALLER), ("tracestate", state)]);
        let span = traces.call(OPERATION, &headers);
        let (_, state) = span.passed_on().unwrap();
        assert_eq!(state.as_deref(), passed_on);
    }
}

#[test]
fn callers_decide_about_their_traces_and_the_ratio_about_those_that_begin_here() {
    let unsampled = CALLER.replace("-01", "-00");
    for (ratio, caller, recorded) in [
        (0.0, Some(CALLER), 100),
        (1.0, Some(&*unsampled), 0),
        (0.0, None, 0),
        (1.0, None, 100),
    ] {
        let (traces, mut kept) = Traces::kept_of(ratio);
        let headers = caller.map_or_else(HeaderMap::new, from_caller);
        for _ in 0..100 {
            let span = traces.call(OPERATION, &headers);
            // Whether or not it is recorded, it has its place, and says so to others.
            let context = span.context().unwrap();
            assert_eq!(context.sampled, recorded > 0);
            assert!(span.passed_on().is_some());
        }
        let spans = std::iter::from_fn(|| kept.try_recv().ok()).count();
        assert_eq!(spans, recorded, "{ratio} {caller:?}");
    }
    let (traces, mut kept) = Traces::kept_of(0.25);
    for _ in 0..2000 {
        traces
            .call(OPERATION, &HeaderMap::new())
            .end(End::Well("ok"));
    }
    let spans = std::iter::from_fn(|| kept.try_recv().ok()).count();
    assert!((350..650).contains(&spans), "{spans} of 2000");
}

#[test]
fn where_nothing_is_recorded_only_the_trace_of_a_caller_is_known() {
    let traces = Traces::off();
    let call = traces.call(OPERATION, &from_caller(CALLER));
    assert_eq!(call.trace_id().unwrap().to_string(), TRACE);
    assert_eq!(call.passed_on(), None);
    let flight = traces.flight(Launch::Awaited(&call));
    assert_eq!(flight.trace_id(), call.trace_id());
    assert_eq!(flight.outgoing("POST").passed_on(), None);
    assert_eq!(traces.flight(Launch::Behind(&call)).trace_id(), None);
    assert_eq!(traces.flight(Launch::ByItself).trace_id(), None);
    assert_eq!(traces.call(OPERATION, &HeaderMap::new()).context(), None);
}

#[test]
fn a_flight_that_no_call_waits_for_is_a_trace_of_its_own() {
    let (traces, mut kept) = Traces::kept();
    let flight = traces.flight(Launch::Awaited(&Span::none()));
    assert!(flight.trace_id().is_some());
    flight.end(End::Well("ok"));
    let span = kept.try_recv().unwrap();
    assert_eq!(span.name, "flight");
    assert_eq!(span.parent_span_id, SpanId::INVALID);
    let off = Traces::off().flight(Launch::Awaited(&Span::none()));
    assert_eq!(off.trace_id(), None);
}

#[test]
fn a_call_that_was_given_up_is_as_long_as_it_lasted_and_in_its_callers_trace() {
    let (traces, mut kept) = Traces::kept();
    let metrics = Arc::new(Metrics::new());
    let calls = Calls::new(Arc::clone(&metrics), traces);
    let context = TraceContext::parse(CALLER.as_bytes());
    let id = RequestId::fresh();
    let call = calls.begin_in(Door::Grpc, OPERATION, context, String::new, id);
    let call = call.earlier(Duration::from_secs(31));
    calls.answered(&call, "", None, "DEADLINE_EXCEEDED");
    let span = kept.try_recv().unwrap();
    assert_eq!(span.span_context.trace_id().to_string(), TRACE);
    let exposition = metrics.exposition().unwrap();
    let sum = "token_broker_call_duration_seconds_sum{door=\"grpc\"} ";
    let sum = exposition.lines().find_map(|line| line.strip_prefix(sum));
    let sum: f64 = sum.unwrap().parse().unwrap();
    assert!((31.0..40.0).contains(&sum), "{sum}");
}

#[test]
fn what_is_kept_in_a_trace_is_read_only_where_it_is_recorded() {
    let context = TraceContext::parse(CALLER.as_bytes());
    let unread = || -> String { panic!("nothing is recorded") };
    let span = Traces::off().call_in(OPERATION, context, unread);
    assert_eq!(span.context(), context);
}

#[test]
fn what_is_the_callers_to_mend_is_no_error_of_the_brokers() {
    let (traces, mut kept) = Traces::kept();
    let call = traces.call(OPERATION, &HeaderMap::new());
    call.blames_caller();
    call.end(End::Badly("NOT_GRANTED"));
    let span = kept.try_recv().unwrap();
    assert_eq!(span.status, Status::Unset);
    for key in ["token_broker.outcome", "error.type"] {
        assert_eq!(noted(&span, key).as_deref(), Some("NOT_GRANTED"));
    }
}

#[test]
fn what_nobody_ends_ends_as_was_said_before() {
    let (traces, mut kept) = Traces::kept();
    drop(traces.call(OPERATION, &HeaderMap::new()));
    let span = kept.try_recv().unwrap();
    assert_eq!(
        noted(&span, "token_broker.outcome").as_deref(),
        Some("CANCELLED")
    );
    assert_eq!(span.status, Status::Unset);

    let call = traces.call(OPERATION, &HeaderMap::new());
    let clone = call.clone();
    call.ends(End::Badly("LATE"));
    drop(call);
    assert!(kept.try_recv().is_err(), "somebody has it still");
    drop(clone);
    let span = kept.try_recv().unwrap();
    assert_eq!(span.status, Status::error("LATE"));
}

#[test]
fn what_does_not_fit_is_dropped_and_counted() {
    let metrics = Arc::new(Metrics::new());
    let (ended, mut kept) = mpsc::channel(2);
    let traces = Traces::into(ended, 1.0, Arc::clone(&metrics));
    let record = || {
        let span = traces.call(OPERATION, &HeaderMap::new());
        span.end(End::Well("ok"));
    };
    (0..5).for_each(|_| record());
    let count = |dropped: usize| {
        let line = format!("token_broker_trace_spans_total{{outcome=\"dropped\"}} {dropped}\n");
        metrics.exposition().unwrap().contains(&line)
    };
    assert!(count(3));
    kept.try_recv().unwrap();
    record();
    assert!(count(3));
    kept.close();
    record();
    assert!(count(4));
}
