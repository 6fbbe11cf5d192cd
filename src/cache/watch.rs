//! Watching one slot: its token, each successor, and when there is none.

use std::{sync::Arc, time::Duration};

use tokio::{sync::watch, time::sleep_until};

use super::{
    Registration,
    entry::{Answer, Entry, News, Outcome},
    flight::Flights,
};
use crate::{
    clock::Instant,
    slot::{FailureReason, Refusal},
    telemetry::Span,
    token::TokenId,
};

/// A watcher of one slot. It counts as use, and holds no queue: a slow one gets the latest.
pub struct Watch {
    entry: Arc<Entry>,
    registration: Arc<Registration>,
    flights: Arc<Flights>,
    news: watch::Receiver<News>,
    told: Option<Told>,
    /// What is traced of the call that watches.
    call: Span,
}

/// What the watcher knows already.
#[derive(PartialEq, Eq)]
enum Told {
    Token(TokenId),
    Failure(FailureReason),
    Quarantine,
}

impl Watch {
    pub(super) fn new(
        entry: Arc<Entry>,
        registration: Arc<Registration>,
        flights: Arc<Flights>,
        call: Span,
    ) -> Self {
        let news = entry.state().news();
        Self {
            entry,
            registration,
            flights,
            news,
            told: None,
            call,
        }
    }

    /// Waits for something that the watcher does not know yet: a token, or why there is
    /// none any more. Dropping the future loses nothing.
    ///
    /// # Errors
    /// The [`Refusal`] that a caller would get now.
    pub async fn next(&mut self) -> Outcome {
        loop {
            // Marked as seen before looking, so that no landing falls between the two.
            self.news.borrow_and_update();
            let now = Instant::now();
            self.entry.touch(now);
            let (entry, registration) = (&self.entry, &self.registration);
            let flights = &self.flights;
            let outcome = match flights.ask(entry, registration, now, Duration::ZERO, &self.call) {
                Answer::Now(outcome) => outcome,
                Answer::After(flight) => flight.landed(entry).await,
            };
            // A watcher that was asleep for long looks again.
            let overslept = outcome
                .as_ref()
                .is_ok_and(|token| !token.suffices(Instant::now(), Duration::ZERO));
            if overslept {
                continue;
            }
            let told = Some(Told::from(&outcome));
            if self.told != told {
                self.told = told;
                return outcome;
            }
            self.change(&outcome).await;
        }
    }

    /// Forgets what the watcher was told last: it did not get there.
    pub fn forget(&mut self) {
        self.told = None;
    }

    /// Goes on with the slot of another registration. What the watcher knows it still knows.
    pub(super) fn follow(&mut self, entry: Arc<Entry>, registration: &Arc<Registration>) {
        self.news = entry.state().news();
        self.entry = entry;
        self.registration = Arc::clone(registration);
    }

    /// Waits until a flight has landed, the token has died or a retry is due.
    async fn change(&mut self, outcome: &Outcome) {
        let moment = match outcome {
            Ok(_) => self.entry.state().slot.served_until(),
            Err(Refusal::Failed { retry_at, .. }) => Some(*retry_at),
            Err(_) => None,
        };
        let by_itself = async {
            match moment {
                Some(moment) => sleep_until(moment).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = self.news.changed() => {}
            () = by_itself => {}
        }
    }
}

impl From<&Outcome> for Told {
    fn from(outcome: &Outcome) -> Self {
        match outcome {
            Ok(token) => Self::Token(token.id),
            Err(Refusal::Failed { reason, .. }) => Self::Failure(*reason),
            Err(Refusal::Quarantined | Refusal::ValidityUnattainable) => Self::Quarantine,
        }
    }
}
