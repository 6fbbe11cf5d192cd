//! The audit trail's records and sinks.

use std::time::Duration;

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, gauge::Gauge},
    registry::{Registry, Unit},
};

use super::{Metrics, histogram::Histogram, table::Table};

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
            waits: Table::new(|| Histogram::new(&WAITS)),
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

/// What is counted of one audit sink.
pub struct Sink {
    written: Counter,
    missed: Counter,
    up: Gauge,
    waits: Histogram,
}

impl Metrics {
    /// What is counted of an audit sink, from nought.
    pub fn sink(&self, sink: &'static str) -> Sink {
        let Trail { records, up, waits } = &self.trail;
        let records = |outcome| records.at(&RecordLabels { sink, outcome });
        let labels = SinkLabels { sink };
        Sink {
            written: records("written"),
            missed: records("missed"),
            up: up.at(&labels),
            waits: waits.at(&labels),
        }
    }
}

impl Sink {
    /// So many events were written.
    pub fn written(&self, count: usize) {
        self.written
            .inc_by(u64::try_from(count).unwrap_or(u64::MAX));
    }

    /// So many events were missed.
    pub fn missed(&self, count: usize) {
        self.missed.inc_by(u64::try_from(count).unwrap_or(u64::MAX));
    }

    /// It takes records, or does not.
    pub fn up(&self, up: bool) {
        self.up.set(up.into());
    }

    /// It has written a batch, whose first record was queued so long before.
    pub fn took(&self, waited: Duration) {
        self.waits.observe(waited);
    }
}
