//! What a flight does where replicas share: it looks what the others have, and mints for all
//! of them if it is its turn.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use tokio::{
    join,
    sync::SemaphorePermit,
    time::{timeout, timeout_at},
};

use super::{Registration, entry::Entry};
use crate::{
    clock::{Instant, Moment},
    metrics::Metrics,
    shared_cache::{Begun, Found, Lease, Place, Seen, SharedCache, SharedFailure, SharedToken},
    slot::{FlightNumber, believed_retry_after},
    token::{Origin, Token, TokenId},
    upstream::FetchError,
};

/// A lease lasts so much longer than the call to the token endpoint may take.
const GRACE: Duration = Duration::from_millis(250);
/// Whoever waits for another replica looks again after this time, should nobody tell.
const LOOK_AGAIN: Duration = Duration::from_millis(250);
/// A holder may die, and whoever takes its place as well. Then everybody goes alone.
const LEASES_WAITED_FOR: u32 = 2;

/// A failure that has no longer to last is over: clocks differ a little, and whoever failed is
/// not to be put off by its own failure when it tries again.
const NEARLY_OVER: Duration = Duration::from_millis(500);

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
}

impl Quest<'_> {
    /// Brings a token that another replica minted, or mints one.
    pub(super) async fn bring(&self) -> Brought {
        match &self.registration.place {
            Some(place) => self.bring_for_all(place).await,
            None => self.bring_alone().await,
        }
    }

    async fn bring_alone(&self) -> Brought {
        match self.registration.host.turn().await {
            Ok(turn) => self.mint(turn, None).await,
            Err(error) => Err(error).into(),
        }
    }

    async fn bring_for_all(&self, place: &Place) -> Brought {
        let lease_life = self.registration.timeout + GRACE;
        let patience = Instant::now() + lease_life * LEASES_WAITED_FOR;
        let mut seen = Seen::default();
        let mut has_waited = false;
        loop {
            let (found, pause) =
                join!(self.shared.look(place, &mut seen), self.shared.pause(place));
            let Some(found) = found else {
                return self.bring_alone().await;
            };
            if let Some(brought) = self.choose(found, has_waited) {
                return brought;
            }
            if let Some(until) = pause {
                heed(until, self.registration);
            }
            let turn = match self.registration.host.turn().await {
                Ok(turn) => turn,
                Err(error) => return Err(error).into(),
            };
            if patience <= Instant::now() {
                return self.mint(turn, None).await;
            }
            let found = match self.shared.begin(place, &mut seen, lease_life).await {
                Begun::Granted(lease) => return self.mint(turn, Some(lease)).await,
                Begun::Alone => return self.mint(turn, None).await,
                Begun::Found(found) => found,
                Begun::Held(left) => {
                    // The turn is for those who ask.
                    drop(turn);
                    let moment = (Instant::now() + left.min(LOOK_AGAIN)).min(patience);
                    // Whether somebody tells or nobody does, it is looked at again.
                    let _ = timeout_at(moment, self.entry.nudged()).await;
                    has_waited = true;
                    continue;
                }
            };
            drop(turn);
            if let Some(brought) = self.choose(found, has_waited) {
                return brought;
            }
        }
    }

    /// The best of what was found, if it is of use: a token before a failure.
    fn choose(&self, found: Vec<Found>, has_waited: bool) -> Option<Brought> {
        let mut failure = None;
        for one in found {
            match one {
                Found::Token(token) => {
                    if let Some(token) = self.accept(token) {
                        return Some(Ok(token).into());
                    }
                }
                Found::Failure(one) => failure = self.share(one, has_waited),
            }
        }
        failure.map(|failure| Err(failure).into())
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
    fn share(&self, failure: SharedFailure, has_waited: bool) -> Option<FetchError> {
        let now = Moment::now();
        let left = now.at(failure.retry_at);
        let left = left.saturating_duration_since(now.instant);
        let holds = failure.is_endpoints_word() && NEARLY_OVER < left;
        // Whoever waited has not seen it before, so it is of the flight that was waited for.
        // An operator who wants a successor now is not put off by an older one.
        let counts = has_waited || (holds && self.wish == Wish::Better);
        if !counts {
            return None;
        }
        self.shared.count("adopt", "failure");
        Some(FetchError::Elsewhere {
            reason: failure.reason,
            retry_after: failure.is_endpoints_word().then_some(left),
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
        let answer = timeout(registration.timeout, registration.rotation.mint())
            .await
            .unwrap_or(Err(FetchError::TimedOut));
        drop(turn);
        let now = Moment::now();
        self.metrics.answered(
            registration.host.name(),
            now.instant.saturating_duration_since(requested_at.instant),
        );
        let asked = answer.as_ref().err().and_then(FetchError::retry_after);
        let pause = asked.map(|asked| {
            let until = registration.host.pause(now.instant, asked);
            now.after(until.saturating_duration_since(now.instant))
        });
        let result = answer.and_then(|(minted, secret)| {
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
    let max = registration.lifetimes.max;
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
        let until = now.instant + left.min(believed_retry_after(left));
        registration.host.pause_until(until);
    }
}
