//! One key's slot with its lock, its waiters and its last use.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::sync::watch;

use super::{Condition, Registration};
use crate::{
    clock::Instant,
    slot::{FailureReason, FlightNumber, Refusal, Slot},
    token::Token,
};

/// What everybody who waits for a flight gets.
pub(super) type Outcome = Result<Arc<Token>, Refusal>;

/// One registration's slot.
pub(super) struct Entry {
    pub(super) registration: Arc<Registration>,
    state: Mutex<State>,
    created_at: Instant,
    /// Milliseconds from `created_at` to the last use, plus one; zero when never used.
    last_used: AtomicU64,
}

/// What the lock guards. It is held for a decision, never while waiting.
pub(super) struct State {
    pub(super) slot: Slot,
    /// Where the outcome of the newest flight is announced.
    announcement: watch::Sender<Option<Outcome>>,
}

/// The answer to a caller.
pub(super) enum Answer {
    /// At once.
    Now(Outcome),
    /// When this flight has landed.
    After(Flight),
}

/// A flight under way, as its waiters see it. Dropping it changes nothing.
pub(super) struct Flight(watch::Receiver<Option<Outcome>>);

impl Entry {
    pub(super) fn new(registration: Arc<Registration>) -> Self {
        Self {
            state: Mutex::new(State {
                slot: Slot::new(registration.expiry_margin),
                announcement: watch::Sender::new(None),
            }),
            registration,
            created_at: Instant::now(),
            last_used: AtomicU64::new(0),
        }
    }

    /// The state, for as long as a decision takes.
    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        // A panic under the lock cannot leave a half-written slot that is worse than none.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that a caller asked.
    pub(super) fn touch(&self, now: Instant) {
        let elapsed = now.saturating_duration_since(self.created_at).as_millis();
        let stamp = u64::try_from(elapsed).unwrap_or(u64::MAX).saturating_add(1);
        self.last_used.store(stamp, Ordering::Relaxed);
    }

    /// Whether the schedule keeps this token fresh: it is warm, or somebody asked for it
    /// during the last token life.
    pub(super) fn is_kept_fresh(&self, now: Instant) -> bool {
        if self.registration.warm {
            return true;
        }
        let stamp = self.last_used.load(Ordering::Relaxed);
        let used_at = self.created_at + Duration::from_millis(stamp);
        let life = self.state().slot.lifetime();
        stamp > 0 && now <= used_at + life.unwrap_or(self.registration.lifetimes.default)
    }

    pub(super) fn condition(&self, now: Instant) -> Condition {
        let state = self.state();
        if state.slot.current(now).is_some() {
            Condition::Fresh
        } else if state.slot.failing().is_some() {
            Condition::Failing
        } else if state.slot.is_flying() {
            Condition::Pending
        } else {
            Condition::Cold
        }
    }
}

impl State {
    /// Launches a flight; its waiters wait for its own announcement.
    pub(super) fn launch(&mut self) -> FlightNumber {
        self.announcement = watch::Sender::new(None);
        self.slot.launch()
    }

    /// The flight under way, to wait for.
    pub(super) fn flight(&self) -> Flight {
        Flight(self.announcement.subscribe())
    }

    /// Tells all waiters what the flight brought.
    pub(super) fn announce(&self, outcome: Outcome) {
        self.announcement.send_replace(Some(outcome));
    }
}

impl Flight {
    /// Waits for the flight to land.
    pub(super) async fn landed(mut self) -> Outcome {
        let landed = self.0.wait_for(Option::is_some).await;
        let outcome = landed.ok().and_then(|outcome| outcome.clone());
        // Every flight lands. If one were lost all the same, its waiters would rather be
        // told to try again than wait for ever.
        outcome.unwrap_or_else(|| {
            Err(Refusal::Failed {
                reason: FailureReason::Unavailable,
                retry_at: Instant::now(),
            })
        })
    }
}
