//! The state of every destination.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use super::{Operator, Warning};
use crate::{
    broker::Listing,
    cache::{Condition, Registration, Standing},
    clock::{Instant, Moment},
    destination::{ApplicationName, DestinationId, TokenKey},
    identity::CallerId,
    slot::FailureReason,
    token::SecretName,
    upstream::Trial,
    usage::{Ledger, Quarantine, Stamp},
};

/// The state of one destination under one application.
pub struct Survey {
    /// The configured id.
    pub id: DestinationId,
    /// The configured name.
    pub name: Option<DestinationId>,
    /// What a caller would meet.
    pub state: State,
    /// When somebody asked last.
    pub last_used: Option<SystemTime>,
}

/// What a caller of a destination would meet.
pub enum State {
    /// The destination is public.
    Unprotected,
    /// It wants a token.
    Protected(Box<Protected>),
}

/// The state of what wants a token.
pub struct Protected {
    /// The application.
    pub application: ApplicationName,
    /// What there is for callers.
    pub condition: Condition,
    /// The moments of the token at hand, which may be dead.
    pub token: Option<TokenTimes>,
    /// When the next flight is due.
    pub due_at: Option<SystemTime>,
    /// Whether a flight is under way.
    pub is_minting: bool,
    /// How long until the first caller would fail if the upstream were gone.
    pub runway: Duration,
    /// When a token was minted last.
    pub last_success: Option<SystemTime>,
    /// Why and when minting failed last.
    pub last_failure: Option<(FailureReason, SystemTime)>,
    /// How often it failed since it last succeeded.
    pub failures: u32,
    /// When it may be tried again after that.
    pub retry_at: Option<SystemTime>,
    /// What the next flight mints with.
    pub secret: Arc<SecretName>,
    /// How the next secret has done so far, if there is one.
    pub trial: Option<Trial>,
    /// Who was served since the start.
    pub callers: Vec<CallerId>,
    /// What is wrong, or about to be.
    pub warnings: Vec<Warning>,
    /// Who stopped it, if somebody did.
    pub quarantine: Option<Quarantine>,
}

/// When everything happens to a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TokenTimes {
    /// When it was asked for, from which its life counts.
    pub requested_at: SystemTime,
    /// When its successor is due.
    pub refresh_at: SystemTime,
    /// Until when it is handed out.
    pub served_until: SystemTime,
    /// From when its destination does not honour it any more.
    pub expires_at: SystemTime,
}

impl TokenTimes {
    fn of(standing: &Standing, now: Moment) -> Option<Self> {
        let token = standing.token.as_ref()?;
        Some(Self {
            requested_at: token.requested_at.wall,
            refresh_at: wall(standing.refresh_at?, now),
            served_until: wall(standing.served_until?, now),
            expires_at: token.expires_at().wall,
        })
    }
}

impl Operator {
    /// The state of every destination under every application, in file order; and the
    /// warnings that are of none of them.
    pub fn survey(self: &Arc<Self>) -> (Vec<Survey>, Vec<Warning>) {
        self.look();
        let standings = self.broker.cache().standings();
        let catalogue = self.broker.catalogue.load();
        let mut surveys = Vec::new();
        for listing in catalogue.listings() {
            let survey = |state, last_used| Survey {
                id: listing.id.clone(),
                name: listing.name.clone(),
                state,
                last_used,
            };
            if listing.registrations.is_empty() {
                surveys.push(survey(State::Unprotected, used(listing, None)));
            }
            for registration in &listing.registrations {
                let standing = standings.of(registration);
                let last_used = standing.as_ref().and_then(|standing| standing.last_used);
                let last_used = last_used.map(|last| last.wall);
                let last_used = last_used.max(used(listing, Some(registration)));
                let state = self.protected(registration, standing.as_ref(), catalogue.ledger());
                surveys.push(survey(State::Protected(Box::new(state)), last_used));
            }
        }
        (surveys, self.warnings_of("", ""))
    }

    fn protected(
        &self,
        registration: &Registration,
        standing: Option<&Standing>,
        ledger: &Ledger,
    ) -> Protected {
        let TokenKey {
            destination,
            application,
            ..
        } = &*registration.key;
        let now = Moment::now();
        let quarantine = self.stops().find(destination, application).cloned();
        let condition = match standing {
            Some(standing) => standing.condition,
            None if quarantine.is_some() => Condition::Quarantined,
            None => Condition::Cold,
        };
        let due = standing.and_then(|standing| standing.due);
        let last_success = standing.and_then(|standing| standing.last_success);
        let last_failure = standing.and_then(|standing| standing.last_failure);
        let retry_at = standing.and_then(|standing| standing.retry_at);
        Protected {
            application: application.clone(),
            condition,
            token: standing.and_then(|standing| TokenTimes::of(standing, now)),
            due_at: due.map(|due| wall(due, now)),
            is_minting: standing.is_some_and(|standing| standing.is_minting),
            runway: standing.map_or(Duration::ZERO, |standing| standing.runway),
            last_success: last_success.map(|moment| moment.wall),
            last_failure: last_failure.map(|(reason, moment)| (reason, moment.wall)),
            failures: standing.map_or(0, |standing| standing.failures),
            retry_at: retry_at.map(|at| wall(at, now)),
            secret: Arc::clone(registration.rotation.minting(now.instant)),
            trial: registration.rotation.trial(),
            callers: ledger.callers(destination.as_str(), application.as_str()),
            warnings: self.warnings_of(destination.as_str(), application.as_str()),
            quarantine,
        }
    }
}

/// When a grant that leads to this registration was used last.
fn used(listing: &Listing, registration: Option<&Arc<Registration>>) -> Option<SystemTime> {
    let openings = listing.grants.as_slice().iter();
    let openings = openings.map(|grant| &grant.application);
    let leads = openings.filter(|opening| match (&opening.registration, registration) {
        (Some(one), Some(other)) => Arc::ptr_eq(one, other),
        (one, other) => one.is_none() && other.is_none(),
    });
    let used = leads.filter_map(|opening| opening.used.last_used()).max();
    used.map(Stamp::wall)
}

/// A moment of the monotonic clock as the wall clock would show it.
fn wall(moment: Instant, now: Moment) -> SystemTime {
    let left = moment.saturating_duration_since(now.instant);
    let passed = now.instant.saturating_duration_since(moment);
    now.wall + left - passed
}
