//! Minting with the current secret of an application, and with the next one on trial.
//!
//! A next secret mints first, as a canary: if the endpoint rejects it, the current one mints
//! in the same flight and goes on, so nobody notices. Once the next one has minted it is
//! promoted; the current one is kept, and takes over again should its successor be rejected.
//! Whichever is asked with first, the other one is asked with when that is rejected, so that
//! there is a token as long as either works.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tracing::{error, field::display, info};

use super::{FetchError, TokenSource};
use crate::{
    clock::Instant,
    telemetry::Span,
    token::{Minted, SecretName},
};

/// A secret that was rejected is tried again after this time: nothing is final, and the
/// endpoint may only have been slow to learn of it.
const TRY_AGAIN_AFTER: Duration = Duration::from_secs(300);

/// Mints with one of an application's two secrets.
pub struct Rotation {
    current: Minter,
    /// Apart, since most have none.
    next: Option<Box<Next>>,
}

/// The secret on trial.
struct Next {
    minter: Minter,
    /// Shared with the rotation that goes on after a reload, so that a flight of either tells both.
    trial: Arc<Mutex<Trial>>,
}

/// A source of tokens, and the name of the secret that it proves itself with.
pub struct Minter {
    /// Who asks the token endpoint.
    pub source: Arc<dyn TokenSource>,
    /// What it is asked with.
    pub secret: Arc<SecretName>,
}

/// How the next secret has done so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Trial {
    /// It was not tried yet.
    #[default]
    Pending,
    /// It has minted a token, so it goes on minting.
    Promoted,
    /// It was rejected, and the current one goes on until then.
    RolledBack {
        /// When it is tried again.
        again_at: Instant,
    },
}

impl Rotation {
    /// Mints with the one secret, or with the next one, which is on trial.
    pub fn new(current: Minter, next: Option<Minter>) -> Self {
        Self::on_trial(current, next, Trial::default())
    }

    /// Goes on with the trial of the last rotation, which was of the same secrets.
    #[must_use]
    pub fn after(mut self, last: &Self) -> Self {
        if let (Some(next), Some(last)) = (&mut self.next, &last.next) {
            next.trial = Arc::clone(&last.trial);
        }
        self
    }

    /// A rotation whose trial has come so far.
    pub(crate) fn on_trial(current: Minter, next: Option<Minter>, trial: Trial) -> Self {
        let next = next.map(|minter| {
            let trial = Arc::new(Mutex::new(trial));
            Box::new(Next { minter, trial })
        });
        Self { current, next }
    }

    /// One source and no rotation, for tests.
    #[cfg(test)]
    pub(crate) fn of(source: Arc<dyn TokenSource>) -> Arc<Self> {
        let current = Minter {
            source,
            secret: SecretName::sample(),
        };
        Arc::new(Self::new(current, None))
    }

    /// How the next secret has done so far, if there is one.
    pub fn trial(&self) -> Option<Trial> {
        self.next.as_ref().map(|next| *next.state())
    }

    /// The secret that the next flight asks with first.
    pub fn minting(&self, now: Instant) -> &Arc<SecretName> {
        &self.order(now).0.secret
    }

    /// Whether this client identifier is that of one of the secrets, so that its tokens are
    /// tokens of this application.
    pub fn knows_client(&self, client_id: &str) -> bool {
        let next = self.next.as_ref().map(|next| &next.minter);
        let mut minters = [Some(&self.current), next].into_iter().flatten();
        minters.any(|minter| &*minter.secret.client_id == client_id)
    }

    /// Asks the token endpoint for a new token: once, or again with the other secret when
    /// the first is rejected. Says which secret minted it.
    ///
    /// # Errors
    /// [`FetchError::Rejected`] when all secrets are rejected; of the last try otherwise.
    pub async fn mint(&self, flight: &Span) -> Result<(Minted, Arc<SecretName>), FetchError> {
        let (first, second) = self.order(Instant::now());
        let rejection = match first.source.mint(flight).await {
            Ok(minted) => {
                self.minted_with(first, flight);
                return Ok((minted, Arc::clone(&first.secret)));
            }
            Err(rejection @ FetchError::Rejected { .. }) => rejection,
            Err(error) => return Err(error),
        };
        let Some(second) = second else {
            return Err(rejection);
        };
        let minted = second
            .source
            .mint(flight)
            .await
            .map_err(|error| match error {
                FetchError::Rejected { .. } => rejection,
                // It may be a good secret at an endpoint that is out of order: it is tried again
                // soon, or when the endpoint says so.
                error => error,
            })?;
        self.minted_with(second, flight);
        Ok((minted, Arc::clone(&second.secret)))
    }

    /// Which secret is asked with first, and which one if that is rejected.
    fn order(&self, now: Instant) -> (&Minter, Option<&Minter>) {
        let Some(next) = &self.next else {
            return (&self.current, None);
        };
        match *next.state() {
            Trial::RolledBack { again_at } if now < again_at => (&self.current, Some(&next.minter)),
            _ => (&next.minter, Some(&self.current)),
        }
    }

    fn minted_with(&self, minter: &Minter, flight: &Span) {
        let Some(next) = &self.next else { return };
        let promoted = Arc::ptr_eq(&minter.secret, &next.minter.secret);
        let mut state = next.state();
        let before = *state;
        *state = match before {
            _ if promoted => Trial::Promoted,
            Trial::RolledBack { again_at } if Instant::now() < again_at => before,
            _ => Trial::RolledBack {
                again_at: Instant::now() + TRY_AGAIN_AFTER,
            },
        };
        drop(state);
        let SecretName {
            credential,
            generation,
            ..
        } = &*next.minter.secret;
        let trace_id = flight.trace_id().map(display);
        match (before, promoted) {
            (Trial::Promoted, true) | (Trial::RolledBack { .. }, false) => {}
            (_, true) => info!(
                credential = &**credential,
                generation, trace_id, "the next secret works and mints from now on"
            ),
            (_, false) => error!(
                credential = &**credential,
                generation,
                trace_id,
                "the next secret is rejected: the current one goes on minting"
            ),
        }
    }
}

impl Next {
    fn state(&self) -> MutexGuard<'_, Trial> {
        self.trial.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
