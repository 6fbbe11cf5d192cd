//! What became of spans.

use prometheus_client::{encoding::EncodeLabelSet, metrics::counter::Counter, registry::Registry};

use super::{Metrics, table::Table};

#[derive(Debug, Default)]
pub(super) struct Spans {
    ended: Table<SpanLabels, Counter>,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, EncodeLabelSet)]
struct SpanLabels {
    outcome: &'static str,
}

impl Spans {
    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register(
            "trace_spans",
            "Spans that ended, by what became of them: exported, rejected by the collector, failed, or dropped because too many waited",
            self.ended.clone(),
        );
    }
}

impl Metrics {
    /// So many spans were `exported`, `rejected`, `failed` or `dropped`.
    pub fn trace_spans(&self, outcome: &'static str, count: usize) {
        let count = u64::try_from(count).unwrap_or(u64::MAX);
        self.spans.ended.at(&SpanLabels { outcome }).inc_by(count);
    }
}
