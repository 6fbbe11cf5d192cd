//! What an operator should see to.

use prometheus_client::{encoding::EncodeLabelSet, metrics::gauge::Gauge, registry::Registry};

use super::{Metrics, table::Table};

#[derive(Debug, Default)]
pub(super) struct Warnings {
    current: Table<WarningLabels, Gauge>,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, EncodeLabelSet)]
struct WarningLabels {
    destination: String,
    application: String,
    warning: &'static str,
}

impl Warnings {
    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register(
            "warnings",
            "1 while an operator should see to something; destination and application are empty for what is of none of them",
            self.current.clone(),
        );
    }
}

impl Metrics {
    /// A warning begins to last, or ends.
    pub fn warn(&self, destination: &str, application: &str, warning: &'static str, lasts: bool) {
        let labels = WarningLabels {
            destination: destination.to_owned(),
            application: application.to_owned(),
            warning,
        };
        if lasts {
            self.warnings.current.at(&labels).set(1);
        } else {
            self.warnings.current.remove(&labels);
        }
    }
}
