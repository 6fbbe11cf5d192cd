//! A call from when a door takes it in until it is answered: counted, logged and traced.

use std::{sync::Arc, time::Duration};

use http::HeaderMap;
use tracing::{debug, field::display};

use super::{End, Span, Traces};
use crate::{
    clock::Instant,
    metrics::{Door, Metrics, OK, Tally},
    request_id::RequestId,
    token::TokenId,
    trace_context::TraceContext,
};

/// Where calls are counted, logged and traced. A clone does so at the same place.
#[derive(Clone)]
pub struct Calls {
    metrics: Arc<Metrics>,
    traces: Traces,
}

/// One call.
pub struct Call {
    /// The door that took it in.
    pub door: Door,
    /// Names it in records and log events.
    pub request_id: RequestId,
    /// What is traced of it.
    pub span: Span,
    /// When it began.
    pub began: Instant,
}

/// What is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// A method of a gRPC service, such as `tokenbroker.v1.TokenBroker/GetToken`.
    Grpc(&'static str),
    /// A POST to a route of the web.
    Post(&'static str),
}

impl Operation {
    /// The name of its spans.
    pub(super) fn name(self) -> String {
        match self {
            Self::Grpc(method) => method.to_owned(),
            Self::Post(route) => format!("POST {route}"),
        }
    }

    /// Says what it is in OpenTelemetry's words (semantic conventions 1.45).
    pub(super) fn describe(self, span: &Span) {
        match self {
            Self::Grpc(method) => {
                span.text("rpc.system.name", "grpc");
                span.text("rpc.method", method);
            }
            Self::Post(route) => {
                span.text("http.request.method", "POST");
                span.text("http.route", route);
                span.text("url.scheme", "https");
            }
        }
    }
}

impl Call {
    /// The same, begun so much earlier.
    #[must_use]
    pub fn earlier(self, by: Duration) -> Self {
        let began = self.began.checked_sub(by).unwrap_or(self.began);
        Self { began, ..self }
    }
}

impl Calls {
    /// Counts calls there, and traces them so.
    pub fn new(metrics: Arc<Metrics>, traces: Traces) -> Self {
        Self { metrics, traces }
    }

    /// A call begins that came with these headers.
    pub fn begin(
        &self,
        door: Door,
        operation: Operation,
        headers: &HeaderMap,
        request_id: RequestId,
    ) -> Call {
        let span = self.traces.call(operation, headers);
        Self::begun(door, span, request_id)
    }

    /// A call begins whose trace is known, if it is part of one. `state` is what tracing
    /// systems keep in that (`tracestate`), and is read only where spans are recorded.
    pub fn begin_in(
        &self,
        door: Door,
        operation: Operation,
        context: Option<TraceContext>,
        state: impl FnOnce() -> String,
        request_id: RequestId,
    ) -> Call {
        let span = self.traces.call_in(operation, context, state);
        Self::begun(door, span, request_id)
    }

    fn begun(door: Door, span: Span, request_id: RequestId) -> Call {
        span.text("token_broker.door", door);
        span.text("token_broker.request_id", request_id.as_str());
        Call {
            door,
            request_id,
            span,
            began: Instant::now(),
        }
    }

    /// A call was answered. It is told where calls to its destination are counted, unless
    /// the caller was not granted it; `outcome` is `ok` or a reason code.
    pub fn answered(&self, call: &Call, caller: &str, to: Option<&Tally>, outcome: &'static str) {
        self.count(call, caller, to, outcome);
        call.span.name_if_any("token_broker.caller", caller);
        call.span.name_if_any("token_broker.destination", name(to));
        self.ended(call, outcome);
    }

    /// A call is answered by a stream from now on, which lasts until nobody has its span any
    /// more.
    pub fn opened(&self, call: &Call, caller: &str, to: Option<&Tally>) {
        self.count(call, caller, to, OK);
        call.span.name_if_any("token_broker.caller", caller);
        call.span.name_if_any("token_broker.destination", name(to));
        call.span.ends(End::Well(OK));
    }

    /// One of the parts of a call was answered, with this token if with any.
    pub fn answered_in_part(
        &self,
        call: &Call,
        caller: &str,
        to: Option<&Tally>,
        outcome: &'static str,
        token: Option<TokenId>,
    ) {
        self.count(call, caller, to, outcome);
        call.span.event("answered", name(to), outcome, token);
    }

    /// All parts of a call were answered.
    pub fn ended(&self, call: &Call, outcome: &'static str) {
        self.metrics.call_took(call.door, call.began.elapsed());
        call.span.end(End::of(outcome));
    }

    fn count(&self, call: &Call, caller: &str, to: Option<&Tally>, outcome: &'static str) {
        let Call {
            door,
            request_id,
            span,
            ..
        } = call;
        self.metrics.call(*door, to, outcome);
        let trace_id = span.trace_id().map(display);
        debug!(caller, destination = name(to), outcome, door = door.name(), %request_id, trace_id, "answered");
    }
}

/// The configured id of the destination of a call, or nothing.
fn name(to: Option<&Tally>) -> &str {
    to.map_or("", |tally| tally.destination().as_str())
}

impl End {
    /// The end with an outcome: `ok` or a reason code.
    pub fn of(outcome: &'static str) -> Self {
        if outcome == OK {
            Self::Well(outcome)
        } else {
            Self::Badly(outcome)
        }
    }
}
