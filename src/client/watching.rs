//! A watch that goes on when its connection does not.

use std::{sync::Arc, time::Duration};

use futures_util::StreamExt as _;
use tokio::time::{Instant, sleep_until};

use super::{
    BearerToken, Refusal, Settings,
    wire::{Events, Line, Wire},
};
use crate::{
    api::{
        span,
        v1::{TokenUnavailable, WatchTokenResponse, watch_token_response::Event},
    },
    backoff::Backoff,
};

/// No broker's retry delay is waited for longer.
const LONGEST_RETRY_DELAY: Duration = Duration::from_secs(300);

/// The tokens of one destination, as the broker tells of them.
///
/// When the connection is lost, or the broker refuses, it connects anew: with the
/// certificates as they are then, after a back-off with jitter, and not before the retry
/// delay that the broker named.
///
/// A token's life is counted from when its event is read, so read at once: one that waited
/// unread seems to live longer than it does.
pub struct Watching {
    wire: Arc<dyn Wire>,
    destination: String,
    stream: Option<Events>,
    failures: u32,
    /// No connection is made before.
    retry_at: Instant,
}

/// What a watcher is told.
#[derive(Debug)]
pub enum News {
    /// The current token. After a new connection it may be known already.
    Token(BearerToken),
    /// There is no token at present; the watch goes on.
    Unavailable(Refusal),
    /// There is no watch at present; it is begun anew after `retry_in`, and every few
    /// minutes where somebody has to act.
    Lost(Refusal),
}

impl Watching {
    /// Will watch this destination, by its id or its name. One try to connect and to be
    /// let in may take as long as `patience`.
    pub fn new(settings: Settings, destination: &str, patience: Duration) -> Self {
        Self::over(Arc::new(Line::new(settings, patience)), destination)
    }

    pub(super) fn over(wire: Arc<dyn Wire>, destination: &str) -> Self {
        Self {
            wire,
            destination: destination.to_owned(),
            stream: None,
            failures: 0,
            retry_at: Instant::now(),
        }
    }

    /// Waits for the next thing to tell. Dropping the future loses nothing.
    pub async fn next(&mut self) -> News {
        loop {
            let Some(stream) = &mut self.stream else {
                sleep_until(self.retry_at).await;
                match self.wire.watch(&self.destination).await {
                    Ok(stream) => self.stream = Some(stream),
                    Err(refusal) => return self.lose(refusal),
                }
                continue;
            };
            match stream.next().await {
                Some(Ok(WatchTokenResponse { event: Some(event) })) => {
                    self.failures = 0;
                    return News::from(event);
                }
                // A kind of event that is younger than this client.
                Some(Ok(WatchTokenResponse { event: None })) => {}
                Some(Err(status)) => return self.lose(Refusal::from(&status)),
                None => return self.lose(Refusal::unavailable("the broker ended the stream")),
            }
        }
    }

    fn lose(&mut self, refusal: Refusal) -> News {
        self.stream = None;
        self.failures = self.failures.saturating_add(1);
        let backoff = if refusal.needs_action {
            Backoff::REJECTED
        } else {
            Backoff::TRANSIENT
        };
        let asked = refusal.retry_in.unwrap_or_default();
        let wait = backoff
            .delay(self.failures, rand::random())
            .max(asked.min(LONGEST_RETRY_DELAY));
        self.retry_at = Instant::now() + wait;
        News::Lost(Refusal {
            // Nobody is told to wait for what waiting cannot help.
            retry_in: (!refusal.needs_action).then_some(wait),
            ..refusal
        })
    }
}

impl From<Event> for News {
    fn from(event: Event) -> Self {
        match event {
            Event::Token(answer) => match BearerToken::read(answer, Instant::now()) {
                Ok(token) => Self::Token(token),
                Err(incomplete) => Self::Unavailable(Refusal::unavailable(&incomplete.to_string())),
            },
            Event::Unavailable(unavailable) => Self::Unavailable(Refusal::from(unavailable)),
        }
    }
}

impl From<TokenUnavailable> for Refusal {
    fn from(unavailable: TokenUnavailable) -> Self {
        let retry_in = unavailable.retry_delay.as_ref().and_then(span);
        Self {
            reason: unavailable.reason,
            message: "the broker has no valid token at present".to_owned(),
            retry_in,
            needs_action: retry_in.is_none(),
            mistakes: Vec::new(),
        }
    }
}
