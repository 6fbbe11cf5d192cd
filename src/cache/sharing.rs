//! What a flight does where replicas share: it looks what the others have, and mints for all
//! of them if it is its turn.

use std::{
    pin::pin,
    sync::Arc,
    time::{Duration, SystemTime},
};

use tokio::{join, select, sync::SemaphorePermit, time::timeout};

use super::{Registration, entry::Entry};
use crate::{
    clock::{Instant, Moment},
    metrics::Metrics,
    shared_cache::{Begun, Found, Lease, Place, Seen, SharedCache, SharedFailure, SharedToken},
    slot::{FlightNumber, RETRY_AFTER_CAP},
    telemetry::Span,
    token::{Origin, Token, TokenId},
    upstream::FetchError,
};

/// A lease lasts so much longer than the call to the token endpoint may take.
const GRACE: Duration = Duration::from_millis(250);
/// Whoever waits for another replica looks again after this time, should nobody tell; and each
/// time after twice as long, up to the second one.
const LOOK_AGAIN: [Duration; 2] = [Duration::from_millis(250), Duration::from_secs(1)];
/// Looking has a price, too: nobody looks again sooner.
const LOOK_AGAIN_FLOOR: Duration = Duration::from_millis(10);
/// Whoever finds something else of no use each time goes alone after so often.
const MOST_MISSES: u32 = 8;
/// A flight waits no longer than this for its turns at the host.
const QUEUE_TIMEOUT: Duration = Duration::from_secs(30);
/// A holder may die, and whoever takes its place as well. Then everybody goes alone.
const LEASES_WAITED_FOR: u32 = 2;

/// What a flight is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wish {
    /// A token that is better than the one at hand.
    Better,
    /// One that was minted after this moment, whatever failed before.
    After(SystemTime),
}

/// What a flight brings.
pub(super) struct Brought {
    pub(super) result: Result<Token, FetchError>,
    pub(super) part: Part,
    /// Until when the host asked to be left alone.
    pub(super) pause: Option<Moment>,
}

/// What part this broker had in it.
pub(super) enum Part {
    /// It is what another replica has, or the endpoint was not asked at all.
    Watched,
    /// The endpoint was asked, for the others as well if there is a lease.
    Asked(Option<Lease>),
}

/// One flight, as far as others have to do with it.
pub(super) struct Quest<'a> {
    pub(super) registration: &'a Arc<Registration>,
    pub(super) entry: &'a Entry,
    pub(super) shared: &'a SharedCache,
    pub(super) metrics: &'a Metrics,
    pub(super) wish: Wish,
    pub(super) number: FlightNumber,
    pub(super) span: &'a Span,
}

/// What a flight has seen and done among the others so far.
#[derive(Default)]
struct Search {
    seen: Seen,
    /// How often another replica had the turn.
    waits: u32,
    /// How long that was, all in all.
    waited: Duration,
    /// Since when it is so, if it is.
    waiting_since: Option<Instant>,
    /// How often something lay at the place that was of no use.
    misses: u32,
}

impl Quest<'_> {
    /// Brings a token that another replica minted, or mints one.
    pub(super) async fn bring(&self) -> Brought {
        let queue_until = Instant::now() + QUEUE_TIMEOUT;
        match &self.registration.place {
            // What it takes among replicas is much, and a flight on its own need not carry it.
            Some(place) => Box::pin(self.bring_for_all(place, queue_until)).await,
            None => self.bring_alone(queue_until).await,
        }
    }

    async fn bring_alone(&self, queue_until: Instant) -> Brought {
        match self.registration.host.turn(queue_until).await {
            // Thousands of flights may wait for their turn, and only a few have one.
            Ok(turn) => Box::pin(self.mint(turn, None)).await,
            Err(error) => Err(error).into(),
        }
    }

    async fn bring_for_all(&self, place: &Place, queue_until: Instant) -> Brought {
        let lease_life = self.registration.terms.timeout + GRACE;
        let patience = lease_life * LEASES_WAITED_FOR;
        let mut search = Search::default();
        loop {
            let found = self.look(place, &mut search).await;
            let can_be_asked = found.is_some();
            if let Some(brought) = self.choose(found.unwrap_or_default(), &search) {
                return brought;
            }
            search.stop_waiting();
            let turn = match self.queue(place, &mut search, queue_until).await {
                Ok(turn) => turn,
                Err(brought) => return brought,
            };
            if !can_be_asked || search.misses > MOST_MISSES {
                return self.mint_for_all(place, &mut search, turn, None).await;
            }
            // Also if it was waited for long enough: the token may have come meanwhile.
            match self.shared.begin(place, &mut search.seen, lease_life).await {
                Begun::Granted(lease) => {
                    return self
                        .mint_for_all(place, &mut search, turn, Some(lease))
                        .await;
                }
                Begun::Held(left) if search.waited < patience => {
                    // The turn is for those who ask.
                    drop(turn);
                    search.wait(left.min(patience), self.entry).await;
                }
                Begun::Held(_) | Begun::Alone => {
                    return self.mint_for_all(place, &mut search, turn, None).await;
                }
                Begun::Found(found) => {
                    drop(turn);
                    if let Some(brought) = self.choose(found, &search) {
                        return brought;
                    }
                    search.misses += 1;
                }
            }
        }
    }

    /// What the others have, and whether the host is to be left alone. `None` if they cannot
    /// be asked.
    async fn look(&self, place: &Place, search: &mut Search) -> Option<Vec<Found>> {
        let looking = self.shared.look(place, &mut search.seen);
        let (found, pause) = join!(looking, self.shared.pause(place));
        if let Some(until) = pause {
            heed(until, self.registration);
        }
        found
    }

    /// Waits for a turn at the host. Whoever is told meanwhile that another replica may have
    /// the token looks, and keeps its place in the queue if that is of no use.
    async fn queue(
        &self,
        place: &Place,
        search: &mut Search,
        queue_until: Instant,
    ) -> Result<SemaphorePermit<'_>, Brought> {
        let turn = self.registration.host.turn(queue_until);
        let mut turn = pin!(turn);
        loop {
            select! {
                biased;
                turn = &mut turn => return turn.map_err(|error| Err(error).into()),
                () = self.entry.nudged() => {
                    let found = self.look(place, search).await.unwrap_or_default();
                    if let Some(brought) = self.choose(found, search) {
                        return Err(brought);
                    }
                }
            }
        }
    }

    /// Asks the token endpoint. If it fails another replica may have had more luck meanwhile.
    async fn mint_for_all(
        &self,
        place: &Place,
        search: &mut Search,
        turn: SemaphorePermit<'_>,
        lease: Option<Lease>,
    ) -> Brought {
        let brought = self.mint(turn, lease).await;
        if brought.result.is_ok() {
            return brought;
        }
        let found = self.look(place, search).await.unwrap_or_default();
        match self.token_among(found) {
            Some(token) => Brought {
                result: Ok(token),
                ..brought
            },
            None => brought,
        }
    }

    /// The best of what was found, if it is of use: a token before a failure.
    fn choose(&self, found: Vec<Found>, search: &Search) -> Option<Brought> {
        let failure = found.iter().find_map(|one| match one {
            Found::Failure(failure) => self.share(*failure, search),
            Found::Token(_) => None,
        });
        let token = self.token_among(found).map(Ok);
        token.or(failure.map(Err)).map(Brought::from)
    }

    fn token_among(&self, found: Vec<Found>) -> Option<Token> {
        found.into_iter().find_map(|one| match one {
            Found::Token(token) => self.accept(token),
            Found::Failure(_) => None,
        })
    }

    fn accept(&self, token: SharedToken) -> Option<Token> {
        let now = Moment::now();
        let token = arrive(self.shared, token, self.registration, now)?;
        let is_after = match self.wish {
            Wish::Better => true,
            Wish::After(moment) => moment < token.requested_at.wall,
        };
        let state = self.entry.state();
        if state.has(token.id) {
            return None;
        }
        let wanted = is_after && state.wants(&token, now.instant);
        drop(state);
        self.shared
            .count("adopt", if wanted { "ok" } else { "stale" });
        wanted.then_some(token)
    }

    /// The failure as this flight's own, if it is.
    fn share(&self, failure: SharedFailure, search: &Search) -> Option<FetchError> {
        let now = Moment::now();
        let left = now.at(failure.retry_at);
        let left = left.saturating_duration_since(now.instant);
        let holds = failure.is_endpoints_word() && !left.is_zero();
        // Whoever waited has not seen it before, so it is of the flight that was waited for.
        // An operator who wants a successor now is not put off by an older one.
        let counts = search.waits > 0 || (holds && self.wish == Wish::Better);
        if !counts {
            return None;
        }
        self.shared.count("adopt", "failure");
        Some(FetchError::Elsewhere {
            reason: failure.reason,
            retry_in: left,
            // Another replica's own trouble is no reason for a longer back-off here.
            in_a_row: if failure.is_endpoints_word() {
                failure.in_a_row
            } else {
                0
            },
        })
    }

    /// Asks the token endpoint.
    async fn mint(&self, turn: SemaphorePermit<'_>, lease: Option<Lease>) -> Brought {
        let registration = self.registration;
        if self.entry.state().slot.flight() != Some(self.number) {
            // It was stopped while this flight waited. Whatever it brought would be ignored,
            // and what is stopped is not to be asked for.
            return Err(FetchError::TimedOut).into();
        }
        let requested_at = Moment::now();
        let answer = timeout(
            registration.terms.timeout,
            registration.rotation.mint(self.span),
        )
        .await
        .unwrap_or(Err(FetchError::TimedOut));
        drop(turn);
        let now = Moment::now();
        let outcome = answer.as_ref().map_or_else(FetchError::class, |_| "ok");
        // Without credentials nobody was asked.
        if !matches!(answer, Err(FetchError::CredentialMissing)) {
            let took = now.instant.saturating_duration_since(requested_at.instant);
            self.metrics
                .answered(registration.host.name(), outcome, took);
        }
        let asked = answer.as_ref().err().and_then(FetchError::retry_after);
        let pause = asked.map(|asked| {
            let until = registration.host.pause(now.instant, asked);
            now.after(until.saturating_duration_since(now.instant))
        });
        let result = answer.and_then(|(minted, secret)| {
            let lifetime = registration
                .terms
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
                origin: Origin::Here,
            })
        });
        Brought {
            result,
            part: Part::Asked(lease),
            pause,
        }
    }
}

impl Search {
    /// Waits until another replica may have something, which has the turn for so long yet.
    async fn wait(&mut self, left: Duration, entry: &Entry) {
        let [first, longest] = LOOK_AGAIN;
        let spread = 1.0 + 0.25 * rand::random::<f64>();
        let again = first * 2_u32.saturating_pow(self.waits);
        let again = again.min(longest).mul_f64(spread);
        self.waits += 1;
        self.waiting_since = Some(Instant::now());
        // Whether somebody tells or nobody does, it is looked at again.
        let _ = timeout(left.min(again).max(LOOK_AGAIN_FLOOR), entry.nudged()).await;
    }

    /// Counts how long it was waited, if it was. Queueing is no waiting for others.
    fn stop_waiting(&mut self) {
        let since = self.waiting_since.take();
        self.waited += since.map_or(Duration::ZERO, |since| since.elapsed());
    }
}

impl From<Result<Token, FetchError>> for Brought {
    /// What others have, or what is known without asking.
    fn from(result: Result<Token, FetchError>) -> Self {
        Self {
            result,
            part: Part::Watched,
            pause: None,
        }
    }
}

/// A token of another replica as this broker's, if it is of use now.
pub(super) fn arrive(
    shared: &SharedCache,
    token: SharedToken,
    registration: &Registration,
    now: Moment,
) -> Option<Token> {
    let max = registration.terms.lifetimes.max;
    let token = token.arrive(&registration.key, max, now);
    token
        .map_err(|untimely| shared.count("adopt", untimely.code()))
        .ok()
}

/// Leaves the host alone as another replica was asked to.
pub(super) fn heed(until: SystemTime, registration: &Registration) {
    let now = Moment::now();
    let left = now.at(until).saturating_duration_since(now.instant);
    if !left.is_zero() {
        let until = now.instant + left.min(RETRY_AFTER_CAP);
        registration.host.pause_until(until);
    }
}
