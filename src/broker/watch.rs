//! Watching the tokens of a destination, for as long as the caller is granted it.

use std::sync::Arc;

use super::{Broker, CallError, hand_out};
use crate::{
    cache::{self, Registration},
    destination::DestinationId,
    identity::CallerId,
    token::Token,
};

/// A caller that is told about each token of a destination.
pub struct Watch {
    broker: Arc<Broker>,
    caller: CallerId,
    destination: DestinationId,
    registration: Arc<Registration>,
    slot: cache::Watch,
    policy: tokio::sync::watch::Receiver<()>,
}

impl Watch {
    /// Watches for a caller that was granted this registration just now.
    pub(super) fn new(
        broker: &Arc<Broker>,
        caller: CallerId,
        destination: DestinationId,
        registration: Arc<Registration>,
    ) -> Self {
        // Asked again at once: the policy may have changed since the caller was granted it.
        let mut policy = broker.policy.subscribe();
        policy.mark_changed();
        Self {
            slot: broker.cache.watch(&registration),
            policy,
            broker: Arc::clone(broker),
            caller,
            destination,
            registration,
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
                token = self.slot.next() => return hand_out(&self.registration, token),
            }
        }
    }

    /// Asks a policy that has changed.
    fn authorise(&mut self) -> Result<(), CallError> {
        let granted = self.broker.authorise(&self.caller, &self.destination)?;
        if !Arc::ptr_eq(&granted.registration, &self.registration) {
            self.registration = granted.registration;
            self.broker.cache.follow(&mut self.slot, &self.registration);
        }
        Ok(())
    }
}
