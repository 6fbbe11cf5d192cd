//! What token endpoints answered, and how fast.

use std::time::Duration;

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::counter::Counter,
    registry::{Registry, Unit},
};

use super::{Metrics, histogram::Histogram, table::Table};

/// Upper bounds of the latency, in seconds. A call to a token endpoint ends after five,
/// unless configured otherwise.
const LATENCIES: [f64; 10] = [0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

#[derive(Debug)]
pub(super) struct Upstream {
    calls: Table<CallLabels, Counter>,
    durations: Table<HostLabels, Histogram>,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, EncodeLabelSet)]
struct CallLabels {
    host: String,
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, EncodeLabelSet)]
struct HostLabels {
    host: String,
}

impl Default for Upstream {
    fn default() -> Self {
        Self {
            calls: Table::default(),
            durations: Table::new(|| Histogram::new(&LATENCIES)),
        }
    }
}

impl Upstream {
    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register(
            "upstream_calls",
            "Calls to token endpoints, by host and outcome (ok, or what was wrong)",
            self.calls.clone(),
        );
        registry.register_with_unit(
            "upstream_call_duration",
            "Time that token endpoints took to answer, or until they were given up",
            Unit::Seconds,
            self.durations.clone(),
        );
    }

    /// Keeps the series of these hosts.
    pub(super) fn keep(&self, is_asked: impl Fn(&str) -> bool) {
        self.calls.keep(|labels| is_asked(&labels.host));
        self.durations.keep(|labels| is_asked(&labels.host));
    }
}

impl Metrics {
    /// A token endpoint answered, or failed to, after this time. `outcome` is `ok` or says
    /// what was wrong.
    pub fn answered(&self, host: &str, outcome: &'static str, took: Duration) {
        let (calls, durations) = (&self.upstream.calls, &self.upstream.durations);
        let host = host.to_owned();
        let labels = HostLabels { host: host.clone() };
        durations.at(&labels).observe(took);
        calls.at(&CallLabels { host, outcome }).inc();
    }
}
