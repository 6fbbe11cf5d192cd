//! What was read from files: the configuration, and the certificates of the listener.

use std::time::{SystemTime, UNIX_EPOCH};

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, gauge::Gauge},
    registry::{Registry, Unit},
};

use super::{Metrics, table::Table};

#[derive(Debug, Default)]
pub(super) struct Configuration {
    reloads: Table<OutcomeLabels, Counter>,
    last_successful: Gauge,
    last_success: Gauge,
    expiries: Table<ExpiryLabels, Gauge>,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, EncodeLabelSet)]
struct OutcomeLabels {
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, EncodeLabelSet)]
struct ExpiryLabels {
    which: &'static str,
}

impl Configuration {
    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register(
            "reloads",
            "Changed configurations, by outcome (ok or refused)",
            self.reloads.clone(),
        );
        registry.register(
            "config_last_reload_successful",
            "Whether the configuration as it is in the files is in force; the first one counts as well",
            self.last_successful.clone(),
        );
        registry.register_with_unit(
            "config_last_reload_success_timestamp",
            "When a configuration was taken in last, in Unix time",
            Unit::Seconds,
            self.last_success.clone(),
        );
        registry.register_with_unit(
            "certificate_expiry_timestamp",
            "When the first of the listener's certificates or revocation lists runs out, by which (server, client_ca or crl), in Unix time",
            Unit::Seconds,
            self.expiries.clone(),
        );
    }

    fn took_in(&self) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let now = now.unwrap_or_default().as_secs();
        self.last_success
            .set(i64::try_from(now).unwrap_or(i64::MAX));
        self.last_successful.set(1);
    }
}

impl Metrics {
    /// The first configuration was taken in.
    pub fn configured(&self) {
        self.configuration.took_in();
    }

    /// A changed configuration was taken in (`ok`) or `refused`.
    pub fn reloaded(&self, outcome: &'static str) {
        let configuration = &self.configuration;
        configuration.reloads.at(&OutcomeLabels { outcome }).inc();
        if outcome == "ok" {
            configuration.took_in();
        } else {
            configuration.last_successful.set(0);
        }
    }

    /// When the listener's certificates and lists run out, in Unix time.
    pub fn expire(&self, lasts: impl IntoIterator<Item = (&'static str, i64)>) {
        let mut first = std::collections::BTreeMap::<_, Gauge>::new();
        for (which, last) in lasts {
            let labels = ExpiryLabels { which };
            let known = first.get(&labels).map(Gauge::get);
            if known.is_none_or(|known| last < known) {
                let gauge = Gauge::default();
                gauge.set(last);
                first.insert(labels, gauge);
            }
        }
        self.configuration.expiries.replace(first);
    }
}
