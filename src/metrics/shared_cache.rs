//! What replicas share: what was asked of it, and who they are.

use std::time::Duration;

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, gauge::Gauge},
    registry::{Registry, Unit},
};

use super::{Metrics, histogram::Histogram, table::Table};

/// Upper bounds of the time that the store takes, in seconds.
const LATENCIES: [f64; 10] = [
    0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.25, 1.0,
];

#[derive(Debug)]
pub(super) struct Shared {
    operations: Table<OperationLabels, Counter>,
    durations: Table<DurationLabels, Histogram>,
    up: Gauge,
    replicas: Gauge,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, EncodeLabelSet)]
struct OperationLabels {
    operation: &'static str,
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, EncodeLabelSet)]
struct DurationLabels {
    operation: &'static str,
}

impl Default for Shared {
    fn default() -> Self {
        Self {
            operations: Table::default(),
            durations: Table::new(|| Histogram::new(&LATENCIES)),
            up: Gauge::default(),
            replicas: Gauge::default(),
        }
    }
}

impl Shared {
    pub(super) fn register(&self, registry: &mut Registry) {
        // The first of these is worth an alert, and Prometheus sees no increase without a
        // nought before it.
        for (operation, outcome) in [("open", "forged"), ("adopt", "from_the_future")] {
            self.operations.at(&OperationLabels { operation, outcome });
        }
        registry.register(
            "shared_cache_operations",
            "What was asked of the shared cache and what became of it, by operation and outcome",
            self.operations.clone(),
        );
        registry.register_with_unit(
            "shared_cache_operation_duration",
            "Time that the shared cache took to answer, or until it was given up, by operation",
            Unit::Seconds,
            self.durations.clone(),
        );
        registry.register(
            "shared_cache_up",
            "Whether the shared cache answers; 0 as well where none is configured",
            self.up.clone(),
        );
        registry.register(
            "replicas",
            "Replicas that were heard of lately, this one included; 0 where nothing is shared",
            self.replicas.clone(),
        );
    }
}

impl Metrics {
    /// The shared cache was asked for something, with this outcome.
    pub fn shared_cache(&self, operation: &'static str, outcome: &'static str) {
        let labels = OperationLabels { operation, outcome };
        self.shared.operations.at(&labels).inc();
    }

    /// The shared cache answered, or was given up, after this time.
    pub fn shared_cache_took(&self, operation: &'static str, took: Duration) {
        let labels = DurationLabels { operation };
        self.shared.durations.at(&labels).observe(took);
    }

    /// The shared cache answers, or does not.
    pub fn shared_cache_up(&self, up: bool) {
        self.shared.up.set(up.into());
    }

    /// So many replicas share.
    pub fn replicas(&self, count: usize) {
        self.shared
            .replicas
            .set(i64::try_from(count).unwrap_or(i64::MAX));
    }
}
