//! Tries to mint a token, and how late they were.

use std::{cmp::Ordering, fmt, sync::Arc, time::Duration};

use prometheus_client::{
    encoding::{EncodeLabelSet, LabelSetEncoder},
    metrics::{counter::Counter, gauge::Gauge},
    registry::{Registry, Unit},
};

use super::{Metrics, destinations::labels, histogram::Histogram, table::Table};
use crate::destination::{ApplicationName, DestinationId, TokenKey};

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

/// There may be ten thousand of them, so their texts are those of the key.
#[derive(Clone, Debug)]
struct MintLabels {
    key: Arc<TokenKey>,
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

    /// Keeps the series of these.
    pub(super) fn keep(&self, is_registered: impl Fn(&TokenKey) -> bool) {
        self.mints.keep(|labels| is_registered(&labels.key));
    }
}

impl MintLabels {
    /// Keys that differ in more than their name have a series in common.
    fn name(&self) -> (&DestinationId, &ApplicationName, &str) {
        let (destination, application) = self.key.name();
        (destination, application, self.outcome)
    }
}

impl EncodeLabelSet for MintLabels {
    fn encode(&self, encoder: &mut LabelSetEncoder<'_>) -> fmt::Result {
        let [destination, application] = labels(&self.key);
        [destination, application, ("outcome", self.outcome)].encode(encoder)
    }
}

impl PartialEq for MintLabels {
    fn eq(&self, other: &Self) -> bool {
        self.name() == other.name()
    }
}

impl Eq for MintLabels {}

impl PartialOrd for MintLabels {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for MintLabels {
    fn cmp(&self, other: &Self) -> Ordering {
        self.name().cmp(&other.name())
    }
}

impl Metrics {
    /// A flight was launched.
    pub fn launched(&self) {
        self.flights.in_progress.inc();
    }

    /// A flight landed.
    pub fn landed(&self, key: &Arc<TokenKey>, outcome: &'static str) {
        self.flights.in_progress.dec();
        let key = Arc::clone(key);
        self.flights.mints.at(&MintLabels { key, outcome }).inc();
    }

    /// The successor of a token came so long after it was due.
    pub fn refreshed(&self, lag: Duration) {
        self.flights.lag.observe(lag);
    }
}
