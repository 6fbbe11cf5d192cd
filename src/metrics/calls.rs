//! What callers were answered.

use prometheus_client::{encoding::EncodeLabelSet, metrics::counter::Counter, registry::Registry};

use super::{Metrics, table::Table};

#[derive(Debug, Default)]
pub(super) struct Calls {
    answered: Table<CallLabels, Counter>,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, EncodeLabelSet)]
struct CallLabels {
    door: &'static str,
    destination: String,
    outcome: &'static str,
}

impl Calls {
    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register(
            "calls",
            "Calls answered, by door, destination (empty where no token was granted) and outcome (ok or the reason code)",
            self.answered.clone(),
        );
    }

    /// Keeps the series of these destinations.
    pub(super) fn keep(&self, is_destination: impl Fn(&str) -> bool) {
        self.answered
            .keep(|labels| labels.destination.is_empty() || is_destination(&labels.destination));
    }

    /// The counter of one door, destination and outcome. Who counts often may hold on to it.
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
}
