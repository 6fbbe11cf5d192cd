//! Watching the tokens of a destination, for as long as the caller is granted it.

use std::{sync::Arc, time::Duration};

use tokio::time::sleep_until;

use super::{Asker, Broker, CallError, Granted, hand_out};
use crate::{
    audit::{self, Found},
    cache,
    clock::Instant,
    token::Token,
    usage::Stamp,
};

/// A caller that is told about each token of a destination.
pub struct Watch {
    broker: Arc<Broker>,
    asker: Asker,
    granted: Granted,
    slot: cache::Watch,
    /// When a token that could not be recorded is tried again.
    unrecorded_until: Option<Instant>,
    policy: tokio::sync::watch::Receiver<()>,
}

impl Watch {
    /// Watches for a caller that was granted this just now.
    pub(super) fn new(broker: &Arc<Broker>, asker: Asker, granted: Granted) -> Self {
        // Asked again at once: the policy may have changed since the caller was granted it.
        let mut policy = broker.policy.subscribe();
        policy.mark_changed();
        Self {
            slot: broker
                .cache
                .watch(&granted.registration, asker.span.clone()),
            policy,
            broker: Arc::clone(broker),
            asker,
            granted,
            unrecorded_until: None,
        }
    }

    /// Waits for a token, or a failure, that the watcher has not been told yet. A token is
    /// recorded first; while that fails it is tried again, and the watcher is told once.
    ///
    /// # Errors
    /// [`CallError::Refused`] when there is no valid token any more, and
    /// [`CallError::AuditUnavailable`], but there may be one again; whatever [`Broker::authorise`] gives when the grant was withdrawn, which is
    /// the end.
    pub async fn next(&mut self) -> Result<Arc<Token>, CallError> {
        loop {
            let news = async {
                if let Some(moment) = self.unrecorded_until {
                    sleep_until(moment).await;
                }
                self.slot.next().await
            };
            let token = tokio::select! {
                biased;
                Ok(()) = self.policy.changed() => {
                    self.authorise()?;
                    continue;
                }
                token = news => hand_out(&self.granted.registration, token),
            };
            let recorded = match &token {
                Ok(token) => {
                    let (asker, any) = (&self.asker, Duration::ZERO);
                    self.broker.record(asker, token, Found::Watch, any).await
                }
                // Nothing leaves.
                Err(_) => Ok(true),
            };
            let Err(error) = recorded else {
                self.unrecorded_until = None;
                if recorded == Ok(false) {
                    continue;
                }
                if token.is_ok() {
                    self.granted.used.touch(Stamp::now());
                    self.granted.served.note(&self.asker.caller);
                }
                return token;
            };
            self.slot.forget();
            let retry_at = Instant::now() + audit::RETRY;
            if self.unrecorded_until.replace(retry_at).is_none() {
                return Err(error.into());
            }
        }
    }

    /// Asks a policy that has changed.
    fn authorise(&mut self) -> Result<(), CallError> {
        let granted = self
            .broker
            .authorise(&self.asker.caller, self.granted.destination())?;
        if !Arc::ptr_eq(&granted.registration, &self.granted.registration) {
            self.broker
                .cache
                .follow(&mut self.slot, &granted.registration);
        }
        self.granted = granted;
        Ok(())
    }
}
