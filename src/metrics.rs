//! What the broker counts, in the Prometheus text format.

use std::{fmt, time::Duration};

use prometheus_client::{
    encoding::{EncodeLabelSet, text},
    metrics::{
        counter::Counter,
        family::{Family, MetricConstructor},
        gauge::Gauge,
        histogram::Histogram,
        info::Info,
    },
    registry::{Registry, Unit},
};

/// Upper bounds of the upstream latency buckets, in seconds. A call to a token endpoint
/// ends after five, unless configured otherwise.
const LATENCY_BUCKETS: [f64; 10] = [0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// Upper bounds of the buckets for whole calls, in seconds: a token at hand takes some
/// microseconds, one that is minted as long as its endpoint.
const CALL_BUCKETS: [f64; 13] = [
    0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.05, 0.25, 1.0, 2.5, 10.0,
];

/// All metrics of one broker. Labels hold configured names, door names and reason
/// codes only, so a caller cannot add a time series.
pub struct Metrics {
    registry: Registry,
    calls: Family<CallLabels, Counter>,
    call_seconds: Family<DoorLabels, Histogram, CallLatency>,
    trace_spans: Family<OutcomeLabels, Counter>,
    mints: Family<MintLabels, Counter>,
    mint_seconds: Family<HostLabels, Histogram, Latency>,
    flights: Gauge,
    connections: Family<OutcomeLabels, Counter>,
    connections_closed: Family<ClosedLabels, Counter>,
    reloads: Family<OutcomeLabels, Counter>,
    open_connections: Gauge,
    expiries: Family<ExpiryLabels, Gauge>,
    runways: Family<TokenLabels, Gauge>,
    warnings: Family<WarningLabels, Gauge>,
    audit_records: Family<AuditLabels, Counter>,
    audit_sinks: Family<SinkLabels, Gauge>,
    shared_cache: Family<SharedCacheLabels, Counter>,
    shared_cache_up: Gauge,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CallLabels {
    door: &'static str,
    destination: String,
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DoorLabels {
    door: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct MintLabels {
    destination: String,
    application: String,
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct HostLabels {
    host: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabels {
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ClosedLabels {
    reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ExpiryLabels {
    which: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct TokenLabels {
    destination: String,
    application: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct WarningLabels {
    destination: String,
    application: String,
    warning: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct AuditLabels {
    sink: &'static str,
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct SinkLabels {
    sink: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct SharedCacheLabels {
    operation: &'static str,
    outcome: &'static str,
}

#[derive(Clone)]
struct Latency;

impl MetricConstructor<Histogram> for Latency {
    fn new_metric(&self) -> Histogram {
        Histogram::new(LATENCY_BUCKETS)
    }
}

#[derive(Clone)]
struct CallLatency;

impl MetricConstructor<Histogram> for CallLatency {
    fn new_metric(&self) -> Histogram {
        Histogram::new(CALL_BUCKETS)
    }
}

impl Metrics {
    /// All metrics, at zero.
    pub fn new() -> Self {
        let mut registry = Registry::with_prefix("token_broker");
        let metrics = Self {
            calls: Family::default(),
            call_seconds: Family::new_with_constructor(CallLatency),
            trace_spans: Family::default(),
            mints: Family::default(),
            mint_seconds: Family::new_with_constructor(Latency),
            flights: Gauge::default(),
            connections: Family::default(),
            connections_closed: Family::default(),
            reloads: Family::default(),
            open_connections: Gauge::default(),
            expiries: Family::default(),
            runways: Family::default(),
            warnings: Family::default(),
            audit_records: Family::default(),
            audit_sinks: Family::default(),
            shared_cache: Family::default(),
            shared_cache_up: Gauge::default(),
            registry: Registry::default(),
        };
        metrics.register_calls(&mut registry);
        registry.register(
            "mints",
            "Flights landed, by destination, application and outcome (ok, shared where another replica had a token, ignored because of a quarantine, or the reason code, also of a failure of another replica)",
            metrics.mints.clone(),
        );
        registry.register_with_unit(
            "mint_duration",
            "Time that token endpoints took to answer",
            Unit::Seconds,
            metrics.mint_seconds.clone(),
        );
        registry.register(
            "flights_in_progress",
            "Flights under way",
            metrics.flights.clone(),
        );
        registry.register(
            "connections",
            "Connections accepted, by what became of them: ok, or why they were refused",
            metrics.connections.clone(),
        );
        registry.register(
            "connections_closed",
            "Connections that ended, by reason",
            metrics.connections_closed.clone(),
        );
        registry.register(
            "reloads",
            "Changed configurations, by outcome (ok or refused)",
            metrics.reloads.clone(),
        );
        registry.register(
            "connections_open",
            "Connections open now",
            metrics.open_connections.clone(),
        );
        registry.register_with_unit(
            "certificate_expiry_timestamp",
            "When the first of the listener's certificates or revocation lists runs out, by which (server, client_ca or crl)",
            Unit::Seconds,
            metrics.expiries.clone(),
        );
        registry.register_with_unit(
            "runway",
            "How long until the first caller would fail if the upstream were gone, for tokens that somebody asked for",
            Unit::Seconds,
            metrics.runways.clone(),
        );
        registry.register(
            "warnings",
            "1 while an operator should see to something; destination and application are empty for the listener's certificates",
            metrics.warnings.clone(),
        );
        registry.register(
            "audit_records",
            "Events for the audit trail, by sink (file or stdout) and outcome (written or missed)",
            metrics.audit_records.clone(),
        );
        registry.register(
            "audit_sink_up",
            "Whether an audit sink takes records, by sink",
            metrics.audit_sinks.clone(),
        );
        metrics.register_shared_cache(&mut registry);
        registry.register(
            "build",
            "The version that runs",
            Info::new([("version", env!("CARGO_PKG_VERSION"))]),
        );
        Self {
            registry,
            ..metrics
        }
    }

    fn register_calls(&self, registry: &mut Registry) {
        registry.register(
            "calls",
            "Calls answered, by door, destination (empty where no token was granted) and outcome (ok or the reason code)",
            self.calls.clone(),
        );
        registry.register_with_unit(
            "call_duration",
            "Time that calls took to be answered, by door; streams are not among them",
            Unit::Seconds,
            self.call_seconds.clone(),
        );
        registry.register(
            "trace_spans",
            "Spans that ended, by what became of them: exported, rejected by the collector, failed, or dropped because too many waited",
            self.trace_spans.clone(),
        );
    }

    fn register_shared_cache(&self, registry: &mut Registry) {
        registry.register(
            "shared_cache_operations",
            "What was asked of the shared cache and what became of it, by operation and outcome",
            self.shared_cache.clone(),
        );
        registry.register(
            "shared_cache_up",
            "Whether the shared cache answers; 0 as well where none is configured",
            self.shared_cache_up.clone(),
        );
    }

    /// A call was answered. `destination` is the configured id, or empty when the caller
    /// was not granted it; `outcome` is `ok` or a reason code.
    pub fn call(&self, door: &'static str, destination: &str, outcome: &'static str) {
        let labels = CallLabels {
            door,
            destination: destination.to_owned(),
            outcome,
        };
        self.calls.get_or_create(&labels).inc();
    }

    /// A call was answered after this time. Streams are no such calls.
    pub fn call_took(&self, door: &'static str, took: Duration) {
        self.call_seconds
            .get_or_create(&DoorLabels { door })
            .observe(took.as_secs_f64());
    }

    /// So many spans were `exported`, `rejected`, `failed` or `dropped`.
    pub fn trace_spans(&self, outcome: &'static str, count: usize) {
        let count = u64::try_from(count).unwrap_or(u64::MAX);
        self.trace_spans
            .get_or_create(&OutcomeLabels { outcome })
            .inc_by(count);
    }

    /// A flight was launched.
    pub fn launched(&self) {
        self.flights.inc();
    }

    /// A flight landed.
    pub fn landed(&self, destination: &str, application: &str, outcome: &'static str) {
        self.flights.dec();
        let labels = MintLabels {
            destination: destination.to_owned(),
            application: application.to_owned(),
            outcome,
        };
        self.mints.get_or_create(&labels).inc();
    }

    /// A token endpoint answered, or failed to, after this time.
    pub fn answered(&self, host: &str, took: Duration) {
        let labels = HostLabels {
            host: host.to_owned(),
        };
        self.mint_seconds
            .get_or_create(&labels)
            .observe(took.as_secs_f64());
    }

    /// A changed configuration was taken in (`ok`) or `refused`.
    pub fn reloaded(&self, outcome: &'static str) {
        self.reloads.get_or_create(&OutcomeLabels { outcome }).inc();
    }

    /// When the listener's certificates and lists run out, in Unix time.
    pub fn expire(&self, lasts: impl IntoIterator<Item = (&'static str, i64)>) {
        self.expiries.clear();
        for (which, last) in lasts {
            let labels = ExpiryLabels { which };
            let gauge = self.expiries.get_or_create(&labels);
            if gauge.get() == 0 || last < gauge.get() {
                gauge.set(last);
            }
        }
    }

    /// How long until the first caller of a token would fail; nothing where nobody asked.
    pub fn runway(&self, destination: &str, application: &str, runway: Option<Duration>) {
        let labels = TokenLabels {
            destination: destination.to_owned(),
            application: application.to_owned(),
        };
        match runway {
            Some(runway) => {
                let seconds = i64::try_from(runway.as_secs()).unwrap_or(i64::MAX);
                self.runways.get_or_create(&labels).set(seconds);
            }
            None => {
                self.runways.remove(&labels);
            }
        }
    }

    /// A warning begins to last, or ends.
    pub fn warn(&self, destination: &str, application: &str, warning: &'static str, lasts: bool) {
        let labels = WarningLabels {
            destination: destination.to_owned(),
            application: application.to_owned(),
            warning,
        };
        if lasts {
            self.warnings.get_or_create(&labels).set(1);
        } else {
            self.warnings.remove(&labels);
        }
    }

    /// So many events were `written` by an audit sink, or `missed` by it.
    pub fn audited(&self, sink: &'static str, outcome: &'static str, count: usize) {
        let labels = AuditLabels { sink, outcome };
        let count = u64::try_from(count).unwrap_or(u64::MAX);
        self.audit_records.get_or_create(&labels).inc_by(count);
    }

    /// An audit sink takes records, or does not.
    pub fn audit_sink(&self, sink: &'static str, up: bool) {
        let gauge = self.audit_sinks.get_or_create(&SinkLabels { sink });
        gauge.set(up.into());
    }

    /// The shared cache was asked for something, with this outcome.
    pub fn shared_cache(&self, operation: &'static str, outcome: &'static str) {
        let labels = SharedCacheLabels { operation, outcome };
        self.shared_cache.get_or_create(&labels).inc();
    }

    /// The shared cache answers, or does not.
    pub fn shared_cache_up(&self, up: bool) {
        self.shared_cache_up.set(up.into());
    }

    /// A connection that was open has ended.
    pub fn closed(&self, reason: &'static str) {
        self.connections_closed
            .get_or_create(&ClosedLabels { reason })
            .inc();
    }

    /// A connection got through its handshake, or was refused for the reason given.
    pub fn connection(&self, outcome: &'static str) {
        self.connections
            .get_or_create(&OutcomeLabels { outcome })
            .inc();
    }

    /// Counts a connection as open until the guard is dropped.
    pub fn open_connection(&self) -> OpenConnection {
        self.open_connections.inc();
        OpenConnection(self.open_connections.clone())
    }

    /// The exposition, in the `OpenMetrics` text format.
    ///
    /// # Errors
    /// Never in practice: a `String` takes every write.
    pub fn exposition(&self) -> Result<String, fmt::Error> {
        let mut out = String::new();
        text::encode(&mut out, &self.registry)?;
        Ok(out)
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

/// An open connection, for as long as it lives.
pub struct OpenConnection(Gauge);

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.0.dec();
    }
}
