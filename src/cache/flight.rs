//! Flights: one call to a token endpoint for one slot, which always lands.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{sync::watch, time::timeout};
use tokio_util::task::TaskTracker;

use super::{
    Edition, Registration,
    entry::{Answer, Entry, State},
    landing::Landing,
    timetable::Timetable,
};
use crate::{
    audit::{Audit, Event, Mint},
    clock::{Instant, Moment},
    destination::TokenKey,
    metrics::Metrics,
    slot::{Decision, Failure, FailureReason, FlightNumber, Refusal, Report},
    token::{Token, TokenId},
    upstream::FetchError,
};

/// Launches flights and sees them land.
pub(super) struct Flights {
    tasks: TaskTracker,
    timetable: Timetable,
    metrics: Arc<Metrics>,
    audit: Arc<Audit>,
    landings: watch::Sender<u64>,
    /// Slots of older editions are not kept fresh.
    edition: Mutex<Edition>,
}

/// A launched flight. It lands once, whatever becomes of its task: a flight that is
/// dropped by a panic or an abort lands as a failure.
struct Airborne {
    flights: Arc<Flights>,
    entry: Arc<Entry>,
    registration: Arc<Registration>,
    number: FlightNumber,
    landed: bool,
}

impl Flights {
    pub(super) fn new(timetable: Timetable, metrics: Arc<Metrics>, audit: Arc<Audit>) -> Self {
        Self {
            tasks: TaskTracker::new(),
            timetable,
            metrics,
            audit,
            landings: watch::Sender::new(0),
            edition: Mutex::default(),
        }
    }

    pub(super) fn landings(&self) -> watch::Receiver<u64> {
        self.landings.subscribe()
    }

    /// Keeps nothing fresh that is older.
    pub(super) fn keep_up_to(&self, edition: Edition) {
        *self.edition() = edition;
    }

    /// Whether a newer catalogue is in force.
    pub(super) fn is_outdated(&self, registration: &Registration) -> bool {
        registration.edition < *self.edition()
    }

    fn edition(&self) -> MutexGuard<'_, Edition> {
        self.edition.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Decides for a caller, and launches what that takes.
    pub(super) fn ask(
        self: &Arc<Self>,
        entry: &Arc<Entry>,
        registration: &Arc<Registration>,
        now: Instant,
        min_validity: Duration,
    ) -> Answer {
        let mut state = entry.state();
        state.register(registration);
        let decision = state.slot.decide(now, min_validity);
        self.follow(entry, state, decision)
    }

    /// Decides for an operator who wants a successor now, and launches what that takes.
    pub(super) fn renew(
        self: &Arc<Self>,
        entry: &Arc<Entry>,
        registration: &Arc<Registration>,
    ) -> Answer {
        let mut state = entry.state();
        state.register(registration);
        let decision = state.slot.renew();
        self.follow(entry, state, decision)
    }

    /// Does what was decided.
    fn follow(
        self: &Arc<Self>,
        entry: &Arc<Entry>,
        mut state: MutexGuard<'_, State>,
        decision: Decision,
    ) -> Answer {
        let (answer, launched) = match decision {
            Decision::Serve(token) => (Answer::Now(Ok(token)), None),
            Decision::ServeAndLaunch(token) => (Answer::Now(Ok(token)), Some(state.slot.launch())),
            Decision::Join(number) => (Answer::After(state.flight(number)), None),
            Decision::LaunchAndJoin => {
                let number = state.slot.launch();
                (Answer::After(state.flight(number)), Some(number))
            }
            Decision::Refuse(refusal) => (Answer::Now(Err(refusal)), None),
        };
        self.act(entry, state, launched);
        answer
    }

    /// Decides about a report that a token was rejected, and launches what that takes, if
    /// the caller can afford it.
    pub(super) fn report(
        self: &Arc<Self>,
        entry: &Arc<Entry>,
        id: TokenId,
        now: Instant,
        afford: impl FnOnce() -> bool,
    ) -> Report {
        let mut state = entry.state();
        let mut report = state.slot.report(id, now);
        // Asked last, so that only what starts a flight is paid for.
        if report == Report::Refresh && !afford() {
            report = Report::TooOften;
        }
        let launched = (report == Report::Refresh).then(|| state.slot.heed(now));
        self.act(entry, state, launched);
        report
    }

    /// Launches the flight that is due, if one is, for a slot that is kept fresh.
    pub(super) fn tend(self: &Arc<Self>, entry: &Arc<Entry>, now: Instant) {
        let edition = *self.edition();
        if !entry.is_kept_fresh(edition, now) {
            return;
        }
        let mut state = entry.state();
        let due = state.slot.due().is_some_and(|due| due <= now);
        let launched = due.then(|| state.slot.launch());
        self.act(entry, state, launched);
    }

    /// Waits for the flights under way.
    pub(super) async fn drain(&self) {
        self.tasks.close();
        self.tasks.wait().await;
    }

    /// Unlocks what was decided about, and launches the flight that was decided on.
    fn act(
        self: &Arc<Self>,
        entry: &Arc<Entry>,
        state: MutexGuard<'_, State>,
        launched: Option<FlightNumber>,
    ) {
        let launched = launched.map(|number| (number, Arc::clone(state.registration())));
        drop(state);
        if let Some((number, registration)) = launched {
            self.fly(entry, registration, number);
        }
    }

    fn fly(
        self: &Arc<Self>,
        entry: &Arc<Entry>,
        registration: Arc<Registration>,
        number: FlightNumber,
    ) {
        self.metrics.launched();
        let mut airborne = Airborne {
            flights: Arc::clone(self),
            entry: Arc::clone(entry),
            registration,
            number,
            landed: false,
        };
        // A task of its own: no caller's end is the end of it.
        self.tasks.spawn(async move {
            let result = mint(&airborne.registration, &airborne.flights.metrics).await;
            airborne.land(result);
        });
    }

    /// Records that a token was minted, whatever becomes of it.
    fn record(&self, token: &Token) {
        self.audit.note(&Event::Mint(Mint {
            token_id: token.id,
            destination: token.key.destination.as_str(),
            application: token.key.application.as_str(),
            credential: &token.secret.credential,
            generation: &token.secret.generation,
            expires_at: token.expires_at().wall,
        }));
    }

    /// Tells everybody but the callers what a flight brought.
    fn landed(&self, key: &Arc<TokenKey>, landing: &Landing) {
        let outcome = landing.failing.map_or("ok", FailureReason::code);
        let outcome = if landing.ignored { "ignored" } else { outcome };
        self.metrics
            .landed(key.destination.as_str(), key.application.as_str(), outcome);
        if let Some(due) = landing.due {
            self.timetable.note(Arc::clone(key), due);
        }
        self.landings.send_modify(|count| *count += 1);
    }
}

impl Airborne {
    fn land(&mut self, result: Result<Token, FetchError>) {
        let (moment, draw) = (Moment::now(), rand::random());
        let now = moment.instant;
        let failure = result.as_ref().err().cloned();
        if let Ok(token) = &result {
            // Before anybody can have it, so that this is the first of its records.
            self.flights.record(token);
        }
        let result = result.map_err(|error| Failure::from(&error));

        let mut state = self.entry.state();
        let failing_before = state.slot.failing();
        let outcome = state.slot.land(self.number, result, now, draw);
        let ignored = matches!(outcome, Err(Refusal::Quarantined));
        if !ignored {
            let failing = state.slot.failing();
            state.remember(moment, failing);
        }
        let landing = Landing {
            ignored,
            minted: outcome.as_ref().ok().map(|token| token.id),
            failing_before,
            failing: state.slot.failing(),
            runway: state.slot.runway(now),
            due: state.slot.due(),
        };
        state.announce(self.number, outcome);
        drop(state);
        self.landed = true;

        landing.log(&self.registration.key, failure.as_ref(), now);
        self.flights.landed(&self.registration.key, &landing);
    }
}

impl Drop for Airborne {
    fn drop(&mut self) {
        if !self.landed {
            self.land(Err(FetchError::Panicked));
        }
    }
}

async fn mint(registration: &Registration, metrics: &Metrics) -> Result<Token, FetchError> {
    let turn = registration.host.turn().await?;
    let requested_at = Moment::now();
    let answer = timeout(registration.timeout, registration.rotation.mint())
        .await
        .unwrap_or(Err(FetchError::TimedOut));
    drop(turn);
    let now = Instant::now();
    metrics.answered(
        registration.host.name(),
        now.saturating_duration_since(requested_at.instant),
    );
    if let Err(error) = &answer
        && let Some(asked) = error.retry_after()
    {
        registration.host.pause(now, asked);
    }
    let (minted, secret) = answer?;
    let lifetime = registration
        .lifetimes
        .apply(minted.expires_in)
        .map_err(|_| FetchError::Malformed("the declared lifetime is zero or less"))?;
    Ok(Token {
        key: Arc::clone(&registration.key),
        access_token: Arc::new(minted.access_token),
        id: TokenId::random(),
        requested_at,
        lifetime,
        secret,
    })
}
