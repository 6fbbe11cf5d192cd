//! Whether spans are recorded, and how they begin.

use std::{fmt, sync::Arc, time::Duration};

use http::HeaderMap;
use opentelemetry::{
    Context, InstrumentationScope, KeyValue,
    trace::{
        SpanBuilder, SpanContext, SpanKind, TraceContextExt as _, TraceState, Tracer as _,
        TracerProvider as _,
    },
};
use opentelemetry_sdk::{
    Resource,
    error::OTelSdkResult,
    resource::TelemetryResourceDetector,
    trace::{
        RandomIdGenerator, Sampler, SdkTracer, SdkTracerProvider, Span as SdkSpan, SpanData,
        SpanLimits, SpanProcessor,
    },
};
use tokio::sync::mpsc::{self, error::TrySendError};

use super::{
    Collector, Export, Operation,
    span::{Span, span_context},
};
use crate::{
    metrics::Metrics,
    process,
    trace_context::{TRACESTATE, TraceContext},
};

/// Ended spans that wait for the collector, of about a kilobyte each. More are dropped.
const QUEUE: usize = 2048;
/// What tracing systems keep in a trace is passed on up to so many bytes, which is what they
/// can rely on (W3C Trace Context §3.3.1.5).
const MAX_STATE: usize = 512;

/// Records spans, or none. A clone records to the same place.
#[derive(Clone, Debug, Default)]
pub struct Traces(Option<Arc<Recorder>>);

/// How a flight was launched.
#[derive(Clone, Copy)]
pub enum Launch<'a> {
    /// By a caller who waits for it: it is a part of that call, or a trace of its own where
    /// that stands in none.
    Awaited(&'a Span),
    /// By a caller who goes on without it: it is a trace of its own, linked to that call.
    Behind(&'a Span),
    /// By nobody who called.
    ByItself,
}

/// Where spans are recorded.
pub(super) struct Recorder(SdkTracer);

impl Traces {
    /// Records nothing.
    pub fn off() -> Self {
        Self::default()
    }

    /// Records for a collector, which the export reaches for as long as it is run.
    pub fn to(collector: Collector, metrics: &Arc<Metrics>) -> (Self, Export) {
        let (ended, queue) = mpsc::channel(QUEUE);
        let traces = Self::into(ended, collector.ratio(), Arc::clone(metrics));
        let export = Export::new(queue, collector, &resource(), Arc::clone(metrics));
        (traces, export)
    }

    /// Records everything for a test to read.
    #[cfg(test)]
    pub(crate) fn kept() -> (Self, mpsc::Receiver<SpanData>) {
        Self::kept_of(1.0)
    }

    /// Records this part of the traces that begin here for a test to read.
    #[cfg(test)]
    pub(crate) fn kept_of(ratio: f64) -> (Self, mpsc::Receiver<SpanData>) {
        let (ended, kept) = mpsc::channel(QUEUE);
        (Self::into(ended, ratio, Arc::default()), kept)
    }

    /// Says everything itself that the library would otherwise take from the environment:
    /// who configures the broker decides where its traces go, and nobody else.
    fn into(ended: mpsc::Sender<SpanData>, ratio: f64, metrics: Arc<Metrics>) -> Self {
        let here = Sampler::TraceIdRatioBased(ratio);
        let provider = SdkTracerProvider::builder()
            .with_sampler(Sampler::ParentBased(Box::new(here)))
            .with_span_limits(SpanLimits::default())
            .with_id_generator(RandomIdGenerator::default())
            // It goes with the export, and not with each span.
            .with_resource(Resource::builder_empty().build())
            .with_span_processor(Queue { ended, metrics })
            .build();
        let scope = InstrumentationScope::builder(env!("CARGO_PKG_NAME"))
            .with_version(env!("CARGO_PKG_VERSION"))
            .build();
        Self(Some(Arc::new(Recorder(provider.tracer_with_scope(scope)))))
    }

    /// The span of a call that came with these headers.
    pub(super) fn call(&self, operation: Operation, headers: &HeaderMap) -> Span {
        self.call_in(operation, TraceContext::of(headers), || lines(headers))
    }

    /// The span of a call in this trace, if in any. `state` is what tracing systems keep in
    /// it, and is read only where spans are recorded.
    pub(super) fn call_in(
        &self,
        operation: Operation,
        context: Option<TraceContext>,
        state: impl FnOnce() -> String,
    ) -> Span {
        let Some(recorder) = &self.0 else {
            return Span::of_caller(context);
        };
        let caller = context.map(|context| span_context(context, trace_state(&state()), true));
        let builder = SpanBuilder::from_name(operation.name()).with_kind(SpanKind::Server);
        let span = recorder.begin(builder, caller);
        operation.describe(&span);
        span
    }

    /// The span of a flight.
    pub fn flight(&self, launch: Launch<'_>) -> Span {
        const NAME: &str = "flight";
        if let Launch::Awaited(call) = launch
            && call.context().is_some()
        {
            return call.child(NAME, SpanKind::Internal);
        }
        let Some(recorder) = &self.0 else {
            return Span::none();
        };
        let builder = SpanBuilder::from_name(NAME).with_kind(SpanKind::Internal);
        let span = recorder.begin(builder, None);
        if let Launch::Behind(call) = launch {
            span.link(call.context());
        }
        span
    }
}

impl Recorder {
    /// Begins a span below another one, or a trace.
    pub(super) fn begin(
        self: &Arc<Self>,
        builder: SpanBuilder,
        parent: Option<SpanContext>,
    ) -> Span {
        let mut context = Context::new();
        if let Some(parent) = parent {
            context = context.with_remote_span_context(parent);
        }
        let span = self.0.build_with_context(builder, &context);
        Span::recorded(Arc::clone(self), span)
    }
}

impl fmt::Debug for Recorder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Recorder")
    }
}

/// Takes ended spans in, and never waits.
struct Queue {
    ended: mpsc::Sender<SpanData>,
    metrics: Arc<Metrics>,
}

impl SpanProcessor for Queue {
    fn on_start(&self, _span: &mut SdkSpan, _context: &Context) {}

    fn on_end(&self, span: SpanData) {
        if let Err(TrySendError::Full(_) | TrySendError::Closed(_)) = self.ended.try_send(span) {
            self.metrics.trace_spans("dropped", 1);
        }
    }

    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    fn shutdown_with_timeout(&self, _timeout: Duration) -> OTelSdkResult {
        Ok(())
    }
}

impl fmt::Debug for Queue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Queue")
    }
}

/// Who records.
fn resource() -> Resource {
    let mut builder = Resource::builder_empty()
        .with_detector(Box::new(TelemetryResourceDetector))
        .with_attributes([
            KeyValue::new("service.name", env!("CARGO_PKG_NAME")),
            KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
            KeyValue::new(
                "service.instance.id",
                format!("{:032x}", rand::random::<u128>()),
            ),
        ]);
    let name = process::host_name();
    if !name.is_empty() {
        builder = builder.with_attribute(KeyValue::new("host.name", name));
    }
    builder.build()
}

/// What tracing systems keep in this trace, as the headers have it; empty if that is no text.
fn lines(headers: &HeaderMap) -> String {
    let written = headers.get_all(TRACESTATE).into_iter();
    let lines: Option<Vec<_>> = written.map(|line| line.to_str().ok()).collect();
    lines.unwrap_or_default().join(",")
}

/// The same, if it can be read (W3C Trace Context §3.3).
fn trace_state(state: &str) -> TraceState {
    if state.is_empty() || state.len() > MAX_STATE {
        return TraceState::default();
    }
    state.parse().unwrap_or_default()
}

#[cfg(test)]
mod tests;
