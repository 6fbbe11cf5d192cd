//! Tries to mint a token, and how late they were.

use std::time::Duration;

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, gauge::Gauge},
    registry::{Registry, Unit},
};

use super::{Metrics, histogram::Histogram, table::Table};
use crate::destination::{ApplicationName, DestinationId};

/// Upper bounds of the lag of refreshes, in seconds: from one answer of a token endpoint to
/// an outage that lasts longer than most tokens live.
const LAGS: [f64; 11] = [
    0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 1800.0, 3600.0, 7200.0,
];

#[derive(Debug)]
pub(super) struct Flights {
    mints: Table<MintLabels, Counter>,
    in_progress: Gauge,
    lag: Histogram,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, EncodeLabelSet)]
struct MintLabels {
    destination: DestinationId,
    application: ApplicationName,
    outcome: &'static str,
}

impl Default for Flights {
    fn default() -> Self {
        Self {
            mints: Table::default(),
            in_progress: Gauge::default(),
            lag: Histogram::new(&LAGS),
        }
    }
}

impl Flights {
    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register(
            "mints",
            "Flights landed, by destination, application and outcome (ok, shared where another replica had a token, ignored because of a quarantine, or the reason code, also of a failure of another replica)",
            self.mints.clone(),
        );
        registry.register(
            "flights_in_progress",
            "Flights under way",
            self.in_progress.clone(),
        );
        registry.register_with_unit(
            "refresh_lag",
            "How long after it was due the successor of a token came, for tokens that were kept fresh",
            Unit::Seconds,
            self.lag.clone(),
        );
    }

    /// Keeps the series of these destinations and applications.
    pub(super) fn keep(&self, is_registered: impl Fn(&DestinationId, &ApplicationName) -> bool) {
        self.mints
            .keep(|labels| is_registered(&labels.destination, &labels.application));
    }
}

impl Metrics {
    /// A flight was launched.
    pub fn launched(&self) {
        self.flights.in_progress.inc();
    }

    /// A flight landed.
    pub fn landed(
        &self,
        destination: &DestinationId,
        application: &ApplicationName,
        outcome: &'static str,
    ) {
        self.flights.in_progress.dec();
        let labels = MintLabels {
            destination: destination.clone(),
            application: application.clone(),
            outcome,
        };
        self.flights.mints.at(&labels).inc();
    }

    /// The successor of a token came so long after it was due.
    pub fn refreshed(&self, lag: Duration) {
        self.flights.lag.observe(lag);
    }
}
