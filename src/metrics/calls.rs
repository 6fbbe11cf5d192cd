//! What callers were answered.

use std::time::Duration;

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, histogram::Histogram},
    registry::{Registry, Unit},
};

use super::{Metrics, table::Table};

/// Upper bounds of the buckets for whole calls, in seconds: a token at hand takes some
/// microseconds, one that is minted as long as its endpoint.
const CALL_BUCKETS: [f64; 13] = [
    0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.05, 0.25, 1.0, 2.5, 10.0,
];

#[derive(Debug)]
pub(super) struct Calls {
    answered: Table<CallLabels, Counter>,
    durations: Table<DoorLabels, Histogram>,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, EncodeLabelSet)]
struct CallLabels {
    door: &'static str,
    destination: String,
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, EncodeLabelSet)]
struct DoorLabels {
    door: &'static str,
}

impl Default for Calls {
    fn default() -> Self {
        Self {
            answered: Table::default(),
            durations: Table::new(|| Histogram::new(CALL_BUCKETS)),
        }
    }
}

impl Calls {
    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register(
            "calls",
            "Calls answered, by door, destination (empty where no token was granted) and outcome (ok or the reason code)",
            self.answered.clone(),
        );
        registry.register_with_unit(
            "call_duration",
            "Time that calls took to be answered, by door; streams are not among them",
            Unit::Seconds,
            self.durations.clone(),
        );
    }

    /// Keeps the series of these destinations.
    pub(super) fn keep(&self, is_destination: impl Fn(&str) -> bool) {
        self.answered
            .keep(|labels| labels.destination.is_empty() || is_destination(&labels.destination));
    }

    /// The counter of one door, destination and outcome.
    fn counter(&self, door: &'static str, destination: &str, outcome: &'static str) -> Counter {
        self.answered.at(&CallLabels {
            door,
            destination: destination.to_owned(),
            outcome,
        })
    }
}

impl Metrics {
    /// A call was answered. `destination` is the configured id, or empty when the caller
    /// was not granted it; `outcome` is `ok` or a reason code.
    pub fn call(&self, door: &'static str, destination: &str, outcome: &'static str) {
        self.calls.counter(door, destination, outcome).inc();
    }

    /// A call was answered after this time. Streams are no such calls.
    pub fn call_took(&self, door: &'static str, took: Duration) {
        self.calls
            .durations
            .at(&DoorLabels { door })
            .observe(took.as_secs_f64());
    }
}
