//! One key's slot with its lock, its waiters and its last use.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

use tokio::sync::{Notify, watch};

use super::{Condition, Edition, Registration, Standing, landing::Landing};
use crate::{
    clock::{self, Instant, Moment},
    shared_cache::CLOCKS_DIFFER,
    slot::{FailureReason, FlightNumber, Refusal, Slot},
    token::{Token, TokenId},
    trace_context::TraceContext,
};

/// What everybody who waits for a flight gets.
pub(super) type Outcome = Result<Arc<Token>, Refusal>;

/// One key's slot.
pub(super) struct Entry {
    state: Mutex<State>,
    created_at: Moment,
    /// Milliseconds from `created_at` to the last use, plus one; zero when never used.
    last_used: AtomicU64,
    /// Tells the flight under way that another replica may have what it wants.
    nudge: Notify,
}

/// What the lock guards. It is held for a decision, never while waiting.
pub(super) struct State {
    pub(super) slot: Slot,
    /// How this key is minted now; a new configuration may change everything but the key.
    registration: Arc<Registration>,
    /// The flight that the newest news is of.
    landed: Option<FlightNumber>,
    /// Where those who wait or watch hear of it; nothing while there are none.
    news: Option<watch::Sender<News>>,
    last_success: Option<Moment>,
    /// Apart, since most slots never have one.
    last_failure: Option<Box<(FailureReason, Moment)>>,
    /// When an operator stopped it last, or released it elsewhere. What is older must not come
    /// back from elsewhere.
    stopped_at: Option<SystemTime>,
    /// Nobody wanted the token any more when its successor was due.
    lapsed: bool,
    /// Where the flight under way stands in its trace, or the last one did. Apart,
    /// since mostly none is traced.
    flight: Option<Box<TraceContext>>,
    /// Up to here, flights are no news when they land: their waiters get what a later one brings.
    disowned: Option<FlightNumber>,
}

/// What was dropped at a release.
#[derive(Default)]
pub(super) struct Dropped {
    /// Whether there was anything to drop.
    pub(super) any: bool,
    /// How to mint for those who wait for the flight that was disowned.
    pub(super) awaited: Option<Arc<Registration>>,
}

/// What the newest landing brought.
#[derive(Clone, Debug)]
pub(super) struct News {
    landed: Option<FlightNumber>,
    outcome: Outcome,
}

/// The answer to a caller.
pub(super) enum Answer {
    /// At once.
    Now(Outcome),
    /// When this flight has landed.
    After(Flight),
}

/// What became of another replica's token.
pub(super) enum Adopted {
    /// It is the slot's now.
    Taken(Landing),
    /// It is no better than what is here.
    Unwanted,
    /// It is here already.
    Known,
    /// The flight under way looks for itself.
    LeftToFlight,
}

/// A flight under way, as its waiters see it. Dropping it changes nothing.
pub(super) struct Flight {
    number: FlightNumber,
    news: watch::Receiver<News>,
}

impl Entry {
    pub(super) fn new(registration: Arc<Registration>) -> Self {
        Self {
            state: Mutex::new(State {
                slot: Slot::new(registration.terms.expiry_margin),
                registration,
                landed: None,
                news: None,
                last_success: None,
                last_failure: None,
                stopped_at: None,
                lapsed: false,
                flight: None,
                disowned: None,
            }),
            created_at: Moment::now(),
            last_used: AtomicU64::new(0),
            nudge: Notify::new(),
        }
    }

    /// The slot of renewed credentials, which begins with the token of the last ones.
    pub(super) fn inheriting(registration: Arc<Registration>, from: &Self, now: Instant) -> Self {
        let mut heir = Self::new(registration);
        // It is used as much as the last one was.
        heir.created_at = from.created_at;
        heir.last_used = AtomicU64::new(from.last_used.load(Ordering::Relaxed));
        let token = from.state().slot.token().cloned();
        {
            let mut state = heir.state();
            let key = Arc::clone(&state.registration.key);
            // Another client's token is another application's, whatever name it goes by.
            let token = token.filter(|token| {
                let client_id = &token.secret.client_id;
                state.registration.rotation.knows_client(client_id)
            });
            if let Some(token) = token {
                state.slot.inherit(token.inherited_by(&key), now);
            }
        }
        heir
    }

    /// The state, for as long as a decision takes.
    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        // A panic under the lock cannot leave a half-written slot that is worse than none.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that a caller asked.
    pub(super) fn touch(&self, now: Instant) {
        let elapsed = now.saturating_duration_since(self.created_at.instant);
        let elapsed = elapsed.as_millis();
        let stamp = u64::try_from(elapsed).unwrap_or(u64::MAX).saturating_add(1);
        self.last_used.store(stamp, Ordering::Relaxed);
    }

    /// Whether the schedule keeps this token fresh: it is warm, or somebody asked for it
    /// during the last token life. What is from an older catalogue than `edition` is not: its key is gone.
    pub(super) fn is_kept_fresh(&self, edition: Edition, now: Instant) -> bool {
        let stamp = self.last_used.load(Ordering::Relaxed);
        let used_at = self.created_at.instant + Duration::from_millis(stamp);
        let state = self.state();
        let life = state.slot.token().map(|token| token.lifetime);
        let life = life.unwrap_or(state.registration.terms.lifetimes.default);
        let is_current = edition <= state.registration.edition;
        is_current && (state.registration.warm || (stamp > 0 && now <= used_at + life))
    }

    pub(super) fn condition(&self, now: Instant) -> Condition {
        self.state().condition(now)
    }

    /// What is known of the slot.
    pub(super) fn standing(&self, now: Instant) -> Standing {
        let stamp = self.last_used.load(Ordering::Relaxed);
        let used_after = stamp.checked_sub(1).map(Duration::from_millis);
        let state = self.state();
        Standing {
            condition: state.condition(now),
            token: state.slot.token().cloned(),
            served_until: state.slot.served_until(),
            refresh_at: state.slot.refresh_at(),
            due: state.slot.due(),
            is_minting: state.slot.flight().is_some(),
            failures: state.slot.failures(),
            retry_at: state.slot.retry_at(),
            runway: state.slot.runway(now),
            last_success: state.last_success,
            last_failure: state.last_failure.as_deref().copied(),
            last_used: used_after.map(|after| self.created_at.after(after)),
        }
    }

    /// Has the flight under way, if it waits for another replica, look what there is.
    pub(super) fn nudge(&self) {
        self.nudge.notify_one();
    }

    /// Waits for a nudge, also for one that came before.
    pub(super) async fn nudged(&self) {
        self.nudge.notified().await;
    }

    /// Takes over the token of another replica, if it is wanted. A flight under way is to look
    /// for itself.
    pub(super) fn adopt(&self, token: Token, now: Moment) -> Adopted {
        let mut state = self.state();
        if state.slot.flight().is_some() {
            drop(state);
            self.nudge();
            return Adopted::LeftToFlight;
        }
        if state.has(token.id) {
            return Adopted::Known;
        }
        let failing_before = state.slot.failing();
        let due = state.successor_due();
        let draw = token.id.draw();
        let adopted = if state.wants(&token, now.instant) {
            state.slot.adopt(token, now.instant, draw)
        } else {
            None
        };
        let Some(token) = adopted else {
            return Adopted::Unwanted;
        };
        state.remember(now, None);
        let landing = Landing {
            ignored: false,
            origin: Some(token.origin),
            minted: Some(token.id),
            failing_before,
            failing: None,
            lag: state.lag(due, now.instant),
            runway: state.slot.runway(now.instant),
            due: state.slot.due(),
        };
        let landed = state.slot.last_flight();
        state.tell(landed, Ok(token));
        Adopted::Taken(landing)
    }

    /// Stops the slot, and tells everybody who waits or watches.
    pub(super) fn quarantine(&self) {
        let mut state = self.state();
        state.stopped_at = Some(clock::wall());
        state.slot.quarantine();
        let launched = state.slot.last_flight();
        // No flight that was launched so far is news when it lands.
        state.tell(launched, Err(Refusal::Quarantined));
    }

    /// Ends the stop, and wakes those who watch.
    pub(super) fn release(&self) {
        let mut state = self.state();
        state.slot.release();
        state.wake();
    }

    /// Ends the stop, if there is one, that another replica released `at` this moment. There
    /// may have been one that was not heard of, so what is from before is dropped as well.
    pub(super) fn release_as_of(&self, at: SystemTime) -> Dropped {
        // The moment is of another clock than a token's, and of two errors the cheap one is
        // to be made: a good token that is dropped is found again where replicas share it, or
        // costs a call; a leaked one that is kept is what the operator believes to be gone.
        let doubtful_until = at + CLOCKS_DIFFER;
        let mut state = self.state();
        // Without that allowance: the store was cleared at the stop and at the release, so
        // what is there is the successor, and all replicas may use it from its first second.
        state.stopped_at = state.stopped_at.max(Some(at));
        let is_stopped = state.slot.is_quarantined();
        let is_doubtful = match state.slot.token() {
            Some(token) => token.requested_at.wall < doubtful_until,
            // It may have asked before; unless the slot itself is younger. Where there is a
            // token, its flight is the later one of the two.
            None => state.slot.flight().is_some() && self.created_at.wall < doubtful_until,
        };
        let mut dropped = Dropped::default();
        if is_doubtful {
            let has_flight = state.slot.flight().is_some();
            dropped = Dropped {
                any: true,
                awaited: has_flight.then(|| Arc::clone(&state.registration)),
            };
            state.disowned = state.slot.last_flight();
            state.slot.quarantine();
        }
        if is_doubtful || is_stopped {
            state.slot.release();
            state.wake();
        }
        dropped
    }
}

impl State {
    fn condition(&self, now: Instant) -> Condition {
        let slot = &self.slot;
        let alive = !slot.runway(now).is_zero();
        match slot.failing() {
            _ if slot.is_quarantined() => Condition::Quarantined,
            Some(_) if alive => Condition::RefreshFailing,
            None if alive => Condition::Fresh,
            Some(_) => Condition::Failing,
            None if slot.flight().is_some() => Condition::Pending,
            None => Condition::Cold,
        }
    }

    /// Whether another replica's token is better than what is here, and may be used.
    pub(super) fn wants(&self, token: &Token, now: Instant) -> bool {
        let is_later = |stopped_at| stopped_at < token.requested_at.wall;
        self.stopped_at.is_none_or(is_later) && self.slot.wants(token, now)
    }

    /// When the successor of the token at hand is due, if somebody has wanted it since.
    pub(super) fn successor_due(&self) -> Option<Instant> {
        self.slot.refresh_at().filter(|_| !self.lapsed)
    }

    /// Notes that a token is not kept fresh: that its successor comes late is no lag.
    pub(super) fn lapse(&mut self, now: Instant) {
        self.lapsed |= self.slot.refresh_at().is_some_and(|at| at <= now);
    }

    /// How late the token comes that has just landed, which was `due` then. One that was not
    /// waited for yet is no successor that could be late.
    pub(super) fn lag(&mut self, due: Option<Instant>, now: Instant) -> Option<Duration> {
        self.lapsed = false;
        due.and_then(|due| now.checked_duration_since(due))
    }

    /// Whether this is the token at hand.
    pub(super) fn has(&self, id: TokenId) -> bool {
        self.slot.token().is_some_and(|token| token.id == id)
    }

    /// Notes how the last flight went.
    pub(super) fn remember(&mut self, now: Moment, failing: Option<FailureReason>) {
        match failing {
            Some(reason) => self.last_failure = Some(Box::new((reason, now))),
            None => self.last_success = Some(now),
        }
    }

    /// How this key is minted.
    pub(super) fn registration(&self) -> &Arc<Registration> {
        &self.registration
    }

    /// Mints in this way from now on, unless a newer one is known.
    pub(super) fn register(&mut self, registration: &Arc<Registration>) {
        if self.registration.edition < registration.edition {
            self.registration = Arc::clone(registration);
            self.slot.keep_margin(registration.terms.expiry_margin);
        }
    }

    /// Notes where the flight that was launched stands in its trace.
    pub(super) fn trace(&mut self, flight: Option<TraceContext>) {
        self.flight = flight.map(Box::new);
    }

    /// Where the flight under way stands in its trace.
    pub(super) fn traced(&self) -> Option<TraceContext> {
        self.flight.as_deref().copied()
    }

    /// The flight with this number, to wait for.
    pub(super) fn flight(&mut self, number: FlightNumber) -> Flight {
        Flight {
            number,
            news: self.news(),
        }
    }

    /// Every landing from now on.
    pub(super) fn news(&mut self) -> watch::Receiver<News> {
        let landed = self.landed;
        let news = self.news.get_or_insert_with(|| {
            // Nobody asks for an outcome from before: who joins a flight waits for its own.
            let outcome = Err(lost());
            watch::Sender::new(News { landed, outcome })
        });
        news.subscribe()
    }

    /// Tells everybody who waits or watches what a flight brought.
    pub(super) fn announce(&mut self, landed: FlightNumber, outcome: Outcome) {
        // A flight that was disowned lands after its successor has, and is no news then.
        if self.landed.max(self.disowned) < Some(landed) {
            self.tell(Some(landed), outcome);
        }
    }

    fn tell(&mut self, landed: Option<FlightNumber>, outcome: Outcome) {
        self.landed = landed;
        self.hush();
        if let Some(news) = &self.news {
            news.send_replace(News { landed, outcome });
        }
    }

    /// Gives up the place of news where nobody listens: most slots have nobody who waits most
    /// of the time, and this is half of their size.
    fn hush(&mut self) {
        self.news.take_if(|news| news.receiver_count() == 0);
    }

    /// Has those who watch look again.
    fn wake(&self) {
        if let Some(news) = &self.news {
            news.send_modify(|_| {});
        }
    }
}

impl Flight {
    /// Waits for the flight, or a later one of this slot, to land.
    pub(super) async fn landed(self, entry: &Entry) -> Outcome {
        let Self { number, mut news } = self;
        let landed = news.wait_for(|news| news.landed >= Some(number)).await;
        // The slot outlives its waiters, so there always is news. If it were otherwise,
        // they would rather be told to try again than wait for ever.
        let outcome = landed.map_or_else(|_| Err(lost()), |news| news.outcome.clone());
        drop(news);
        entry.state().hush();
        outcome
    }
}

fn lost() -> Refusal {
    Refusal::Failed {
        reason: FailureReason::Unavailable,
        retry_at: Instant::now(),
    }
}
