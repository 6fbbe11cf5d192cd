//! The records that wait for one sink, and what the sink is up to.
//!
//! Callers add to the open batch. While the sink's thread writes one batch the next one
//! fills, so one write carries as many records as came meanwhile, and nobody makes a
//! system call for a record of their own.

use std::{
    io,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tokio::sync::watch;
use tracing::{error, info};

use super::RETRY;
use crate::metrics::Metrics;

/// So much waits for a sink at most, in bytes.
const MAX_BATCH: usize = 4 * 1024 * 1024;

/// What is between the callers and the thread of one sink.
pub(super) struct Queue {
    name: &'static str,
    metrics: Arc<Metrics>,
    stall_timeout: Duration,
    state: Mutex<State>,
    work: Condvar,
}

struct State {
    condition: Condition,
    open: Batch,
    at_work: Option<AtWork>,
    /// Records that the sink does not have, and that no gap record tells of yet.
    missed: u64,
    /// The thread sleeps, and must be woken for work.
    asleep: bool,
    rotate: bool,
    close: bool,
}

enum Condition {
    Works,
    /// Nothing is queued. It is tried again at this moment, or when the thread comes back.
    Failed(Option<Instant>),
}

/// What the thread is doing.
struct AtWork {
    /// When the oldest record of it was queued.
    since: Instant,
    /// Tells those who wait for it.
    written: Option<watch::Sender<bool>>,
}

/// Records that will be written together.
struct Batch {
    records: Records,
    since: Option<Instant>,
    written: watch::Sender<bool>,
}

/// The bodies of records, one after the other.
#[derive(Default)]
pub(super) struct Records {
    bodies: String,
    ends: Vec<usize>,
}

/// What the thread is to do.
pub(super) enum Job {
    /// Write these records, and before them that so many were missed.
    Write { missed: u64, records: Records },
    /// Begin a new file.
    Rotate,
    /// End in order, and write before that so many were missed.
    Close { missed: u64 },
}

/// A place in a batch.
pub(super) struct Ticket(watch::Receiver<bool>);

impl Queue {
    /// A queue whose thread is opening the sink.
    pub(super) fn new(name: &'static str, stall_timeout: Duration, metrics: Arc<Metrics>) -> Self {
        metrics.audit_sink(name, false);
        // Prometheus sees no increase without a nought before it.
        metrics.audited(name, "missed", 0);
        Self {
            name,
            metrics,
            stall_timeout,
            state: Mutex::new(State {
                condition: Condition::Works,
                open: Batch::new(),
                at_work: Some(AtWork {
                    since: Instant::now(),
                    written: None,
                }),
                missed: 0,
                asleep: false,
                rotate: false,
                close: false,
            }),
            work: Condvar::new(),
        }
    }

    /// Queues a record, unless the sink fails.
    pub(super) fn offer(&self, body: &str) -> Option<Ticket> {
        let now = Instant::now();
        let mut state = self.state();
        let stalled = self.look(&mut state, now);
        let ticket = state.push(body, now);
        let wake = ticket.is_some() && state.asleep;
        // Only the first of a batch wakes the thread.
        state.asleep &= !wake;
        drop(state);
        if wake {
            self.work.notify_one();
        }
        if ticket.is_none() {
            self.metrics.audited(self.name, "missed", 1);
        }
        self.report_stall(stalled.as_ref());
        ticket
    }

    /// Whether records are queued, as far as anybody can know.
    pub(super) fn accepts(&self) -> bool {
        let mut state = self.state();
        let stalled = self.look(&mut state, Instant::now());
        let accepts = state.accepts();
        drop(state);
        self.report_stall(stalled.as_ref());
        accepts
    }

    /// Has the thread begin a new file.
    pub(super) fn rotate(&self) {
        self.state().rotate = true;
        self.work.notify_one();
    }

    /// Has the thread end in order. Nothing is queued any more.
    pub(super) fn close(&self) {
        self.state().close = true;
        self.work.notify_one();
    }

    /// The thread's next job, as soon as there is one.
    pub(super) fn next(&self) -> Job {
        let mut state = self.state();
        loop {
            let now = Instant::now();
            if let Some(job) = state.job(now) {
                return job;
            }
            state.asleep = true;
            state = match state.condition {
                Condition::Failed(Some(retry_at)) => {
                    let wait = retry_at.saturating_duration_since(now);
                    let woken = self.work.wait_timeout(state, wait);
                    woken.unwrap_or_else(PoisonError::into_inner).0
                }
                _ => (self.work.wait(state)).unwrap_or_else(PoisonError::into_inner),
            };
            state.asleep = false;
        }
    }

    /// What became of the thread's job, which held so many records.
    pub(super) fn done(&self, result: io::Result<()>, missed: u64, records: usize) {
        let mut state = self.state();
        let at_work = state.at_work.take();
        let failed = matches!(state.condition, Condition::Failed(_));
        let since = at_work.as_ref().map(|job| job.since);
        match result {
            Ok(()) => {
                state.condition = Condition::Works;
                self.metrics.audit_sink(self.name, true);
                drop(state);
                self.metrics.audited(self.name, "written", records);
                if let Some(since) = since.filter(|_| records > 0) {
                    self.metrics.audit_written(self.name, since.elapsed());
                }
                if failed {
                    info!(sink = self.name, missed, "the audit sink works again");
                }
                if let Some(written) = at_work.and_then(|job| job.written) {
                    written.send_replace(true);
                }
            }
            Err(error) => {
                state.missed += missed + count(records);
                let lost = state.fail(Some(Instant::now() + RETRY));
                self.metrics.audit_sink(self.name, false);
                drop(state);
                let records = records + lost.records.len();
                self.metrics.audited(self.name, "missed", records);
                if !failed {
                    error!(sink = self.name, %error, "the audit sink fails");
                }
            }
        }
    }

    /// What became of a rotation. A sink that failed works again only once it has taken a
    /// record, so that is tried next.
    pub(super) fn rotated(&self, result: io::Result<()>) {
        let mut state = self.state();
        if result.is_err() || matches!(state.condition, Condition::Works) {
            drop(state);
            return self.done(result, 0, 0);
        }
        state.at_work = None;
        state.condition = Condition::Failed(Some(Instant::now()));
    }

    /// Lets a sink fail that has stalled. The metric changes under the same lock, so that
    /// it never says what was before.
    fn look(&self, state: &mut State, now: Instant) -> Option<Stalled> {
        let stalled = state.look(now, self.stall_timeout)?;
        self.metrics.audit_sink(self.name, false);
        Some(stalled)
    }

    fn report_stall(&self, stalled: Option<&Stalled>) {
        let Some(Stalled(lost, _)) = stalled else {
            return;
        };
        let lost = lost.records.len();
        self.metrics.audited(self.name, "missed", lost);
        error!(
            sink = self.name,
            stall_timeout = ?self.stall_timeout,
            "the audit sink has not taken a record for so long: it counts as failed until it does"
        );
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // It is held for a few moves of memory, none of which can leave it half done.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a stalled sink does not get, and those who wait for what it has not written. They
/// are told by dropping it, which is not for a time when the lock is held.
struct Stalled(
    Batch,
    #[expect(dead_code, reason = "dropped")] Option<watch::Sender<bool>>,
);

impl State {
    fn accepts(&self) -> bool {
        matches!(self.condition, Condition::Works) && !self.close
    }

    fn push(&mut self, body: &str, now: Instant) -> Option<Ticket> {
        let full = self.open.records.bodies.len() + body.len() > MAX_BATCH;
        if !self.accepts() || full {
            self.missed += 1;
            return None;
        }
        self.open.since.get_or_insert(now);
        self.open.records.push(body);
        Some(Ticket(self.open.written.subscribe()))
    }

    /// Lets a sink fail whose oldest record has waited for too long.
    fn look(&mut self, now: Instant, stall_timeout: Duration) -> Option<Stalled> {
        let since = match &self.at_work {
            Some(job) => Some(job.since),
            None => self.open.since,
        };
        let stalls = since.is_some_and(|since| now >= since + stall_timeout);
        if !stalls || matches!(self.condition, Condition::Failed(_)) {
            return None;
        }
        let waiters = self.at_work.as_mut().and_then(|job| job.written.take());
        Some(Stalled(self.fail(None), waiters))
    }

    /// Gives up what was queued.
    fn fail(&mut self, retry_at: Option<Instant>) -> Batch {
        self.condition = Condition::Failed(retry_at);
        let lost = std::mem::replace(&mut self.open, Batch::new());
        self.missed += count(lost.records.len());
        lost
    }

    fn job(&mut self, now: Instant) -> Option<Job> {
        let due = match self.condition {
            Condition::Works => self.missed > 0 || !self.open.records.is_empty(),
            Condition::Failed(retry_at) => retry_at.is_none_or(|retry_at| retry_at <= now),
        };
        let mut at_work = AtWork {
            since: now,
            written: None,
        };
        let job = if self.rotate {
            self.rotate = false;
            Job::Rotate
        } else if due && !(self.close && matches!(self.condition, Condition::Failed(_))) {
            let batch = std::mem::replace(&mut self.open, Batch::new());
            at_work = AtWork {
                since: batch.since.unwrap_or(now),
                written: Some(batch.written),
            };
            Job::Write {
                missed: std::mem::take(&mut self.missed),
                records: batch.records,
            }
        } else if self.close {
            Job::Close {
                missed: std::mem::take(&mut self.missed),
            }
        } else {
            return None;
        };
        self.at_work = Some(at_work);
        Some(job)
    }
}

impl Batch {
    fn new() -> Self {
        Self {
            records: Records::default(),
            since: None,
            written: watch::Sender::new(false),
        }
    }
}

impl Records {
    fn push(&mut self, body: &str) {
        self.bodies.push_str(body);
        self.ends.push(self.bodies.len());
    }

    pub(super) fn len(&self) -> usize {
        self.ends.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// How long they are together, in bytes.
    pub(super) fn bytes(&self) -> usize {
        self.bodies.len()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &str> {
        let starts = std::iter::once(&0).chain(&self.ends);
        (starts.zip(&self.ends)).filter_map(|(start, end)| self.bodies.get(*start..*end))
    }
}

impl Ticket {
    /// Waits until the record is written.
    pub(super) async fn written(mut self) -> Result<(), super::AuditUnavailable> {
        let written = self.0.wait_for(|written| *written).await;
        written.map(|_| ()).map_err(|_| super::AuditUnavailable)
    }
}

fn count(records: usize) -> u64 {
    u64::try_from(records).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::DEFAULT_STALL_TIMEOUT as PATIENCE;

    fn queue() -> Queue {
        Queue::new("file", PATIENCE, Arc::new(Metrics::new()))
    }

    fn records(job: &Job) -> (u64, Vec<&str>) {
        match job {
            Job::Write { missed, records } => (*missed, records.iter().collect()),
            _ => panic!("not a batch"),
        }
    }

    fn outcome(ticket: Ticket) -> Option<bool> {
        use futures_util::FutureExt as _;
        ticket.written().now_or_never().map(|result| result.is_ok())
    }

    fn full() -> io::Result<()> {
        Err(io::ErrorKind::StorageFull.into())
    }

    #[test]
    fn what_comes_while_the_sink_writes_is_written_together() {
        let queue = queue();
        let first = queue.offer("a").unwrap();
        queue.done(Ok(()), 0, 0);
        let one = queue.next();
        assert_eq!(records(&one), (0, vec!["a"]));
        let tickets = ["b", "c", "d"].map(|body| queue.offer(body).unwrap());
        queue.done(Ok(()), 0, 1);
        assert_eq!(outcome(first), Some(true));
        // Only those are woken whose batch it was.
        let two = queue.next();
        assert_eq!(records(&two), (0, vec!["b", "c", "d"]));
        let [b, c, d] = tickets;
        assert_eq!(outcome(b), None);
        queue.done(Ok(()), 0, 3);
        assert_eq!((outcome(c), outcome(d)), (Some(true), Some(true)));
    }

    #[test]
    fn an_error_fails_the_sink_at_once_and_all_that_is_missed_is_counted() {
        let queue = queue();
        queue.done(Ok(()), 0, 0);
        let written = queue.offer("a").unwrap();
        let Job::Write { .. } = queue.next() else {
            panic!("not a batch")
        };
        let waiting = queue.offer("b").unwrap();
        queue.done(full(), 0, 1);
        assert_eq!(
            (outcome(written), outcome(waiting)),
            (Some(false), Some(false))
        );
        assert!(queue.offer("c").is_none());
        assert!(!queue.accepts());
        let mut state = queue.state();
        let now = Instant::now();
        assert!(state.job(now).is_none(), "it is left alone for a second");
        let retry = state.job(now + RETRY).unwrap();
        drop(state);
        assert_eq!(records(&retry), (3, vec![]));
        assert!(queue.offer("d").is_none());
        queue.done(Ok(()), 3, 0);
        // What came meanwhile is told of before anything else is written.
        queue.offer("e").unwrap();
        assert_eq!(records(&queue.next()), (1, vec!["e"]));
    }

    #[test]
    fn a_sink_that_does_not_come_back_has_nothing_queued() {
        let queue = queue();
        queue.done(Ok(()), 0, 0);
        let stuck = queue.offer("a").unwrap();
        assert_eq!(records(&queue.next()), (0, vec!["a"]));
        let behind = queue.offer("b").unwrap();
        let late = Instant::now() + PATIENCE;
        let stalled = queue.state().look(late, PATIENCE);
        assert!(stalled.is_some());
        drop(stalled);
        assert_eq!(
            (outcome(stuck), outcome(behind)),
            (Some(false), Some(false))
        );
        assert!(
            queue.state().look(late, PATIENCE).is_none(),
            "it is told once"
        );
        for _ in 0..10 {
            assert!(queue.offer("c").is_none());
        }
        assert_eq!(queue.state().open.records.bytes(), 0);
        // What it wrote in the end is not missed.
        queue.done(Ok(()), 0, 1);
        assert_eq!(records(&queue.next()), (11, vec![]));
    }

    #[test]
    fn a_rotation_alone_does_not_make_a_sink_work_again() {
        let queue = queue();
        queue.done(full(), 0, 0);
        assert!(queue.offer("a").is_none());
        queue.rotate();
        assert!(matches!(queue.next(), Job::Rotate));
        queue.rotated(Ok(()));
        assert!(!queue.accepts());
        assert_eq!(records(&queue.next()), (1, vec![]));
        queue.done(Ok(()), 1, 0);
        assert!(queue.accepts());
    }

    #[test]
    fn what_waits_is_bounded() {
        let queue = queue();
        let body = "x".repeat(1024 * 1024);
        let accepted = (0..10).filter(|_| queue.offer(&body).is_some()).count();
        assert_eq!(accepted, 4);
        queue.done(Ok(()), 0, 0);
        let job = queue.next();
        let (missed, records) = records(&job);
        assert_eq!((missed, records.len()), (6, 4));
    }

    #[test]
    fn a_sink_that_is_closed_writes_what_it_has_and_takes_no_more() {
        let queue = queue();
        queue.done(Ok(()), 0, 0);
        queue.offer("a").unwrap();
        queue.close();
        assert!(queue.offer("b").is_none());
        assert_eq!(records(&queue.next()), (1, vec!["a"]));
        queue.done(Ok(()), 1, 1);
        assert!(matches!(queue.next(), Job::Close { missed: 0 }));
    }
}
