//! What callers were answered.

use std::{fmt, sync::Arc, time::Duration};

use prometheus_client::{
    encoding::{EncodeLabelSet, EncodeMetric, MetricEncoder},
    metrics::{MetricType, counter::Counter},
    registry::{Registry, Unit},
};

use super::{
    Door, Metrics,
    histogram::Histogram,
    table::Table,
    tally::{Tallies, Tally},
};
use crate::destination::DestinationId;

/// How a call that was answered as asked ended.
pub const OK: &str = "ok";

/// Upper bounds of the buckets for whole calls, in seconds: a token at hand takes some
/// microseconds, one that is minted as long as its endpoint.
const CALL_BUCKETS: [f64; 13] = [
    0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.05, 0.25, 1.0, 2.5, 10.0,
];

#[derive(Debug, Default)]
pub(super) struct Calls {
    answered: Answered,
    durations: Durations,
}

/// Every call by door, destination and outcome.
#[derive(Clone, Debug, Default)]
struct Answered {
    /// What nearly all calls are: those to a destination, answered as asked.
    well: Tallies,
    otherwise: Table<CallLabels, Counter>,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, EncodeLabelSet)]
struct CallLabels {
    door: &'static str,
    /// None where no token was granted.
    destination: Option<DestinationId>,
    outcome: &'static str,
}

/// How long calls took, by door. A door has a series once it has answered.
#[derive(Clone, Debug)]
struct Durations(Arc<[Histogram; Door::ALL.len()]>);

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

    /// Ends the series of destinations whose calls are counted no more.
    pub(super) fn keep(&self) {
        let Answered { well, otherwise } = &self.answered;
        well.keep();
        otherwise.keep(|labels| labels.destination.as_ref().is_none_or(|id| well.has(id)));
    }

    pub(super) fn tallies(&self) -> &Tallies {
        &self.answered.well
    }
}

impl Metrics {
    /// A call was answered. It is told where calls to its destination are counted, unless
    /// the caller was not granted it; `outcome` is [`OK`] or a reason code.
    pub fn call(&self, door: Door, to: Option<&Tally>, outcome: &'static str) {
        if let Some(tally) = to
            && outcome == OK
        {
            return tally.count(door);
        }
        let labels = CallLabels {
            door: door.name(),
            destination: to.map(|tally| tally.destination().clone()),
            outcome,
        };
        self.calls.answered.otherwise.at(&labels).inc();
    }

    /// A call was answered after this time. Streams are no such calls.
    pub fn call_took(&self, door: Door, took: Duration) {
        door.of(&self.calls.durations.0).observe(took);
    }
}

impl EncodeMetric for Answered {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> fmt::Result {
        let mut series = self.otherwise.series();
        for (door, destination, count) in self.well.series() {
            let labels = CallLabels {
                door: door.name(),
                destination: Some(destination),
                outcome: OK,
            };
            series.entry(labels).or_default().inc_by(count);
        }
        for (labels, count) in &series {
            count.encode(encoder.encode_family(labels)?)?;
        }
        Ok(())
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Counter
    }
}

impl EncodeMetric for Durations {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> fmt::Result {
        for (door, durations) in Door::ALL.into_iter().zip(&*self.0) {
            if !durations.is_empty() {
                let labels = [("door", door.name())];
                durations.encode(encoder.encode_family(&labels)?)?;
            }
        }
        Ok(())
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Histogram
    }
}

impl Default for Durations {
    fn default() -> Self {
        Self(Arc::new(Door::ALL.map(|_| Histogram::new(&CALL_BUCKETS))))
    }
}
