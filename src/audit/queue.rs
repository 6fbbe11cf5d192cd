//! The records that wait for one sink, and what the sink is up to.
//!
//! Callers add to the open batch. Whoever attends to the queue lets it fill with what else
//! is ready in the same round of the runtime, and then has it written: at once where that
//! takes no waiting, or by the sink's thread; meanwhile the next one begins. So one write
//! carries as many records as came meanwhile, and nobody makes a system call for a record
//! of their own.

use std::{
    future::poll_fn,
    io,
    pin::pin,
    sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError},
    task::{Poll, Waker},
    time::{Duration, Instant},
};

use tokio::{
    sync::oneshot,
    task::yield_now,
    time::{self, sleep},
};
use tracing::{error, info};

use super::RETRY;
use crate::metrics::{self, Metrics};

/// So much waits for a sink at most, in bytes.
const MAX_BATCH: usize = 4 * 1024 * 1024;

/// What is between the callers and the thread of one sink.
pub(super) struct Queue {
    name: &'static str,
    metrics: metrics::Sink,
    stall_timeout: Duration,
    state: Mutex<State>,
    work: Condvar,
}

#[expect(
    clippy::struct_excessive_bools,
    reason = "each is asked and set by itself"
)]
struct State {
    condition: Condition,
    open: Batch,
    /// The open batch is not to be written yet: whoever attends is about to release it.
    held: bool,
    /// Whoever attends waits for the first record of a batch.
    attendant: Option<Waker>,
    at_work: Option<AtWork>,
    /// What is at work and has come to the thread, since it takes waiting.
    handed_over: Option<Records>,
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

/// What is being written, opened or begun.
struct AtWork {
    /// When the oldest record of it was queued.
    since: Instant,
    /// Those who wait for it.
    waiting: Option<Waiting>,
}

/// Records that will be written together.
#[derive(Default)]
struct Batch {
    records: Records,
    since: Option<Instant>,
    waiting: Waiting,
}

/// The bodies of records, one after the other.
#[derive(Default)]
pub(super) struct Records {
    bodies: String,
    ends: Vec<usize>,
}

/// Those who wait for one batch.
#[derive(Default)]
struct Waiting {
    fate: Fate,
    /// One for each record, in the order of these.
    wakers: Vec<Waker>,
}

/// Whether the sink has a batch, as soon as that is known. It changes under the lock of the
/// queue only, before anybody is woken.
type Fate = Arc<OnceLock<bool>>;

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
pub(super) struct Ticket {
    fate: Fate,
    place: usize,
}

impl Queue {
    /// A queue whose thread is opening the sink.
    pub(super) fn new(name: &'static str, stall_timeout: Duration, metrics: &Metrics) -> Self {
        Self {
            name,
            metrics: metrics.sink(name),
            stall_timeout,
            state: Mutex::new(State {
                condition: Condition::Works,
                open: Batch::default(),
                held: false,
                attendant: None,
                at_work: Some(AtWork {
                    since: Instant::now(),
                    waiting: None,
                }),
                handed_over: None,
                missed: 0,
                asleep: false,
                rotate: false,
                close: false,
            }),
            work: Condvar::new(),
        }
    }

    /// Queues a record, unless the sink fails. Whoever waits is woken once it is known
    /// whether the sink has it.
    pub(super) fn offer(&self, body: &str, waker: &Waker) -> Option<Ticket> {
        let mut state = self.state();
        let ticket = state.push(body, waker);
        // Only the first of a batch wakes anybody.
        if ticket.as_ref().is_some_and(|ticket| ticket.place == 0) {
            match state.attendant.take() {
                Some(attendant) => {
                    state.held = true;
                    drop(state);
                    attendant.wake();
                }
                None if state.held => drop(state),
                None => self.rouse(state),
            }
        } else {
            drop(state);
        }
        if ticket.is_none() {
            self.metrics.missed(1);
        }
        ticket
    }

    /// Whether the sink has a record; whoever waits is woken once that is known.
    pub(super) fn poll(&self, ticket: &Ticket, waker: &Waker) -> Poll<bool> {
        if let Some(written) = ticket.fate.get() {
            return Poll::Ready(*written);
        }
        let mut state = self.state();
        // It may be known since then.
        if let Some(written) = ticket.fate.get() {
            return Poll::Ready(*written);
        }
        if let Some(last) = state.waker(ticket) {
            last.clone_from(waker);
        }
        Poll::Pending
    }

    /// Whether records are queued, as far as anybody can know.
    pub(super) fn accepts(&self) -> bool {
        self.look();
        self.state().accepts()
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

    /// Has batches written that have begun, and lets the sink fail when it stalls, until the
    /// thread has `ended`. Whatever is queued then is lost.
    ///
    /// The thread writes what cannot be written `at_once`, which says whether it was.
    pub(super) async fn attend(
        &self,
        ended: oneshot::Receiver<()>,
        at_once: impl Fn(&Records) -> bool,
    ) {
        let _attendance = Attendance(self);
        let (mut ended, mut stalls) = (pin!(ended), pin!(sleep(self.stall_timeout)));
        loop {
            tokio::select! {
                biased;
                () = self.begun() => {
                    // Whatever is ready comes along.
                    yield_now().await;
                    self.release(&at_once);
                }
                // It is set anew when it has run out, and not for each batch.
                () = &mut stalls => stalls.as_mut().reset(time::Instant::now() + self.look()),
                _ = &mut ended => return,
            }
        }
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
        let waiting = at_work.and_then(|job| job.waiting);
        let told = waiting.map(|waiting| waiting.told(result.is_ok()));
        match result {
            Ok(()) => {
                state.condition = Condition::Works;
                self.metrics.up(true);
                drop(state);
                self.metrics.written(records);
                if let Some(since) = since.filter(|_| records > 0) {
                    self.metrics.took(since.elapsed());
                }
                if failed {
                    info!(sink = self.name, missed, "the audit sink works again");
                }
            }
            Err(error) => {
                state.missed += missed + count(records);
                let (lost, lost_too) = state.fail(Some(Instant::now() + RETRY));
                self.metrics.up(false);
                drop(state);
                self.metrics.missed(records + lost);
                if !failed {
                    error!(sink = self.name, %error, "the audit sink fails");
                }
                lost_too.wake();
            }
        }
        if let Some(told) = told {
            told.wake();
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

    /// Waits for the first record of a batch.
    async fn begun(&self) {
        poll_fn(|context| {
            let mut state = self.state();
            if state.held {
                return Poll::Ready(());
            }
            state.attendant = Some(context.waker().clone());
            Poll::Pending
        })
        .await;
    }

    /// Has the open batch written.
    fn release(&self, at_once: impl FnOnce(&Records) -> bool) {
        let mut state = self.state();
        state.held = false;
        if state.open.records.is_empty() {
            return;
        }
        if !state.is_free() {
            return self.rouse(state);
        }
        let records = state.begin();
        // What comes meanwhile waits for whoever attends, who looks for it afterwards.
        state.held = true;
        drop(state);
        let left = if at_once(&records) {
            self.done(Ok(()), 0, records.len());
            None
        } else {
            Some(records)
        };
        let mut state = self.state();
        state.handed_over = left;
        state.held = !state.open.records.is_empty();
        // There may be something else for the thread by now.
        let is_thread_due = state.handed_over.is_some() || state.missed > 0;
        if is_thread_due || state.rotate || state.close {
            self.rouse(state);
        }
    }

    /// Wakes the thread if it sleeps.
    fn rouse(&self, mut state: MutexGuard<'_, State>) {
        let asleep = std::mem::take(&mut state.asleep);
        drop(state);
        if asleep {
            self.work.notify_one();
        }
    }

    /// Lets the sink fail if it has stalled, and says when to look again.
    fn look(&self) -> Duration {
        let now = Instant::now();
        let mut state = self.state();
        let Some((lost, waiting)) = state.look(now, self.stall_timeout) else {
            let since = state.oldest().unwrap_or(now);
            return (since + self.stall_timeout).saturating_duration_since(now);
        };
        // Under the same lock, so that it never says what was before.
        self.metrics.up(false);
        drop(state);
        self.metrics.missed(lost);
        error!(
            sink = self.name,
            stall_timeout = ?self.stall_timeout,
            "the audit sink has not taken a record for so long: it counts as failed until it does"
        );
        waiting.into_iter().for_each(Told::wake);
        self.stall_timeout
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // It is held for a few moves of memory, none of which can leave it half done.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Somebody attends to a queue, until this is dropped.
struct Attendance<'a>(&'a Queue);

impl Drop for Attendance<'_> {
    fn drop(&mut self) {
        let Self(queue) = self;
        let mut state = queue.state();
        (state.attendant, state.held) = (None, false);
        let written = state.at_work.as_mut().and_then(|job| job.waiting.take());
        let written = written.map(|waiting| waiting.told(false));
        let (lost, queued) = state.fail(None);
        drop(state);
        queue.metrics.missed(lost);
        written.into_iter().chain([queued]).for_each(Told::wake);
    }
}

impl State {
    fn accepts(&self) -> bool {
        matches!(self.condition, Condition::Works) && !self.close
    }

    fn push(&mut self, body: &str, waker: &Waker) -> Option<Ticket> {
        let full = self.open.records.bodies.len() + body.len() > MAX_BATCH;
        if !self.accepts() || full {
            self.missed += 1;
            return None;
        }
        let Batch {
            records,
            since,
            waiting,
        } = &mut self.open;
        since.get_or_insert_with(Instant::now);
        records.push(body);
        waiting.wakers.push(waker.clone());
        Some(Ticket {
            fate: Arc::clone(&waiting.fate),
            place: waiting.wakers.len() - 1,
        })
    }

    /// Who is woken for a ticket whose batch is open or at work.
    fn waker(&mut self, ticket: &Ticket) -> Option<&mut Waker> {
        let at_work = self.at_work.as_mut().and_then(|job| job.waiting.as_mut());
        let mut waiting = at_work.into_iter().chain([&mut self.open.waiting]);
        let waiting = waiting.find(|waiting| Arc::ptr_eq(&waiting.fate, &ticket.fate))?;
        waiting.wakers.get_mut(ticket.place)
    }

    /// Since when the sink has not taken a record, if it ought to.
    fn oldest(&self) -> Option<Instant> {
        match (&self.condition, &self.at_work) {
            (Condition::Failed(_), _) => None,
            (Condition::Works, Some(job)) => Some(job.since),
            (Condition::Works, None) => self.open.since,
        }
    }

    /// Lets a sink fail whose oldest record has waited for too long. Gives the number of
    /// records that it does not get, and all who are to be woken.
    fn look(&mut self, now: Instant, stall_timeout: Duration) -> Option<(usize, Vec<Told>)> {
        self.oldest()
            .filter(|since| now >= *since + stall_timeout)?;
        let waiting = self.at_work.as_mut().and_then(|job| job.waiting.take());
        let (lost, queued) = self.fail(None);
        let written = waiting.map(|waiting| waiting.told(false));
        Some((lost, written.into_iter().chain([queued]).collect()))
    }

    /// Gives up what was queued.
    fn fail(&mut self, retry_at: Option<Instant>) -> (usize, Told) {
        self.condition = Condition::Failed(retry_at);
        let lost = std::mem::take(&mut self.open);
        self.missed += count(lost.records.len());
        (lost.records.len(), lost.waiting.told(false))
    }

    /// Whether the open batch is next, and nobody writes another.
    fn is_free(&self) -> bool {
        let is_idle = self.at_work.is_none() && !self.rotate;
        self.accepts() && is_idle && self.missed == 0
    }

    /// Begins with the open batch, even if there is nothing in it.
    fn begin(&mut self) -> Records {
        let batch = std::mem::take(&mut self.open);
        self.at_work = Some(AtWork {
            since: batch.since.unwrap_or_else(Instant::now),
            waiting: Some(batch.waiting),
        });
        batch.records
    }

    fn job(&mut self, now: Instant) -> Option<Job> {
        if let Some(records) = self.handed_over.take() {
            return Some(Job::Write { missed: 0, records });
        }
        if self.at_work.is_some() {
            return None;
        }
        let is_open = !self.open.records.is_empty() && (!self.held || self.close);
        let due = match self.condition {
            Condition::Works => self.missed > 0 || is_open,
            Condition::Failed(retry_at) => retry_at.is_none_or(|retry_at| retry_at <= now),
        };
        let job = if self.rotate {
            self.rotate = false;
            Job::Rotate
        } else if due && !(self.close && matches!(self.condition, Condition::Failed(_))) {
            return Some(Job::Write {
                missed: std::mem::take(&mut self.missed),
                records: self.begin(),
            });
        } else if self.close {
            Job::Close {
                missed: std::mem::take(&mut self.missed),
            }
        } else {
            return None;
        };
        self.at_work = Some(AtWork {
            since: now,
            waiting: None,
        });
        Some(job)
    }
}

impl Waiting {
    /// Settles what became of the batch. The lock is held now, and is not to be when those
    /// are woken who wait.
    fn told(self, written: bool) -> Told {
        // Nobody else settles it.
        let _ = self.fate.set(written);
        Told(self.wakers)
    }
}

/// Those who are to be woken, since it is known what became of their records.
#[must_use]
struct Told(Vec<Waker>);

impl Told {
    fn wake(self) {
        self.0.into_iter().for_each(Waker::wake);
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

fn count(records: usize) -> u64 {
    u64::try_from(records).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::DEFAULT_STALL_TIMEOUT as PATIENCE;

    fn queue() -> Queue {
        Queue::new("file", PATIENCE, &Metrics::new())
    }

    /// A ticket for somebody who looks again and need not be woken.
    fn offer(queue: &Queue, body: &str) -> Option<Ticket> {
        queue.offer(body, Waker::noop())
    }

    fn records(job: &Job) -> (u64, Vec<&str>) {
        match job {
            Job::Write { missed, records } => (*missed, records.iter().collect()),
            _ => panic!("not a batch"),
        }
    }

    fn outcome(queue: &Queue, ticket: &Ticket) -> Option<bool> {
        match queue.poll(ticket, Waker::noop()) {
            Poll::Ready(written) => Some(written),
            Poll::Pending => None,
        }
    }

    fn full() -> io::Result<()> {
        Err(io::ErrorKind::StorageFull.into())
    }

    #[test]
    fn what_comes_while_the_sink_writes_is_written_together() {
        let queue = queue();
        let first = offer(&queue, "a").unwrap();
        queue.done(Ok(()), 0, 0);
        let one = queue.next();
        assert_eq!(records(&one), (0, vec!["a"]));
        let tickets = ["b", "c", "d"].map(|body| offer(&queue, body).unwrap());
        queue.done(Ok(()), 0, 1);
        assert_eq!(outcome(&queue, &first), Some(true));
        // Only those are woken whose batch it was.
        let two = queue.next();
        assert_eq!(records(&two), (0, vec!["b", "c", "d"]));
        let [b, c, d] = tickets;
        assert_eq!(outcome(&queue, &b), None);
        queue.done(Ok(()), 0, 3);
        assert_eq!(
            (outcome(&queue, &c), outcome(&queue, &d)),
            (Some(true), Some(true))
        );
    }

    #[test]
    fn what_is_written_at_once_does_not_come_to_the_thread() {
        let queue = queue();
        queue.done(Ok(()), 0, 0);
        let a = offer(&queue, "a").unwrap();
        let mut b = None;
        queue.release(|records| {
            assert_eq!(records.iter().collect::<Vec<_>>(), ["a"]);
            assert_eq!(outcome(&queue, &a), None);
            // Somebody else's, meanwhile.
            b = offer(&queue, "b");
            assert!(queue.state().job(Instant::now()).is_none());
            true
        });
        let b = b.unwrap();
        assert_eq!(
            (outcome(&queue, &a), outcome(&queue, &b)),
            (Some(true), None)
        );
        assert!(queue.state().job(Instant::now()).is_none());
        // It is held for the next round.
        assert!(queue.state().held);
        queue.release(|records| records.iter().eq(["b"]));
        assert_eq!(outcome(&queue, &b), Some(true));
        assert!(!queue.state().held);
    }

    #[test]
    fn what_takes_waiting_is_handed_to_the_thread() {
        let queue = queue();
        queue.done(Ok(()), 0, 0);
        let a = offer(&queue, "a").unwrap();
        queue.release(|_| false);
        assert_eq!(outcome(&queue, &a), None);
        offer(&queue, "b").unwrap();
        // The thread is not done with the first.
        assert_eq!(records(&queue.next()), (0, vec!["a"]));
        queue.release(|_| panic!("two write at a time"));
        queue.done(Ok(()), 0, 1);
        assert_eq!(outcome(&queue, &a), Some(true));
        assert_eq!(records(&queue.next()), (0, vec!["b"]));
    }

    #[test]
    fn what_the_thread_is_told_while_others_write_is_not_forgotten() {
        let queue = queue();
        queue.done(Ok(()), 0, 0);
        offer(&queue, "a").unwrap();
        queue.release(|_| {
            queue.rotate();
            assert!(queue.state().job(Instant::now()).is_none());
            true
        });
        assert!(matches!(queue.next(), Job::Rotate));
        offer(&queue, "b").unwrap();
        queue.release(|_| panic!("the next file is not there yet"));
        queue.rotated(Ok(()));
        assert_eq!(records(&queue.next()), (0, vec!["b"]));
    }

    #[test]
    fn an_error_fails_the_sink_at_once_and_all_that_is_missed_is_counted() {
        let queue = queue();
        queue.done(Ok(()), 0, 0);
        let written = offer(&queue, "a").unwrap();
        let Job::Write { .. } = queue.next() else {
            panic!("not a batch")
        };
        let waiting = offer(&queue, "b").unwrap();
        queue.done(full(), 0, 1);
        assert_eq!(
            (outcome(&queue, &written), outcome(&queue, &waiting)),
            (Some(false), Some(false))
        );
        assert!(offer(&queue, "c").is_none());
        assert!(!queue.accepts());
        let mut state = queue.state();
        let now = Instant::now();
        assert!(state.job(now).is_none(), "it is left alone for a second");
        let retry = state.job(now + RETRY).unwrap();
        drop(state);
        assert_eq!(records(&retry), (3, vec![]));
        assert!(offer(&queue, "d").is_none());
        queue.done(Ok(()), 3, 0);
        // What came meanwhile is told of before anything else is written.
        offer(&queue, "e").unwrap();
        assert_eq!(records(&queue.next()), (1, vec!["e"]));
    }

    #[test]
    fn a_sink_that_does_not_come_back_has_nothing_queued() {
        let queue = queue();
        queue.done(Ok(()), 0, 0);
        let stuck = offer(&queue, "a").unwrap();
        assert_eq!(records(&queue.next()), (0, vec!["a"]));
        let behind = offer(&queue, "b").unwrap();
        let late = Instant::now() + PATIENCE;
        let stalled = queue.state().look(late, PATIENCE);
        assert!(stalled.is_some());
        drop(stalled);
        assert_eq!(
            (outcome(&queue, &stuck), outcome(&queue, &behind)),
            (Some(false), Some(false))
        );
        assert!(
            queue.state().look(late, PATIENCE).is_none(),
            "it is told once"
        );
        for _ in 0..10 {
            assert!(offer(&queue, "c").is_none());
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
        assert!(offer(&queue, "a").is_none());
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
        let accepted = (0..10).filter(|_| offer(&queue, &body).is_some()).count();
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
        offer(&queue, "a").unwrap();
        queue.close();
        assert!(offer(&queue, "b").is_none());
        assert_eq!(records(&queue.next()), (1, vec!["a"]));
        queue.done(Ok(()), 1, 1);
        assert!(matches!(queue.next(), Job::Close { missed: 0 }));
    }
}
