//! The audit trail: who was given which token, in records that hang together.
//!
//! A record is accepted when one sink has written it, and only then does its token leave.
//! Each sink has an open batch, a chain of its own, and a thread for all that may have to
//! wait. A sink that errs or stalls fails by itself: it costs nobody more than
//! [`Settings::stall_timeout`] once.
//!
//! Written means handed to the system: that survives the end of the process however it
//! comes, but not a power cut. A file is written through to the disk when it ends.

mod at_once;
mod chain;
mod event;
mod file;
mod kind;
mod moment;
mod queue;
mod sink;
mod stream;
pub mod verify;
mod writer;

use std::{
    future::poll_fn,
    io, mem,
    path::PathBuf,
    task::{Poll, Waker},
    time::Duration,
};

use futures_util::future::join_all;
use tracing::debug;

use self::{
    file::{AuditFile, OpenError},
    queue::Queue,
    sink::Sink,
    writer::{Target, Writer},
};
use crate::metrics::Metrics;

pub use event::{Act, Event, Found, HandOut, Heard, Mint};

/// A call has time for another try after this, and a disk for a long write.
pub const DEFAULT_STALL_TIMEOUT: Duration = Duration::from_millis(250);
/// How long a sink that returned an error is left alone. Before that, trying again cannot
/// help a caller either.
pub const RETRY: Duration = Duration::from_secs(1);
/// A file, and standard output.
const MAX_SINKS: usize = 2;

/// What is recorded where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// A regular file, a pipe or a device.
    pub file: Option<PathBuf>,
    /// Whether standard output gets the records.
    pub stdout: bool,
    /// A regular file is followed by another before it is longer than this, in bytes.
    pub max_file_size: u64,
    /// A sink whose oldest record is not written after this time has failed.
    pub stall_timeout: Duration,
    /// What happens to a call that no sink can record.
    pub on_failure: OnFailure,
}

/// What happens to a call that no sink can record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnFailure {
    /// It is refused.
    Refuse,
    /// It is answered all the same.
    Allow,
}

/// No sink has accepted a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no audit sink accepts the record")]
pub struct AuditUnavailable;

/// Why there can be no audit trail.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    /// Another broker writes the file.
    #[error("another broker writes {}: choose another file in [audit]", .0.display())]
    Locked(PathBuf),
    /// There is no thread for a sink.
    #[error("cannot start a thread for the audit trail: {0}")]
    Thread(io::Error),
}

/// The audit trail of one broker.
pub struct Audit {
    sinks: Vec<Sink>,
    on_failure: OnFailure,
}

impl Audit {
    /// No trail at all: everything is accepted.
    pub fn off() -> Self {
        Self {
            sinks: Vec::new(),
            on_failure: OnFailure::Allow,
        }
    }

    /// Starts the sinks, each with a thread and a task. One that cannot be opened is tried
    /// again and again.
    ///
    /// # Errors
    /// [`AuditError`] where trying again would be of no use.
    pub fn start(settings: &Settings, metrics: &Metrics) -> Result<Self, AuditError> {
        let mut sinks = Vec::new();
        let mut start = |name, target, file| {
            let writer = Writer::new(target, settings.max_file_size, file);
            let queue = Queue::new(name, settings.stall_timeout, metrics);
            let sink = Sink::start(name, writer, queue);
            sink.map(|sink| sinks.push(sink))
                .map_err(AuditError::Thread)
        };
        if let Some(path) = &settings.file {
            // Opening a pipe waits for its reader, which is for the sink's own thread.
            let file = (!writer::is_stream(path)).then(|| AuditFile::open(path));
            if let Some(Err(OpenError::Locked)) = file {
                return Err(AuditError::Locked(path.clone()));
            }
            let file = file.and_then(Result::ok);
            start("file", Target::Path(path.clone()), file)?;
        }
        if settings.stdout {
            start("stdout", Target::Stdout, None)?;
        }
        Ok(Self {
            sinks,
            on_failure: settings.on_failure,
        })
    }

    /// Records an event, and returns when the first sink has written it. It takes
    /// [`Settings::stall_timeout`] at most.
    ///
    /// # Errors
    /// [`AuditUnavailable`] when no sink has, and calls without a record are to be refused.
    pub async fn record(&self, event: &Event<'_>) -> Result<(), AuditUnavailable> {
        if self.sinks.is_empty() {
            return Ok(());
        }
        let recorded = self.written(event).await;
        if recorded.is_err() && self.on_failure == OnFailure::Allow {
            debug!("no audit sink accepts the record: going on without it");
            return Ok(());
        }
        recorded
    }

    /// Records an event without waiting. It is in the trail before any event that is
    /// recorded later.
    pub fn note(&self, event: &Event<'_>) {
        if self.sinks.is_empty() {
            return;
        }
        let body = event.body();
        for sink in &self.sinks {
            // Nobody waits for it.
            drop(sink.offer(&body, Waker::noop()));
        }
    }

    /// Whether calls are answered as far as the trail is concerned.
    pub fn accepts(&self) -> bool {
        self.sinks.is_empty()
            || self.on_failure == OnFailure::Allow
            || self.sinks.iter().any(Sink::accepts)
    }

    /// Begins new files.
    pub fn rotate(&self) {
        self.sinks.iter().for_each(Sink::rotate);
    }

    /// Writes what is queued and ends in order. A sink that is stuck is left behind after
    /// this time. Nothing is accepted any more.
    pub async fn close(&self, within: Duration) {
        join_all(self.sinks.iter().map(|sink| sink.close(within))).await;
    }

    async fn written(&self, event: &Event<'_>) -> Result<(), AuditUnavailable> {
        let body = event.body();
        let mut tickets = [const { None }; MAX_SINKS];
        let mut is_offered = false;
        poll_fn(|context| {
            let waker = context.waker();
            let is_first = !mem::replace(&mut is_offered, true);
            for (sink, place) in self.sinks.iter().zip(&mut tickets) {
                if is_first {
                    *place = sink.offer(&body, waker);
                } else if let Some(ticket) = place {
                    match sink.poll(ticket, waker) {
                        Poll::Ready(true) => return Poll::Ready(Ok(())),
                        Poll::Ready(false) => *place = None,
                        Poll::Pending => {}
                    }
                }
            }
            if tickets.iter().all(Option::is_none) {
                return Poll::Ready(Err(AuditUnavailable));
            }
            Poll::Pending
        })
        .await
    }
}

#[cfg(test)]
mod tests;
