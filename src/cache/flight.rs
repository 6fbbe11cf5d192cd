//! Flights: one call to a token endpoint for one slot, which always lands.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{sync::watch, time::timeout};
use tokio_util::task::TaskTracker;

use super::{
    Edition, Registration,
    entry::{self, Adopted, Answer, Entry, State},
    landing::Landing,
    sharing::{self, Brought, Part, Quest, Wish},
    timetable::Timetable,
};
use crate::{
    audit::{Audit, Event, Mint},
    clock::{self, Instant, Moment},
    destination::TokenKey,
    metrics::Metrics,
    shared_cache::{Outcome, Place, SharedCache, SharedFailure, SharedToken},
    slot::{Decision, Failure, FlightNumber, Refusal, Report},
    telemetry::{End, Launch, Span, Traces},
    token::{Origin, Token, TokenId},
    upstream::FetchError,
};

/// The first flights wait no longer than this for what replicas share.
const JOINING: Duration = Duration::from_secs(2);

/// Other replicas try again after this part of the time after which the one that failed does.
const OTHERS_FIRST: f64 = 0.85;

/// Launches flights and sees them land.
pub(super) struct Flights {
    tasks: TaskTracker,
    timetable: Timetable,
    metrics: Arc<Metrics>,
    audit: Arc<Audit>,
    shared: Arc<SharedCache>,
    traces: Traces,
    /// Whether it is known what replicas share.
    joined: watch::Sender<bool>,
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
    span: Span,
    landed: bool,
}

impl Flights {
    pub(super) fn new(
        timetable: Timetable,
        metrics: Arc<Metrics>,
        audit: Arc<Audit>,
        shared: Arc<SharedCache>,
        traces: Traces,
    ) -> Self {
        Self {
            tasks: TaskTracker::new(),
            timetable,
            metrics,
            audit,
            joined: watch::Sender::new(!shared.is_on()),
            shared,
            traces,
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
        call: &Span,
    ) -> Answer {
        let mut state = entry.state();
        state.register(registration);
        let decision = state.slot.decide(now, min_validity);
        self.follow(entry, state, decision, Wish::Better, call)
    }

    /// Launches what a caller would wait for, where none does.
    pub(super) fn begin(
        self: &Arc<Self>,
        entry: &Arc<Entry>,
        registration: &Arc<Registration>,
        now: Instant,
    ) {
        let mut state = entry.state();
        state.register(registration);
        let decision = state.slot.decide(now, Duration::ZERO);
        if matches!(
            decision,
            Decision::LaunchAndJoin | Decision::ServeAndLaunch(_)
        ) {
            let number = state.slot.launch();
            self.launch(entry, state, number, Wish::Better, Launch::ByItself);
        }
    }

    /// Decides for an operator who wants a successor now, and launches what that takes.
    pub(super) fn renew(
        self: &Arc<Self>,
        entry: &Arc<Entry>,
        registration: &Arc<Registration>,
        call: &Span,
    ) -> Answer {
        let mut state = entry.state();
        state.register(registration);
        let decision = state.slot.renew();
        let wish = Wish::After(clock::wall());
        self.follow(entry, state, decision, wish, call)
    }

    /// Does what was decided.
    fn follow(
        self: &Arc<Self>,
        entry: &Arc<Entry>,
        mut state: MutexGuard<'_, State>,
        decision: Decision,
        wish: Wish,
        call: &Span,
    ) -> Answer {
        match decision {
            Decision::Serve(token) => Answer::Now(Ok(token)),
            Decision::ServeAndLaunch(token) => {
                let number = state.slot.launch();
                self.launch(entry, state, number, wish, Launch::Behind(call));
                Answer::Now(Ok(token))
            }
            Decision::Join(number) => {
                let (flight, traced) = (state.flight(number), state.traced());
                drop(state);
                call.link(traced);
                Answer::After(flight)
            }
            Decision::LaunchAndJoin => {
                let number = state.slot.launch();
                let flight = state.flight(number);
                self.launch(entry, state, number, wish, Launch::Awaited(call));
                Answer::After(flight)
            }
            Decision::Refuse(refusal) => Answer::Now(Err(refusal)),
        }
    }

    /// Decides about a report that a token was rejected, and launches what that takes, if
    /// the caller can afford it.
    pub(super) fn report(
        self: &Arc<Self>,
        entry: &Arc<Entry>,
        id: TokenId,
        now: Instant,
        afford: impl FnOnce() -> bool,
        call: &Span,
    ) -> Report {
        let mut state = entry.state();
        let mut report = state.slot.report(id, now);
        // Asked last, so that only what starts a flight is paid for.
        if report == Report::Refresh && !afford() {
            report = Report::TooOften;
        }
        if report == Report::Refresh {
            let number = state.slot.heed(now);
            self.launch(entry, state, number, Wish::Better, Launch::Behind(call));
        }
        report
    }

    /// Launches the flight that is due, if one is, for a slot that is kept fresh.
    pub(super) fn tend(self: &Arc<Self>, entry: &Arc<Entry>, now: Instant) {
        let edition = *self.edition();
        if !entry.is_kept_fresh(edition, now) {
            entry.state().lapse(now);
            return;
        }
        let mut state = entry.state();
        if state.slot.due().is_some_and(|due| due <= now) {
            let number = state.slot.launch();
            self.launch(entry, state, number, Wish::Better, Launch::ByItself);
        }
    }

    /// Takes in what another replica tells of a slot.
    pub(super) fn hear(&self, entry: &Entry, registration: &Registration, token: SharedToken) {
        let now = Moment::now();
        let Some(token) = sharing::arrive(&self.shared, token, registration, now) else {
            return;
        };
        match entry.adopt(token, now) {
            Adopted::Taken(landing) => {
                self.shared.count("adopt", "ok");
                landing.log(&registration.key, None, now.instant, None);
                if let Some(lag) = landing.lag {
                    self.metrics.refreshed(lag);
                }
                if let Some(due) = landing.due {
                    self.timetable.note(Arc::clone(&registration.key), due);
                }
                self.landings.send_modify(|count| *count += 1);
            }
            Adopted::Unwanted => self.shared.count("adopt", "stale"),
            Adopted::Known | Adopted::LeftToFlight => {}
        }
    }

    /// What replicas share is known from now on, or is not to be had.
    pub(super) fn join(&self) {
        self.joined.send_replace(true);
        // The broker may be ready now.
        self.landings.send_modify(|count| *count += 1);
    }

    pub(super) fn has_joined(&self) -> bool {
        *self.joined.borrow()
    }

    /// Waits until it is known what replicas share, but not for long: what this broker would
    /// mint first may be there already.
    async fn await_joining(&self) {
        let mut joined = self.joined.subscribe();
        // Whoever waited in vain goes on alone.
        let _ = timeout(JOINING, joined.wait_for(|joined| *joined)).await;
    }

    /// Waits for the flights under way.
    pub(super) async fn drain(&self) {
        self.tasks.close();
        self.tasks.wait().await;
    }

    /// Unlocks what was decided about, and launches the flight that was decided on.
    fn launch(
        self: &Arc<Self>,
        entry: &Arc<Entry>,
        mut state: MutexGuard<'_, State>,
        number: FlightNumber,
        wish: Wish,
        launch: Launch<'_>,
    ) {
        let registration = Arc::clone(state.registration());
        let span = self.traces.flight(launch);
        // While it is locked, so that whoever joins finds it.
        state.trace(span.context());
        drop(state);
        let key = &registration.key;
        span.text("token_broker.destination", key.destination.as_str());
        span.text("token_broker.application", key.application.as_str());
        self.metrics.launched();
        let mut airborne = Airborne {
            flights: Arc::clone(self),
            entry: Arc::clone(entry),
            registration,
            number,
            span,
            landed: false,
        };
        // A task of its own: no caller's end is the end of it.
        self.tasks.spawn(async move {
            airborne.fly(wish).await;
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
    fn landed(&self, key: &Arc<TokenKey>, landing: &Landing, span: &Span) {
        let end = match landing.failing {
            _ if landing.ignored => End::Well("ignored"),
            Some(reason) => End::Badly(reason.code()),
            None if landing.origin == Some(Origin::Elsewhere) => End::Well("shared"),
            None => End::Well("ok"),
        };
        if let Some(id) = landing.minted {
            span.token(id);
        }
        span.end(end);
        let (End::Well(outcome) | End::Badly(outcome)) = end;
        self.metrics.landed(key, outcome);
        if let Some(lag) = landing.lag {
            self.metrics.refreshed(lag);
        }
        if let Some(due) = landing.due {
            self.timetable.note(Arc::clone(key), due);
        }
        self.landings.send_modify(|count| *count += 1);
    }
}

impl Airborne {
    /// Brings what is wished for, and tells the others what came of it.
    async fn fly(&mut self, wish: Wish) {
        let flights = Arc::clone(&self.flights);
        if self.registration.place.is_some() {
            Box::pin(flights.await_joining()).await;
        }
        let quest = Quest {
            registration: &self.registration,
            entry: &self.entry,
            shared: &flights.shared,
            metrics: &flights.metrics,
            wish,
            number: self.number,
            span: &self.span,
        };
        let Brought {
            result,
            part,
            pause,
        } = quest.bring().await;
        let outcome = self.land(result);
        if let Some(place) = &self.registration.place {
            Box::pin(self.tell(place, part, pause, &outcome)).await;
        }
    }

    /// Tells the other replicas what came of it. Only when it has landed: no caller waits for
    /// that.
    async fn tell(
        &self,
        place: &Place,
        part: Part,
        pause: Option<Moment>,
        outcome: &entry::Outcome,
    ) {
        let shared = &self.flights.shared;
        if let Some(until) = pause {
            shared.keep_pause(place, until.wall).await;
        }
        if let Part::Asked(lease) = part {
            let now = Moment::now();
            let outcome = match outcome {
                Ok(token) if token.origin == Origin::Here => Outcome::Token(token),
                Err(Refusal::Failed { reason, retry_at }) => {
                    // The others come first: what fails here may work there. But nobody comes
                    // before the host said.
                    let left = retry_at.saturating_duration_since(now.instant);
                    let others = now.after(left.mul_f64(OTHERS_FIRST)).wall;
                    Outcome::Failure(SharedFailure {
                        reason: *reason,
                        retry_at: pause.map_or(others, |until| until.wall.max(others)),
                        in_a_row: self.entry.state().slot.failures(),
                    })
                }
                Ok(_) | Err(Refusal::Quarantined | Refusal::ValidityUnattainable) => {
                    Outcome::Nothing
                }
            };
            shared.finish(place, lease, outcome).await;
        }
    }

    fn land(&mut self, result: Result<Token, FetchError>) -> entry::Outcome {
        let moment = Moment::now();
        let now = moment.instant;
        // Replicas draw the same moment for the same token, so that a fleet refreshes as
        // often as one of them would; failures of each are spread.
        let draw = match &result {
            Ok(token) => token.id.draw(),
            Err(_) => rand::random(),
        };
        let origin = result.as_ref().ok().map(|token| token.origin);
        let failure = result.as_ref().err().cloned();
        if let Ok(token) = &result
            && token.origin == Origin::Here
        {
            // Before anybody can have it, so that this is the first of its records.
            self.flights.record(token);
        }
        let result = result.map_err(|error| Failure::from(&error));

        let mut state = self.entry.state();
        let failing_before = state.slot.failing();
        let successor_due = state.successor_due();
        let outcome = state.slot.land(self.number, result, now, draw);
        let ignored = matches!(outcome, Err(Refusal::Quarantined));
        if !ignored {
            let failing = state.slot.failing();
            state.remember(moment, failing);
        }
        let lag = match &outcome {
            Ok(_) => state.lag(successor_due, now),
            Err(_) => None,
        };
        let landing = Landing {
            ignored,
            origin,
            lag,
            minted: outcome.as_ref().ok().map(|token| token.id),
            failing_before,
            failing: state.slot.failing(),
            runway: state.slot.runway(now),
            due: state.slot.due(),
        };
        state.announce(self.number, outcome.clone());
        drop(state);
        self.landed = true;

        let (key, span) = (&self.registration.key, &self.span);
        landing.log(key, failure.as_ref(), now, span.trace_id());
        self.flights.landed(key, &landing, span);
        outcome
    }
}

impl Drop for Airborne {
    fn drop(&mut self) {
        if !self.landed {
            // Nobody is told: the lease was dropped, too.
            let _ = self.land(Err(FetchError::Panicked));
        }
    }
}
