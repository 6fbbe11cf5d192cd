//! One upstream host: how many flights it takes at once, and when it asks to be left alone.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::{
    sync::{Semaphore, SemaphorePermit},
    time::timeout,
};

use crate::{clock::Instant, slot::believed_retry_after, upstream::FetchError};

/// A flight waits no longer than this for its turn.
const QUEUE_TIMEOUT: Duration = Duration::from_secs(30);

/// A host that mints tokens for any number of destinations.
#[derive(Debug)]
pub struct Host {
    name: String,
    concurrency: usize,
    turns: Semaphore,
    paused_until: Mutex<Option<Instant>>,
}

impl Host {
    /// A host that is asked by at most `concurrency` flights at once.
    pub fn new(name: String, concurrency: usize) -> Self {
        Self {
            name,
            concurrency,
            turns: Semaphore::new(concurrency.clamp(1, Semaphore::MAX_PERMITS)),
            paused_until: Mutex::new(None),
        }
    }

    /// The host and port, for metrics and logs.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How many flights may ask at once.
    pub fn concurrency(&self) -> usize {
        self.concurrency
    }

    /// Waits for a turn to ask.
    ///
    /// # Errors
    /// [`FetchError::Throttled`] at once while the host is paused, so that no flight
    /// holds its callers for minutes; [`FetchError::TimedOut`] when no turn came.
    pub(super) async fn turn(&self) -> Result<SemaphorePermit<'_>, FetchError> {
        let Ok(Ok(turn)) = timeout(QUEUE_TIMEOUT, self.turns.acquire()).await else {
            return Err(FetchError::TimedOut);
        };
        // Looked at after the wait: the pause may have begun meanwhile.
        match self.pause_left(Instant::now()) {
            Some(left) => Err(FetchError::Throttled {
                retry_after: Some(left),
            }),
            None => Ok(turn),
        }
    }

    /// Notes that the host asked to be left alone, and until when it is. A pause is never
    /// shortened.
    pub(super) fn pause(&self, now: Instant, asked: Duration) -> Instant {
        let until = now + believed_retry_after(asked);
        self.pause_until(until);
        until
    }

    /// Leaves the host alone until then.
    pub(super) fn pause_until(&self, until: Instant) {
        let mut paused_until = self
            .paused_until
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        *paused_until = (*paused_until).max(Some(until));
    }

    fn pause_left(&self, now: Instant) -> Option<Duration> {
        let paused_until = *self
            .paused_until
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        paused_until
            .and_then(|until| until.checked_duration_since(now))
            .filter(|left| !left.is_zero())
    }
}
