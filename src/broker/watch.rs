//! Watching the tokens of a destination, for as long as the caller is granted it.

use std::sync::Arc;

use super::{Broker, CallError, Granted, hand_out};
use crate::{cache, token::Token, usage::Stamp};

/// A caller that is told about each token of a destination.
pub struct Watch {
    broker: Arc<Broker>,
    granted: Granted,
    slot: cache::Watch,
    policy: tokio::sync::watch::Receiver<()>,
}

impl Watch {
    /// Watches for a caller that was granted this just now.
    pub(super) fn new(broker: &Arc<Broker>, granted: Granted) -> Self {
        // Asked again at once: the policy may have changed since the caller was granted it.
        let mut policy = broker.policy.subscribe();
        policy.mark_changed();
        Self {
            slot: broker.cache.watch(&granted.registration),
            policy,
            broker: Arc::clone(broker),
            granted,
        }
    }

    /// Waits for a token, or a failure, that the watcher has not been told yet.
    ///
    /// # Errors
    /// [`CallError::Refused`] when there is no valid token any more, but there may be
    /// again; whatever [`Broker::authorise`] gives when the grant was withdrawn, which is
    /// the end.
    pub async fn next(&mut self) -> Result<Arc<Token>, CallError> {
        loop {
            tokio::select! {
                biased;
                Ok(()) = self.policy.changed() => self.authorise()?,
                token = self.slot.next() => {
                    let token = hand_out(&self.granted.registration, token)?;
                    self.granted.opening.used.touch(Stamp::now());
                    self.granted.opening.served.note(&self.granted.caller);
                    return Ok(token);
                }
            }
        }
    }

    /// Asks a policy that has changed.
    fn authorise(&mut self) -> Result<(), CallError> {
        let Granted {
            caller,
            destination,
            ..
        } = &self.granted;
        let granted = self.broker.authorise(caller, destination)?;
        if !Arc::ptr_eq(&granted.registration, &self.granted.registration) {
            self.broker
                .cache
                .follow(&mut self.slot, &granted.registration);
        }
        self.granted = granted;
        Ok(())
    }
}
