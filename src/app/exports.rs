//! The task that brings spans to the collector, from the start to the stop.

use std::sync::Arc;

use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    metrics::Metrics,
    telemetry::{Collector, Export, Traces},
};

/// What brings spans to the collector, if there is one.
#[derive(Default)]
pub(super) struct Exports {
    tasks: TaskTracker,
    stop: CancellationToken,
}

/// Where spans are recorded, and what is to bring them to the collector.
pub(super) fn traces(
    collector: Option<&Collector>,
    metrics: &Arc<Metrics>,
) -> (Traces, Option<Export>) {
    let Some(collector) = collector else {
        return (Traces::off(), None);
    };
    let (traces, export) = Traces::to(collector.clone(), metrics);
    (traces, Some(export))
}

impl Exports {
    /// Begins to export.
    pub(super) fn begin(export: Option<Export>) -> Self {
        let exports = Self::default();
        if let Some(export) = export {
            exports.tasks.spawn(export.run(exports.stop.clone()));
        }
        exports
    }

    /// Exports what is left, but not for long. To be called when no span ends any more.
    pub(super) async fn end(self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}
