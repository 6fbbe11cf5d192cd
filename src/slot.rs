//! The token state machine: what is held for one key, and what to do about it.
//!
//! Everything here is a function of the state and a moment. There is no clock, no
//! lock, no task and no I/O; those stand around it.

use std::{num::NonZeroU64, sync::Arc, time::Duration};

use crate::{
    backoff::Backoff,
    clock::Instant,
    token::{Origin, Token, TokenId},
};

/// A refresh begins at this part of a token's life, so that an outage of almost half
/// a life costs no caller anything.
const REFRESH_AT: f64 = 0.5;
/// The refresh moment is spread by this much of itself to either side.
const REFRESH_JITTER: f64 = 0.05;
/// The expiry margin never takes more than this part of a token's life.
const MARGIN_SHARE: u32 = 10;
/// A token younger than this, or than a tenth of its life if that is less, is not replaced
/// for a caller who wants more validity: its successor would hardly live longer, and
/// callers could mint without end.
const TOO_FRESH_TO_REPLACE: Duration = Duration::from_secs(10);
/// A `Retry-After` is believed within these bounds.
const RETRY_AFTER_FLOOR: Duration = Duration::from_secs(1);
/// An upstream cannot stop the broker from asking for longer than this.
pub const RETRY_AFTER_CAP: Duration = Duration::from_secs(300);
/// Reports that tokens are rejected start no more than one flight in this time: if the
/// successor is rejected as well, minting more of them helps nobody.
const REPORT_WINDOW: Duration = Duration::from_secs(30);
/// A failure of another broker is shared for this long at least.
const TOLD_FLOOR: Duration = Duration::from_millis(100);
/// Retries after it are spread over this part of the wait.
const TOLD_SPREAD: f64 = 0.05;
/// Retries after a pause are spread over this part of it.
const RETRY_AFTER_SPREAD: f64 = 0.1;

/// The state of one key.
///
/// The token and the failure are two fields: a failed refresh leaves the token alone.
#[derive(Debug)]
pub struct Slot {
    expiry_margin: Duration,
    token: Option<Held>,
    /// Apart, since hardly one of ten thousand slots has any.
    failure: Option<Box<Failed>>,
    flight: Option<FlightNumber>,
    last_flight: Option<FlightNumber>,
    quarantined: bool,
    /// A report of the current token starts no flight before.
    heeds_reports_at: Option<Instant>,
}

/// A token with the moments that were computed when it landed.
#[derive(Debug)]
struct Held {
    token: Arc<Token>,
    landed_at: Instant,
    refresh_at: Instant,
    /// How long before its expiry the token is no longer served.
    margin: Duration,
}

/// The failures since the last success.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Failed {
    reason: FailureReason,
    in_a_row: u32,
    retry_at: Instant,
}

/// Names one flight of a slot, so that one from before a quarantine cannot land after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FlightNumber(NonZeroU64);

/// What to do for a caller.
#[derive(Debug)]
pub enum Decision {
    /// Hand out this token.
    Serve(Arc<Token>),
    /// Hand out this token and launch a flight for its successor.
    ServeAndLaunch(Arc<Token>),
    /// Wait for the flight under way.
    Join(FlightNumber),
    /// Launch a flight and wait for it.
    LaunchAndJoin,
    /// Say no.
    Refuse(Refusal),
}

/// What to do about a report that a token was rejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Report {
    /// Launch a flight for a successor.
    Refresh,
    /// A flight is under way already.
    UnderWay,
    /// That token is not the current one.
    AlreadyReplaced,
    /// Do nothing: minting was tried only just now.
    TooOften,
}

/// Why a caller gets no token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// An operator stopped this destination.
    Quarantined,
    /// The caller wants more validity than this upstream's tokens have.
    ValidityUnattainable,
    /// Minting failed and is not to be tried again before `retry_at`.
    Failed {
        /// What is wrong.
        reason: FailureReason,
        /// When the next flight may be launched.
        retry_at: Instant,
    },
}

/// Why minting failed, as far as callers and the back-off are concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failure {
    /// What is wrong.
    pub reason: FailureReason,
    /// What decides when minting is tried again.
    pub retry: Retry,
}

/// What decides when minting is tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// The back-off.
    Alone,
    /// The back-off, but not before the upstream said, after so long.
    NotBefore(Duration),
    /// Another broker, which failed: it is for this one to try next.
    With {
        /// After so long.
        wait: Duration,
        /// How often it was so there, one after the other.
        in_a_row: u32,
    },
}

/// What is wrong with minting.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FailureReason {
    /// There are no credentials.
    CredentialMissing,
    /// The upstream refuses the credentials.
    CredentialRejected,
    /// The upstream cannot be reached or is out of order.
    Unavailable,
    /// The upstream limits the rate of requests.
    Throttled,
    /// The upstream's answer is not a usable token.
    Malformed,
}

impl Slot {
    /// An empty slot, whose tokens are not served during the last `expiry_margin` of
    /// their life.
    pub fn new(expiry_margin: Duration) -> Self {
        Self {
            expiry_margin,
            token: None,
            failure: None,
            flight: None,
            last_flight: None,
            quarantined: false,
            heeds_reports_at: None,
        }
    }

    /// Takes over the token of another slot, until a flight brings one of its own. That
    /// flight is due at once; should it fail, the inherited token stays.
    pub fn inherit(&mut self, token: Token, now: Instant) {
        let held = Held::new(token, self.expiry_margin, now, 0.0);
        self.token = held.ok().map(|held| Held {
            refresh_at: now,
            // It is as old as it is, wherever it was minted: whoever wants more than it has
            // may wait for that flight.
            landed_at: held.token.requested_at.instant,
            ..held
        });
    }

    /// Serves tokens that land from now on until another margin before their expiry.
    pub fn keep_margin(&mut self, expiry_margin: Duration) {
        self.expiry_margin = expiry_margin;
    }

    /// What to do for a caller who wants a token that lives at least `min_validity` more.
    pub fn decide(&self, now: Instant, min_validity: Duration) -> Decision {
        if self.quarantined {
            return Decision::Refuse(Refusal::Quarantined);
        }
        if let Some(held) = &self.token {
            if now < held.served_until(min_validity) {
                let token = Arc::clone(&held.token);
                return if held.refresh_at <= now && self.may_launch(now) {
                    Decision::ServeAndLaunch(token)
                } else {
                    Decision::Serve(token)
                };
            }
            if !held.successor_could_satisfy(now, min_validity) {
                return Decision::Refuse(Refusal::ValidityUnattainable);
            }
        }
        if let Some(number) = self.flight {
            return Decision::Join(number);
        }
        match &self.failure {
            Some(failed) if now < failed.retry_at => Decision::Refuse(failed.refusal()),
            _ => Decision::LaunchAndJoin,
        }
    }

    /// What to do for an operator who wants a successor now, whatever the back-off says.
    pub fn renew(&self) -> Decision {
        match self.flight {
            _ if self.quarantined => Decision::Refuse(Refusal::Quarantined),
            Some(number) => Decision::Join(number),
            None => Decision::LaunchAndJoin,
        }
    }

    /// What to do about a report that the destination rejected this token. On
    /// [`Report::Refresh`], [`Slot::heed`] is to be called.
    pub fn report(&self, id: TokenId, now: Instant) -> Report {
        let is_current = self.token.as_ref().is_some_and(|held| held.token.id == id);
        if !is_current {
            Report::AlreadyReplaced
        } else if self.flight.is_some() {
            Report::UnderWay
        } else if self.heeds_reports_at.is_some_and(|at| now < at) || !self.may_launch(now) {
            Report::TooOften
        } else {
            Report::Refresh
        }
    }

    /// Launches the flight that a report asks for. The reported token stays: a report is
    /// no proof, and its successor may not come.
    pub fn heed(&mut self, now: Instant) -> FlightNumber {
        self.heeds_reports_at = Some(now + REPORT_WINDOW);
        self.launch()
    }

    /// Notes that a flight starts. To be called on [`Decision::ServeAndLaunch`],
    /// [`Decision::LaunchAndJoin`] and when [`Slot::due`] has come.
    pub fn launch(&mut self) -> FlightNumber {
        debug_assert!(self.flight.is_none(), "one flight at a time");
        let number = FlightNumber::after(self.last_flight);
        self.last_flight = Some(number);
        self.flight = Some(number);
        number
    }

    /// Takes in the result of a flight, and says what those who wait for it get.
    /// `draw` is a random number from `[0, 1)`.
    ///
    /// # Errors
    /// The refusal that every waiter shares.
    pub fn land(
        &mut self,
        number: FlightNumber,
        result: Result<Token, Failure>,
        now: Instant,
        draw: f64,
    ) -> Result<Arc<Token>, Refusal> {
        if self.flight != Some(number) {
            // Launched before a quarantine: whatever it brings is not to be trusted.
            return Err(Refusal::Quarantined);
        }
        self.flight = None;
        let held = result.and_then(|token| Held::new(token, self.expiry_margin, now, draw));
        match held {
            Ok(held) => {
                let token = Arc::clone(&held.token);
                self.token = Some(held);
                self.failure = None;
                Ok(token)
            }
            Err(failure) => {
                let failed = Failed::after(self.failures(), failure, now, draw);
                let refusal = failed.refusal();
                self.failure = Some(Box::new(failed));
                Err(refusal)
            }
        }
    }

    /// Whether a token that another broker minted is better than what is here.
    pub fn wants(&self, token: &Token, now: Instant) -> bool {
        let margin = self.expiry_margin.min(token.lifetime / MARGIN_SHARE);
        let is_newer = |held: &Held| token.is_newer_than(&held.token);
        !self.quarantined && token.suffices(now, margin) && self.token.as_ref().is_none_or(is_newer)
    }

    /// Takes over a token that another broker minted, if it is wanted and no flight is under
    /// way that would bring one.
    pub fn adopt(&mut self, token: Token, now: Instant, draw: f64) -> Option<Arc<Token>> {
        if self.flight.is_some() || !self.wants(&token, now) {
            return None;
        }
        let held = Held::new(token, self.expiry_margin, now, draw).ok()?;
        let token = Arc::clone(&held.token);
        self.token = Some(held);
        self.failure = None;
        Some(token)
    }

    /// When the next flight is due if nobody asks before.
    pub fn due(&self) -> Option<Instant> {
        if self.quarantined || self.flight.is_some() {
            return None;
        }
        let refresh_at = self.token.as_ref().map(|held| held.refresh_at);
        let retry_at = self.retry_at();
        // The later of the two: a back-off delays a refresh, and a token delays a retry.
        refresh_at.max(retry_at)
    }

    /// Drops the token, disowns the flight under way and refuses everybody until
    /// [`Slot::release`].
    pub fn quarantine(&mut self) {
        self.token = None;
        self.flight = None;
        self.quarantined = true;
    }

    /// Ends a quarantine; the next caller launches a flight.
    pub fn release(&mut self) {
        self.quarantined = false;
        self.failure = None;
    }

    /// The current token, if there is one; it may be dead.
    pub fn token(&self) -> Option<&Arc<Token>> {
        self.token.as_ref().map(|held| &held.token)
    }

    /// Until when the current token is served, if there is one.
    pub fn served_until(&self) -> Option<Instant> {
        let held = self.token.as_ref()?;
        Some(held.served_until(Duration::ZERO))
    }

    /// When the successor of the current token is due, if there is one.
    pub fn refresh_at(&self) -> Option<Instant> {
        self.token.as_ref().map(|held| held.refresh_at)
    }

    /// When minting may be tried again, if it failed last.
    pub fn retry_at(&self) -> Option<Instant> {
        self.failure.as_ref().map(|failed| failed.retry_at)
    }

    /// How long until the first caller would fail if the upstream were gone.
    pub fn runway(&self, now: Instant) -> Duration {
        self.served_until()
            .map_or(Duration::ZERO, |until| until.saturating_duration_since(now))
    }

    /// The flight under way.
    pub fn flight(&self) -> Option<FlightNumber> {
        self.flight
    }

    /// The flight that was launched last, whatever became of it.
    pub fn last_flight(&self) -> Option<FlightNumber> {
        self.last_flight
    }

    /// Whether an operator stopped it.
    pub fn is_quarantined(&self) -> bool {
        self.quarantined
    }

    /// How often minting failed since it last succeeded.
    pub fn failures(&self) -> u32 {
        self.failure.as_ref().map_or(0, |failed| failed.in_a_row)
    }

    /// Why minting failed last, if it has not succeeded since.
    pub fn failing(&self) -> Option<FailureReason> {
        self.failure.as_ref().map(|failed| failed.reason)
    }

    fn may_launch(&self, now: Instant) -> bool {
        self.flight.is_none() && self.retry_at().is_none_or(|at| at <= now)
    }
}

impl FlightNumber {
    fn after(last: Option<Self>) -> Self {
        let next = last.map_or(NonZeroU64::MIN, |Self(last)| last.saturating_add(1));
        Self(next)
    }
}

impl FailureReason {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::CredentialMissing,
        Self::CredentialRejected,
        Self::Unavailable,
        Self::Throttled,
        Self::Malformed,
    ];

    /// The reason code that callers, logs and metrics see.
    pub fn code(self) -> &'static str {
        match self {
            Self::CredentialMissing => "CREDENTIAL_MISSING",
            Self::CredentialRejected => "CREDENTIAL_REJECTED",
            Self::Unavailable => "UPSTREAM_UNAVAILABLE",
            Self::Throttled => "UPSTREAM_THROTTLED",
            Self::Malformed => "UPSTREAM_MALFORMED",
        }
    }

    /// Whether nothing helps but an operator.
    pub fn needs_an_operator(self) -> bool {
        matches!(self, Self::CredentialMissing | Self::CredentialRejected)
    }
}

#[cfg(test)]
impl Decision {
    /// Whether a flight is to be launched.
    pub(crate) fn launches(&self) -> bool {
        matches!(self, Self::ServeAndLaunch(_) | Self::LaunchAndJoin)
    }
}

impl Held {
    fn new(
        token: Token,
        expiry_margin: Duration,
        now: Instant,
        draw: f64,
    ) -> Result<Self, Failure> {
        let life = token.lifetime;
        let spread = REFRESH_JITTER * (2.0 * draw - 1.0);
        let held = Self {
            landed_at: match token.origin {
                Origin::Here => now,
                // It is as old as it is: this broker may mint a newer one.
                Origin::Elsewhere => token.requested_at.instant,
            },
            refresh_at: token.requested_at.instant + life.mul_f64(REFRESH_AT * (1.0 + spread)),
            margin: expiry_margin.min(life / MARGIN_SHARE),
            token: Arc::new(token),
        };
        // The answer took so long, or the life is so short, that it is dead on arrival.
        if held.served_until(Duration::ZERO) <= now {
            return Err(Failure {
                reason: FailureReason::Malformed,
                retry: Retry::Alone,
            });
        }
        Ok(held)
    }

    /// The moment from which the token is not handed out to a caller with this wish.
    fn served_until(&self, min_validity: Duration) -> Instant {
        let reserve = min_validity.max(self.margin);
        self.token.requested_at.instant + self.token.lifetime.saturating_sub(reserve)
    }

    /// Whether a token like this one, but new, could have the validity that this one lacks.
    fn successor_could_satisfy(&self, now: Instant, min_validity: Duration) -> bool {
        // Since it landed: a slow upstream's token is old already when it comes.
        let age = now.saturating_duration_since(self.landed_at);
        let too_fresh = age < TOO_FRESH_TO_REPLACE.min(self.token.lifetime / MARGIN_SHARE);
        min_validity < self.token.lifetime && !too_fresh
    }
}

impl Failed {
    /// The next failure after so many in a row.
    fn after(failures: u32, failure: Failure, now: Instant, draw: f64) -> Self {
        if let Retry::With { wait, in_a_row } = failure.retry {
            let wait = wait.clamp(TOLD_FLOOR, RETRY_AFTER_CAP);
            return Self {
                reason: failure.reason,
                // All of them back off together, whoever tries.
                in_a_row: failures.max(in_a_row),
                retry_at: now + wait.mul_f64(1.0 + TOLD_SPREAD * draw),
            };
        }
        let in_a_row = failures.saturating_add(1);
        let backoff = match failure.reason {
            FailureReason::CredentialMissing | FailureReason::CredentialRejected => {
                Backoff::REJECTED
            }
            FailureReason::Unavailable | FailureReason::Throttled | FailureReason::Malformed => {
                Backoff::TRANSIENT
            }
        };
        let asked = match failure.retry {
            Retry::NotBefore(wait) => {
                believed_retry_after(wait).mul_f64(1.0 + RETRY_AFTER_SPREAD * draw)
            }
            Retry::Alone | Retry::With { .. } => Duration::ZERO,
        };
        Self {
            reason: failure.reason,
            in_a_row,
            retry_at: now + backoff.delay(in_a_row, draw).max(asked),
        }
    }

    fn refusal(&self) -> Refusal {
        Refusal::Failed {
            reason: self.reason,
            retry_at: self.retry_at,
        }
    }
}

/// How much of a `Retry-After` is obeyed: no less than a second, no more than five minutes.
pub fn believed_retry_after(asked: Duration) -> Duration {
    asked.clamp(RETRY_AFTER_FLOOR, RETRY_AFTER_CAP)
}

#[cfg(test)]
mod tests;
