//! Connections of callers, from the handshake to the end.

use std::time::Duration;

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, gauge::Gauge},
    registry::{Registry, Unit},
};

use super::{Metrics, histogram::Histogram, table::Table};

/// Upper bounds of the time that handshakes take, in seconds. They are given up after three.
const HANDSHAKES: [f64; 10] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 3.0];

#[derive(Debug)]
pub(super) struct Connections {
    accepted: Table<OutcomeLabels, Counter>,
    closed: Table<ClosedLabels, Counter>,
    open: Gauge,
    limit: Gauge,
    handshakes: Histogram,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, EncodeLabelSet)]
struct OutcomeLabels {
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, EncodeLabelSet)]
struct ClosedLabels {
    reason: &'static str,
}

/// An open connection, for as long as it lives.
pub struct OpenConnection(Gauge);

impl Default for Connections {
    fn default() -> Self {
        Self {
            accepted: Table::default(),
            closed: Table::default(),
            open: Gauge::default(),
            limit: Gauge::default(),
            handshakes: Histogram::new(&HANDSHAKES),
        }
    }
}

impl Connections {
    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register(
            "connections",
            "Connections accepted, by what became of them: ok, or why they were refused",
            self.accepted.clone(),
        );
        registry.register(
            "connections_closed",
            "Connections that ended, by reason",
            self.closed.clone(),
        );
        registry.register(
            "connections_open",
            "Connections open now",
            self.open.clone(),
        );
        registry.register(
            "connections_limit",
            "Connections that may be open at once",
            self.limit.clone(),
        );
        registry.register_with_unit(
            "handshake_duration",
            "Time that TLS handshakes took which came to an end, good or bad",
            Unit::Seconds,
            self.handshakes.clone(),
        );
    }
}

impl Metrics {
    /// A connection got through its handshake, or was refused for the reason given.
    pub fn connection(&self, outcome: &'static str) {
        self.connections
            .accepted
            .at(&OutcomeLabels { outcome })
            .inc();
    }

    /// A handshake came to an end after this time.
    pub fn shook_hands(&self, took: Duration) {
        self.connections.handshakes.observe(took);
    }

    /// Counts a connection as open until the guard is dropped.
    pub fn open_connection(&self) -> OpenConnection {
        self.connections.open.inc();
        OpenConnection(self.connections.open.clone())
    }

    /// A connection that was open has ended.
    pub fn closed(&self, reason: &'static str) {
        self.connections.closed.at(&ClosedLabels { reason }).inc();
    }

    /// So many connections may be open at once.
    pub fn limit_connections(&self, limit: usize) {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        self.connections.limit.set(limit);
    }
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.0.dec();
    }
}
