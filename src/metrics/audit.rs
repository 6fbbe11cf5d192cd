//! The audit trail's records and sinks.

use std::time::Duration;

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, gauge::Gauge, histogram::Histogram},
    registry::{Registry, Unit},
};

use super::{Metrics, table::Table};

/// Upper bounds of how long records wait to be written, in seconds. A token waits as long.
const WAITS: [f64; 10] = [
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.01, 0.05, 0.25, 1.0, 5.0,
];

#[derive(Debug)]
pub(super) struct Trail {
    records: Table<RecordLabels, Counter>,
    up: Table<SinkLabels, Gauge>,
    waits: Table<SinkLabels, Histogram>,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, EncodeLabelSet)]
struct RecordLabels {
    sink: &'static str,
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, EncodeLabelSet)]
struct SinkLabels {
    sink: &'static str,
}

impl Default for Trail {
    fn default() -> Self {
        Self {
            records: Table::default(),
            up: Table::default(),
            waits: Table::new(|| Histogram::new(WAITS)),
        }
    }
}

impl Trail {
    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register(
            "audit_records",
            "Events for the audit trail, by sink (file or stdout) and outcome (written or missed)",
            self.records.clone(),
        );
        registry.register(
            "audit_sink_up",
            "Whether an audit sink takes records, by sink",
            self.up.clone(),
        );
        registry.register_with_unit(
            "audit_write_duration",
            "Time from when a batch's first record was queued until the sink had written the batch, by sink",
            Unit::Seconds,
            self.waits.clone(),
        );
    }
}

impl Metrics {
    /// So many events were `written` by an audit sink, or `missed` by it.
    pub fn audited(&self, sink: &'static str, outcome: &'static str, count: usize) {
        let count = u64::try_from(count).unwrap_or(u64::MAX);
        let labels = RecordLabels { sink, outcome };
        self.trail.records.at(&labels).inc_by(count);
    }

    /// An audit sink takes records, or does not.
    pub fn audit_sink(&self, sink: &'static str, up: bool) {
        self.trail.up.at(&SinkLabels { sink }).set(up.into());
    }

    /// An audit sink has written a batch, whose first record was queued so long before.
    pub fn audit_written(&self, sink: &'static str, waited: Duration) {
        let waits = self.trail.waits.at(&SinkLabels { sink });
        waits.observe(waited.as_secs_f64());
    }
}
