//! What the process takes of the machine, by the names that all exporters use, and how busy
//! its runtime is. It is looked at when somebody scrapes.

use std::sync::atomic::{AtomicU64, Ordering};

use prometheus_client::{
    metrics::{counter::Counter, gauge::Gauge},
    registry::{Registry, Unit},
};
use tokio::runtime::Handle;

use crate::process::{Usage, usage};

type Seconds = Counter<f64, AtomicU64>;

#[derive(Debug, Default)]
pub(super) struct Process {
    processor: Seconds,
    resident: Gauge,
    virtual_size: Gauge,
    open_descriptors: Gauge,
    max_descriptors: Gauge,
    started_at: Gauge<f64, AtomicU64>,
}

#[derive(Debug, Default)]
pub(super) struct Runtime {
    workers: Gauge,
    tasks: Gauge,
    queue: Gauge,
    busy: Seconds,
}

impl Process {
    /// Registers what this system tells.
    pub(super) fn register(&self, registry: &mut Registry) {
        if usage().is_none() {
            return;
        }
        let registry = registry.sub_registry_with_prefix("process");
        registry.register_with_unit(
            "cpu",
            "Processor time that the process has taken, of user and system",
            Unit::Seconds,
            self.processor.clone(),
        );
        registry.register_with_unit(
            "resident_memory",
            "Memory that the process has in use",
            Unit::Bytes,
            self.resident.clone(),
        );
        registry.register_with_unit(
            "virtual_memory",
            "Addresses that the process has mapped",
            Unit::Bytes,
            self.virtual_size.clone(),
        );
        registry.register(
            "open_fds",
            "Descriptors that the process has open",
            self.open_descriptors.clone(),
        );
        registry.register(
            "max_fds",
            "Descriptors that the process may have open",
            self.max_descriptors.clone(),
        );
        registry.register_with_unit(
            "start_time",
            "When the process started, in Unix time",
            Unit::Seconds,
            self.started_at.clone(),
        );
    }

    pub(super) fn look(&self) {
        let Some(Usage {
            processor,
            resident_bytes,
            virtual_bytes,
            open_descriptors,
            max_descriptors,
            started_at,
        }) = usage()
        else {
            return;
        };
        advance(&self.processor, processor.as_secs_f64());
        for (gauge, value) in [
            (&self.resident, resident_bytes),
            (&self.virtual_size, virtual_bytes),
            (&self.open_descriptors, open_descriptors),
            (&self.max_descriptors, max_descriptors),
        ] {
            gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
        }
        self.started_at.set(started_at.as_secs_f64());
    }
}

impl Runtime {
    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register(
            "runtime_workers",
            "Threads that run tasks",
            self.workers.clone(),
        );
        registry.register(
            "runtime_tasks",
            "Tasks that have not ended",
            self.tasks.clone(),
        );
        registry.register(
            "runtime_queue_depth",
            "Tasks that are ready and wait for any of the threads",
            self.queue.clone(),
        );
        registry.register_with_unit(
            "runtime_busy",
            "Time that the threads were at work, all of them together",
            Unit::Seconds,
            self.busy.clone(),
        );
    }

    pub(super) fn look(&self) {
        // Whoever asks outside a runtime has none to look at.
        let Ok(runtime) = Handle::try_current() else {
            return;
        };
        let runtime = runtime.metrics();
        let workers = runtime.num_workers();
        let busy = (0..workers).map(|worker| runtime.worker_total_busy_duration(worker));
        advance(&self.busy, busy.map(|busy| busy.as_secs_f64()).sum());
        for (gauge, value) in [
            (&self.workers, workers),
            (&self.tasks, runtime.num_alive_tasks()),
            (&self.queue, runtime.global_queue_depth()),
        ] {
            gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
        }
    }
}

/// Sets a counter of what something else counts already. The client keeps a fraction as its bits.
fn advance(counter: &Seconds, to: f64) {
    counter.inner().store(to.to_bits(), Ordering::Relaxed);
}
