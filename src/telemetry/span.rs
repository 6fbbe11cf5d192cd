//! A span, as far as there is one.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use opentelemetry::{
    KeyValue, Value,
    trace::{Span as _, SpanBuilder, SpanContext, SpanKind, Status, TraceFlags, TraceState},
};
use opentelemetry_sdk::trace::Span as SdkSpan;

use super::traces::Recorder;
use crate::{
    token::TokenId,
    trace_context::{SpanId, TraceContext, TraceId},
};

/// The attribute of an outcome: `ok` or another good end, or a reason code.
const OUTCOME: &str = "token_broker.outcome";
/// The attribute of a destination's configured id.
const DESTINATION: &str = "token_broker.destination";

/// The attribute of a token's id.
const TOKEN_ID: &str = "token_broker.token_id";

/// A span, as far as there is one. Where nothing is recorded it only knows the trace that
/// its caller named, for log events. A clone is the same span.
///
/// It ends once, by [`Span::end`], or when nobody has it any more.
#[derive(Clone, Debug, Default)]
pub struct Span {
    context: Option<TraceContext>,
    recorded: Option<Arc<Recorded>>,
}

/// How something ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// As it should, in this way.
    Well(&'static str),
    /// With this reason code.
    Badly(&'static str),
}

#[derive(Debug)]
struct Recorded {
    recorder: Arc<Recorder>,
    open: Mutex<Open>,
}

#[derive(Debug)]
struct Open {
    span: SdkSpan,
    /// How it ends if nobody says so.
    unless_told: End,
    /// Whether a bad end is its caller's to mend.
    blames_caller: bool,
}

impl Span {
    /// No span, in no trace.
    pub const fn none() -> Self {
        Self {
            context: None,
            recorded: None,
        }
    }

    /// No span, in the trace of a caller.
    pub(super) fn of_caller(context: Option<TraceContext>) -> Self {
        Self {
            context,
            recorded: None,
        }
    }

    pub(super) fn recorded(recorder: Arc<Recorder>, span: SdkSpan) -> Self {
        let context = trace_context(span.span_context());
        let open = Mutex::new(Open {
            span,
            unless_told: End::Well("CANCELLED"),
            blames_caller: false,
        });
        Self {
            context,
            recorded: Some(Arc::new(Recorded { recorder, open })),
        }
    }

    /// Where it stands.
    pub fn context(&self) -> Option<TraceContext> {
        self.context
    }

    /// The trace, for log events.
    pub fn trace_id(&self) -> Option<TraceId> {
        self.context.map(|context| context.trace_id)
    }

    /// A call to another program, as a part of this.
    #[must_use]
    pub fn outgoing(&self, name: &'static str) -> Self {
        self.child(name, SpanKind::Client)
    }

    pub(super) fn child(&self, name: &'static str, kind: SpanKind) -> Self {
        let Some(recorded) = &self.recorded else {
            return Self::of_caller(self.context);
        };
        let parent = recorded.open().span.span_context().clone();
        let builder = SpanBuilder::from_name(name).with_kind(kind);
        recorded.recorder.begin(builder, Some(parent))
    }

    /// What passes this trace on to another program: `traceparent` and `tracestate`, where
    /// there is anything to say. Nothing where nothing is recorded.
    pub fn passed_on(&self) -> Option<(String, Option<String>)> {
        let (context, recorded) = (self.context?, self.recorded.as_ref()?);
        let state = recorded.open().span.span_context().trace_state().header();
        Some((context.to_string(), (!state.is_empty()).then_some(state)))
    }

    /// Notes a text, by one of OpenTelemetry's names or one that begins with `token_broker.`.
    pub fn text(&self, key: &'static str, text: impl fmt::Display) {
        self.note(key, || text.to_string().into());
    }

    /// Notes which token it is about. To be said once: the library keeps whatever is noted
    /// again beside what was noted before, and OTLP wants each attribute once.
    pub fn token(&self, id: TokenId) {
        self.text(TOKEN_ID, id);
    }

    /// Notes a name that may be empty where nobody may be told.
    pub(super) fn name_if_any(&self, key: &'static str, name: &str) {
        if !name.is_empty() {
            self.text(key, name);
        }
    }

    /// Notes that something happened with a destination, and with a token of it.
    pub(super) fn event(
        &self,
        name: &'static str,
        destination: &str,
        outcome: &'static str,
        token: Option<TokenId>,
    ) {
        if let Some(mut open) = self.open() {
            let mut attributes = vec![
                KeyValue::new(DESTINATION, destination.to_owned()),
                KeyValue::new(OUTCOME, outcome),
            ];
            attributes.extend(token.map(|id| KeyValue::new(TOKEN_ID, id.to_string())));
            open.span.add_event(name, attributes);
        }
    }

    /// Notes a number.
    pub fn number(&self, key: &'static str, number: u16) {
        self.note(key, || i64::from(number).into());
    }

    /// Links to another span, if that is recorded.
    pub fn link(&self, other: Option<TraceContext>) {
        let (Some(open), Some(other)) = (self.open(), other) else {
            return;
        };
        if other.sampled {
            let other = span_context(other, TraceState::default(), false);
            { open }.span.add_link(other, Vec::new());
        }
    }

    /// A bad end is its caller's to mend, or an operator's, and no error of the broker's.
    pub fn blames_caller(&self) {
        if let Some(mut open) = self.open() {
            open.blames_caller = true;
        }
    }

    /// Ends so unless [`Span::end`] comes first.
    pub fn ends(&self, end: End) {
        if let Some(mut open) = self.open() {
            open.unless_told = end;
        }
    }

    /// Ends, if it has not ended yet.
    pub fn end(&self, end: End) {
        if let Some(mut open) = self.open() {
            open.end(end);
        }
    }

    fn note(&self, key: &'static str, value: impl FnOnce() -> Value) {
        if let Some(mut open) = self.open() {
            open.span.set_attribute(KeyValue::new(key, value()));
        }
    }

    /// The span, if what is noted of it will be exported.
    fn open(&self) -> Option<MutexGuard<'_, Open>> {
        let is_kept = self.context.is_some_and(|context| context.sampled);
        let recorded = self.recorded.as_ref().filter(|_| is_kept)?;
        Some(recorded.open())
    }
}

impl Recorded {
    fn open(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Open {
    fn end(&mut self, end: End) {
        let span = &mut self.span;
        if !span.is_recording() {
            return;
        }
        let (End::Well(outcome) | End::Badly(outcome)) = end;
        span.set_attribute(KeyValue::new(OUTCOME, outcome));
        if let End::Badly(code) = end {
            span.set_attribute(KeyValue::new("error.type", code));
            if !self.blames_caller {
                span.set_status(Status::error(code));
            }
        }
        span.end();
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.end(self.unless_told);
    }
}

/// As the library has it.
pub(super) fn span_context(
    context: TraceContext,
    state: TraceState,
    is_remote: bool,
) -> SpanContext {
    SpanContext::new(
        context.trace_id.0.get().into(),
        context.span_id.0.get().into(),
        TraceFlags::default().with_sampled(context.sampled),
        is_remote,
        state,
    )
}

/// As other programs have it; nothing where the library has none.
fn trace_context(context: &SpanContext) -> Option<TraceContext> {
    let trace_id = u128::from_be_bytes(context.trace_id().to_bytes());
    let span_id = u64::from_be_bytes(context.span_id().to_bytes());
    Some(TraceContext {
        trace_id: TraceId(trace_id.try_into().ok()?),
        span_id: SpanId(span_id.try_into().ok()?),
        sampled: context.is_sampled(),
    })
}
