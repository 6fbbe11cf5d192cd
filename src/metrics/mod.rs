//! What the broker counts, for Prometheus and whatever reads its formats.
//!
//! | file | holds |
//! |---|---|
//! | `calls`, `connections` | what callers met; `door` is where, and `tally` what nearly all calls are |
//! | `destinations` | what there is for them, and the end of series of what is configured no longer |
//! | `flights`, `upstream` | minting, and what token endpoints answered |
//! | `configuration`, `warnings` | what was read from files, and what somebody should see to |
//! | `audit`, `shared_cache`, `spans` | what stands beside |
//! | `process` | what the process takes of the machine |
//! | `table` | the series of one metric |
//! | `histogram` | how long something took |
//! | `format`, `classic` | the text formats, and which of them a scraper wants |
//!
//! Labels hold configured names, hosts of configured endpoints, and words that stand in the
//! code. So nobody from outside can add a series, and what a reload removes takes its series
//! along.

mod audit;
mod calls;
mod classic;
mod configuration;
mod connections;
mod destinations;
mod door;
mod flights;
mod format;
mod histogram;
mod process;
mod shared_cache;
mod spans;
mod table;
mod tally;
mod upstream;
mod warnings;

use std::fmt;

use prometheus_client::{
    encoding::text,
    metrics::{gauge::Gauge, info::Info},
    registry::Registry,
};

pub use self::{
    audit::Sink,
    calls::OK,
    connections::OpenConnection,
    destinations::{Registered, STATES},
    door::Door,
    format::Format,
    tally::Tally,
};
use self::{
    audit::Trail,
    calls::Calls,
    configuration::Configuration,
    connections::Connections,
    destinations::Destinations,
    flights::Flights,
    process::{Process, Runtime},
    shared_cache::Shared,
    spans::Spans,
    upstream::Upstream,
    warnings::Warnings,
};

/// All metrics of one broker.
pub struct Metrics {
    registry: Registry,
    calls: Calls,
    connections: Connections,
    destinations: Destinations,
    flights: Flights,
    upstream: Upstream,
    configuration: Configuration,
    warnings: Warnings,
    trail: Trail,
    shared: Shared,
    spans: Spans,
    process: Process,
    runtime: Runtime,
    ready: Gauge,
}

impl Metrics {
    /// All metrics, at zero.
    pub fn new() -> Self {
        let mut metrics = Self {
            registry: Registry::default(),
            calls: Calls::default(),
            connections: Connections::default(),
            destinations: Destinations::default(),
            flights: Flights::default(),
            upstream: Upstream::default(),
            configuration: Configuration::default(),
            warnings: Warnings::default(),
            trail: Trail::default(),
            shared: Shared::default(),
            spans: Spans::default(),
            process: Process::default(),
            runtime: Runtime::default(),
            ready: Gauge::default(),
        };
        metrics.registry = metrics.register();
        metrics
    }

    fn register(&self) -> Registry {
        let mut registry = Registry::default();
        self.process.register(&mut registry);
        let own = registry.sub_registry_with_prefix("token_broker");
        own.register(
            "build",
            "The version that runs",
            Info::new([("version", env!("CARGO_PKG_VERSION"))]),
        );
        own.register(
            "ready",
            "Whether the broker can hand out tokens, as its readiness probe says",
            self.ready.clone(),
        );
        self.calls.register(own);
        self.connections.register(own);
        self.destinations.register(own);
        self.flights.register(own);
        self.upstream.register(own);
        self.configuration.register(own);
        self.warnings.register(own);
        self.trail.register(own);
        self.shared.register(own);
        self.spans.register(own);
        self.runtime.register(own);
        registry
    }

    /// The broker can hand out tokens, or cannot.
    pub fn ready(&self, ready: bool) {
        self.ready.set(ready.into());
    }

    /// The exposition, in the `OpenMetrics` text format.
    ///
    /// # Errors
    /// Never in practice: a `String` takes every write.
    pub fn exposition(&self) -> Result<String, fmt::Error> {
        self.process.look();
        self.runtime.look();
        let mut out = String::new();
        text::encode(&mut out, &self.registry)?;
        Ok(out)
    }

    /// The exposition, in a format of the reader's choice.
    ///
    /// # Errors
    /// Never in practice, as [`Metrics::exposition`].
    pub fn exposition_in(&self, format: Format) -> Result<String, fmt::Error> {
        let exposition = self.exposition()?;
        Ok(match format {
            Format::OpenMetrics => exposition,
            Format::Classic => classic::from_openmetrics(&exposition),
        })
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}
