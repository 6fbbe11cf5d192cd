//! What the process takes of the machine, by the names that all exporters use, and how busy
//! its runtime is. It is looked at when somebody scrapes.

use std::sync::atomic::{AtomicU64, Ordering};

use prometheus_client::{
    metrics::{counter::Counter, gauge::Gauge},
    registry::{Registry, Unit},
};
use tokio::runtime::Handle;

use crate::process::usage;

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
        let told = usage();
        let registry = registry.sub_registry_with_prefix("process");
        if told.processor.is_some() {
            registry.register_with_unit(
                "cpu",
                "Processor time that the process has taken, of user and system",
                Unit::Seconds,
                self.processor.clone(),
            );
        }
        if told.resident_bytes.is_some() {
            registry.register_with_unit(
                "resident_memory",
                "Memory that the process has in use",
                Unit::Bytes,
                self.resident.clone(),
            );
        }
        if told.virtual_bytes.is_some() {
            registry.register_with_unit(
                "virtual_memory",
                "Addresses that the process has mapped",
                Unit::Bytes,
                self.virtual_size.clone(),
            );
        }
        if told.open_descriptors.is_some() {
            registry.register(
                "open_fds",
                "Descriptors that the process has open",
                self.open_descriptors.clone(),
            );
        }
        registry.register(
            "max_fds",
            "Descriptors that the process may have open",
            self.max_descriptors.clone(),
        );
        if told.started_at.is_some() {
            registry.register_with_unit(
                "start_time",
                "When the process started, in Unix time",
                Unit::Seconds,
                self.started_at.clone(),
            );
        }
    }

    pub(super) fn look(&self) {
        let told = usage();
        if let Some(processor) = told.processor {
            advance(&self.processor, processor.as_secs_f64());
        }
        for (gauge, value) in [
            (&self.resident, told.resident_bytes),
            (&self.virtual_size, told.virtual_bytes),
            (&self.open_descriptors, told.open_descriptors),
            (&self.max_descriptors, Some(told.max_descriptors)),
        ] {
            if let Some(value) = value {
                gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
            }
        }
        if let Some(started_at) = told.started_at {
            self.started_at.set(started_at.as_secs_f64());
        }
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
