//! The broker itself: who may have what, and the token that answers them.
//!
//! Every door asks here, so that all of them ask the same policy, in the same order:
//! authorise first, on every request, and only then look at the cache.

mod asker;
mod catalogue;
mod error;
mod operator;
mod watch;

use std::{
    future::poll_fn,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwap;

use tracing::error;

pub use self::{
    asker::Asker,
    catalogue::{Catalogue, Listing, Opening},
    error::CallError,
    operator::{
        ActError, Administrator, Applied, Asked, Explanation, Fault, Idle, Kept, Operator,
        Protected, Refreshed, Reload, Rules, State, Survey, TokenTimes, Told, Trouble, Unused,
        Warning,
    },
    watch::Watch,
};
use crate::{
    audit::{Audit, AuditUnavailable, Event, Found, HandOut},
    cache::{Cache, Condition, Missing, Registration},
    clock::Instant,
    destination::{DestinationId, DestinationName, TokenKey},
    identity::CallerId,
    metrics::Tally,
    slot::{FailureReason, Refusal, Report},
    telemetry::Span,
    token::{Token, TokenId},
    usage::{Callers, Mark, Stamp},
};

/// A token that waited so long for its record is looked at more closely.
const LONG_WAIT: Duration = Duration::from_millis(10);

/// Answers callers with tokens.
pub struct Broker {
    catalogue: ArcSwap<Catalogue>,
    cache: Cache,
    audit: Arc<Audit>,
    /// Tells watchers that the catalogue was replaced.
    policy: tokio::sync::watch::Sender<()>,
    /// Whether every warm destination had its first try at some time.
    begun: AtomicBool,
}

/// A caller's right to the tokens of one registration, for one request.
#[derive(Clone)]
pub struct Granted {
    /// Where calls to it are counted.
    pub tally: Arc<Tally>,
    registration: Arc<Registration>,
    /// When the grant was used last.
    used: Arc<Mark>,
    /// Who was served with those tokens.
    served: Arc<Callers>,
}

impl Granted {
    /// The configured id of the destination, whatever name the caller used.
    pub fn destination(&self) -> &DestinationId {
        &self.registration.key.destination
    }
}

impl Broker {
    /// A broker for these destinations, which records every token that it hands out.
    pub fn new(catalogue: Catalogue, cache: Cache, audit: Arc<Audit>) -> Self {
        cache.adopt(catalogue.edition(), catalogue.registrations());
        Self {
            catalogue: ArcSwap::from_pointee(catalogue),
            cache,
            audit,
            policy: tokio::sync::watch::Sender::new(()),
            begun: AtomicBool::new(false),
        }
    }

    /// Takes in what other replicas have; until then this one is not ready.
    pub async fn join(&self) {
        let registrations = self
            .catalogue
            .load()
            .registrations()
            .map(Arc::clone)
            .collect();
        self.cache.join(registrations).await;
    }

    /// Answers from another catalogue from now on. Tokens whose keys are in both stay, and
    /// those of renewed credentials stay until their successors arrive.
    pub fn replace(&self, catalogue: Catalogue) {
        let catalogue = Arc::new(catalogue);
        let last = self.catalogue.load();
        for (predecessor, renewed) in catalogue.renewed_since(&last) {
            self.cache.succeed(predecessor, renewed);
        }
        self.catalogue.store(Arc::clone(&catalogue));
        self.cache
            .adopt(catalogue.edition(), catalogue.registrations());
        self.warm();
        self.policy.send_replace(());
    }

    /// The catalogue that is in force.
    pub fn catalogue(&self) -> Arc<Catalogue> {
        self.catalogue.load_full()
    }

    /// Asks the policy.
    ///
    /// # Errors
    /// [`CallError::NotGranted`], which does not tell a destination that is forbidden from
    /// one that does not exist; [`CallError::Unprotected`] for one that needs no token.
    pub fn authorise<'a>(
        &self,
        caller: &CallerId,
        destination: impl Into<DestinationName<'a>>,
    ) -> Result<Granted, CallError> {
        let catalogue = self.catalogue.load();
        let listing = catalogue.find(destination).ok_or(CallError::NotGranted)?;
        let grant = listing.grants.decide(caller).ok_or(CallError::NotGranted)?;
        let opening = &grant.application;
        opening.used.touch(Stamp::now());
        let registration = opening.registration.as_ref();
        let registration = registration.ok_or(CallError::Unprotected)?;
        Ok(Granted {
            tally: Arc::clone(&listing.tally),
            registration: Arc::clone(registration),
            used: Arc::clone(&opening.used),
            served: Arc::clone(&opening.served),
        })
    }

    /// A token that lives at least `min_validity` more, once it is recorded who gets it.
    ///
    /// # Errors
    /// [`CallError::Refused`] with what the cache refused, and
    /// [`CallError::AuditUnavailable`].
    pub async fn token(
        &self,
        asker: &Asker,
        granted: &Granted,
        min_validity: Duration,
    ) -> Result<Arc<Token>, CallError> {
        let registration = &granted.registration;
        let (token, found) = match self
            .cache
            .find(registration, min_validity, &asker.span)
            .await
        {
            Ok(found) => found,
            Err(Missing::Refused(refusal)) => return Err(CallError::Refused(refusal)),
            // A reload came between: the newest catalogue knows.
            Err(Missing::Outdated) => {
                let granted = self.authorise(&asker.caller, granted.destination())?;
                return Box::pin(self.token(asker, &granted, min_validity)).await;
            }
        };
        let token = hand_out(registration, Ok(token))?;
        if !self.record(asker, &token, found, min_validity).await? {
            return Box::pin(self.token(asker, granted, min_validity)).await;
        }
        granted.served.note(&asker.caller);
        Ok(token)
    }

    /// The token of this registration and all its successors, for a caller that was
    /// granted it just now.
    pub fn watch(self: &Arc<Self>, asker: Asker, granted: &Granted) -> Watch {
        Watch::new(self, asker, granted.clone())
    }

    /// Takes in a caller's report that the destination rejected a token. `afford` takes from
    /// the caller's budget, and is asked only where a flight would start.
    pub fn report(
        &self,
        granted: &Granted,
        id: TokenId,
        afford: impl FnOnce() -> bool,
        call: &Span,
    ) -> Report {
        self.cache.report(&granted.registration, id, afford, call)
    }

    /// Launches the first flights of all destinations that are kept warm.
    pub fn warm(&self) {
        for registration in self.catalogue.load().registrations() {
            if registration.warm {
                self.cache.warm(registration);
            }
        }
    }

    /// Whether the broker can hand out tokens: it has what other replicas have, every warm
    /// destination has had its first try, there is one at least whose tokens do not fail, and they can be recorded.
    pub fn is_ready(&self) -> bool {
        self.has_begun() && self.works() && self.cache.has_joined() && self.audit.accepts()
    }

    /// Whether every warm destination had its first try. Once it is so, one more of them does
    /// not take the others away.
    fn has_begun(&self) -> bool {
        let is_tried = |registration: &Registration| {
            let condition = self.cache.condition(registration);
            !matches!(condition, Condition::Cold | Condition::Pending)
        };
        let begun =
            self.begun.load(Ordering::Relaxed) || self.catalogue.load().are_all_tried(is_tried);
        self.begun.fetch_or(begun, Ordering::Relaxed);
        begun
    }

    /// Whether there is a destination whose tokens do not fail, or none at all.
    fn works(&self) -> bool {
        let catalogue = self.catalogue.load();
        let mut registrations = catalogue.registrations().peekable();
        registrations.peek().is_none()
            || registrations
                .any(|registration| self.cache.condition(registration) != Condition::Failing)
    }

    /// The audit trail, for what does not go through here.
    pub fn audit(&self) -> &Audit {
        &self.audit
    }

    /// Whether a token is as good as it was before it waited for its record, since then.
    fn may_still_leave(&self, token: &Token, since: Instant, min_validity: Duration) -> bool {
        let now = Instant::now();
        let TokenKey {
            destination,
            application,
            ..
        } = &*token.key;
        // The ordinary wait is short, and takes no lock.
        let stopped = now.saturating_duration_since(since) > LONG_WAIT
            && self.cache.is_quarantined(destination, application);
        !stopped && token.suffices(now, min_validity)
    }

    /// Records that a token is about to leave, and says whether it still may: if that had to
    /// wait, the token is looked at again.
    async fn record(
        &self,
        asker: &Asker,
        token: &Token,
        cache: Found,
        min_validity: Duration,
    ) -> Result<bool, AuditUnavailable> {
        let event = Event::Token(HandOut {
            caller: asker.caller.as_str(),
            destination: token.key.destination.as_str(),
            application: token.key.application.as_str(),
            token_id: token.id,
            credential: &token.secret.credential,
            generation: &token.secret.generation,
            expires_at: token.expires_at().wall,
            cache,
            door: asker.door.name(),
            request_id: asker.request_id.as_str(),
        });
        let mut record = pin!(self.audit.record(&event));
        let mut since = None;
        poll_fn(|context| {
            let recorded = record.as_mut().poll(context);
            if recorded.is_pending() {
                since.get_or_insert_with(Instant::now);
            }
            recorded
        })
        .await?;
        Ok(since.is_none_or(|since| self.may_still_leave(token, since, min_validity)))
    }

    /// The cache, to watch its landings and to drain it.
    pub fn cache(&self) -> &Cache {
        &self.cache
    }
}

/// The last look before a token leaves: whatever went wrong below, nobody gets the token
/// of another key.
fn hand_out(
    registration: &Registration,
    token: Result<Arc<Token>, Refusal>,
) -> Result<Arc<Token>, CallError> {
    let token = token.map_err(CallError::Refused)?;
    if token.is_for(&registration.key) {
        return Ok(token);
    }
    error!(destination = %registration.key.destination, "the cache held the token of another key");
    Err(CallError::Refused(Refusal::Failed {
        reason: FailureReason::Unavailable,
        retry_at: Instant::now(),
    }))
}

#[cfg(test)]
mod tests;
