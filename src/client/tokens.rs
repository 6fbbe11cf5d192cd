//! The token of one destination, at hand for as long as it is wanted.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{
    sync::{OnceCell, watch},
    time::{Instant, timeout_at},
};
use tokio_util::task::AbortOnDropHandle;

use super::{
    BearerToken, Refusal, Settings,
    watching::{News, Watching},
    wire::{Line, Wire},
};
use crate::api::v1::ReportOutcome;

/// How long a caller waits for a token that is not at hand, and one call to the broker takes.
const PATIENCE: Duration = Duration::from_secs(10);

/// The broker's answer to a report counts for so long, which is also how long a broker heeds
/// no further one. After that a token that is still rejected, and not replaced, is reported
/// again.
const REPORT_WINDOW: Duration = Duration::from_secs(30);

/// The token of one destination, kept at hand by watching a broker.
///
/// It answers from memory, and goes on answering while the broker is restarted or out of
/// reach, for as long as the token lives. An expired token is never handed out. Dropped, it
/// ends its task and its connection.
///
/// ```no_run
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// use token_broker::client::{Settings, Tokens};
///
/// let tokens = Tokens::start(Settings::from_environment()?, "product-catalogue-v2");
/// let token = tokens.token().await?;
/// println!("{} lives for {:?}", token.id, token.expires_in);
/// # Ok(())
/// # }
/// ```
pub struct Tokens {
    wire: Arc<dyn Wire>,
    destination: String,
    latest: watch::Receiver<Latest>,
    reported: Mutex<Option<Reported>>,
    _watching: AbortOnDropHandle<()>,
}

/// What is known. A failure leaves the token alone.
#[derive(Debug, Default)]
struct Latest {
    token: Option<Arc<BearerToken>>,
    failure: Option<Failure>,
}

/// Why nothing better is known.
#[derive(Clone, Debug)]
struct Failure {
    refusal: Refusal,
    /// When something else may be known, if it can be told.
    retry_at: Option<Instant>,
}

/// The token that was reported last, and what the broker said to it.
struct Reported {
    token_id: String,
    /// When it was reported.
    at: Instant,
    outcome: Outcome,
}

/// What everybody gets who makes the same report.
type Outcome = Arc<OnceCell<Result<ReportOutcome, Refusal>>>;

/// What to do for a caller.
#[derive(Debug)]
enum Decision {
    Serve(Arc<BearerToken>),
    Wait,
    Refuse(Refusal),
}

impl Tokens {
    /// Begins to watch a destination, by its id or its name. To be called within a tokio
    /// runtime.
    pub fn start(settings: Settings, destination: &str) -> Self {
        Self::over(Arc::new(Line::new(settings, PATIENCE)), destination)
    }

    fn over(wire: Arc<dyn Wire>, destination: &str) -> Self {
        let (told, latest) = watch::channel(Latest::default());
        let watching = Watching::over(Arc::clone(&wire), destination);
        Self {
            wire,
            destination: destination.to_owned(),
            latest,
            reported: Mutex::default(),
            _watching: AbortOnDropHandle::new(tokio::spawn(follow(watching, told))),
        }
    }

    /// A token that is valid now: the one at hand, or else the first to come within ten
    /// seconds.
    ///
    /// # Errors
    /// The [`Refusal`] of the broker, or whatever kept its answer away: at once when
    /// somebody has to act or no try is due in that time.
    pub async fn token(&self) -> Result<Arc<BearerToken>, Refusal> {
        self.token_by(Instant::now() + PATIENCE).await
    }

    /// The same, with another end of patience.
    ///
    /// # Errors
    /// As for [`Tokens::token`].
    pub async fn token_by(&self, deadline: Instant) -> Result<Arc<BearerToken>, Refusal> {
        self.wait(deadline, |_| true).await
    }

    /// A token other than this one: the one at hand, or else the first to come within ten
    /// seconds. To be asked for after [`Tokens::report_rejected`].
    ///
    /// # Errors
    /// As for [`Tokens::token`].
    pub async fn successor(&self, token_id: &str) -> Result<Arc<BearerToken>, Refusal> {
        let deadline = Instant::now() + PATIENCE;
        self.wait(deadline, |token| token.id != token_id).await
    }

    /// Reports that the destination answered this token with 401. Of each token the broker
    /// is told once in 30 seconds, and everybody who reports it gets the same answer, within
    /// ten seconds.
    ///
    /// # Errors
    /// The [`Refusal`] of the broker, or whatever kept its answer away. Everybody who waited
    /// gets it, too, and then the token may be reported again.
    pub async fn report_rejected(&self, token_id: &str) -> Result<ReportOutcome, Refusal> {
        let current = self.latest.borrow().token.clone();
        if current.is_some_and(|current| current.id != token_id) {
            return Ok(ReportOutcome::AlreadyReplaced);
        }
        let (outcome, deadline) = self.report_of(token_id);
        // Should the one who makes the call be dropped, the next makes it in the time left.
        let report = || async {
            let answer = timeout_at(deadline, self.wire.report(&self.destination, token_id)).await;
            answer.unwrap_or_else(|_| Err(Refusal::too_late()))
        };
        outcome.get_or_init(report).await.clone()
    }

    /// What is said to a report of this token, or will be, and by when.
    fn report_of(&self, token_id: &str) -> (Outcome, Instant) {
        let now = Instant::now();
        let mut reported = self.reported.lock().unwrap_or_else(PoisonError::into_inner);
        match &*reported {
            Some(last) if last.token_id == token_id && now < last.counts_until() => {
                (Arc::clone(&last.outcome), last.at + PATIENCE)
            }
            _ => {
                let outcome = Outcome::default();
                *reported = Some(Reported {
                    token_id: token_id.to_owned(),
                    at: now,
                    outcome: Arc::clone(&outcome),
                });
                (outcome, now + PATIENCE)
            }
        }
    }

    async fn wait(
        &self,
        deadline: Instant,
        wanted: impl Fn(&BearerToken) -> bool,
    ) -> Result<Arc<BearerToken>, Refusal> {
        let mut latest = self.latest.clone();
        loop {
            let now = Instant::now();
            let decision = latest.borrow_and_update().decide(now, deadline, &wanted);
            match decision {
                Decision::Serve(token) => return Ok(token),
                Decision::Refuse(refusal) => return Err(refusal),
                Decision::Wait => {}
            }
            // At the deadline it is decided once more, and then there is no waiting.
            if let Ok(Err(_)) = timeout_at(deadline, latest.changed()).await {
                return Err(Refusal::unavailable("the watch has ended"));
            }
        }
    }
}

impl Reported {
    /// Until when nobody reports the token anew.
    fn counts_until(&self) -> Instant {
        match self.outcome.get() {
            Some(Ok(_)) => self.at + REPORT_WINDOW,
            Some(Err(_)) => self.at,
            None => self.at + PATIENCE,
        }
    }
}

impl Latest {
    fn decide(
        &self,
        now: Instant,
        deadline: Instant,
        wanted: impl Fn(&BearerToken) -> bool,
    ) -> Decision {
        if let Some(token) = &self.token
            && token.serves(now)
            && wanted(token)
        {
            return Decision::Serve(Arc::clone(token));
        }
        let Some(failure) = &self.failure else {
            return if now < deadline {
                Decision::Wait
            } else {
                Decision::Refuse(Refusal::too_late())
            };
        };
        // What the failure says comes of itself is waited for; the rest is not.
        let hopeless =
            failure.refusal.needs_action || failure.retry_at.is_some_and(|at| deadline <= at);
        if now < deadline && !hopeless {
            return Decision::Wait;
        }
        let retry_in = failure.retry_at.map(|at| at.saturating_duration_since(now));
        Decision::Refuse(Refusal {
            retry_in,
            ..failure.refusal.clone()
        })
    }

    fn take_in(&mut self, news: News) {
        match news {
            News::Token(token) => {
                self.token = Some(Arc::new(token));
                self.failure = None;
            }
            News::Unavailable(refusal) | News::Lost(refusal) => {
                let retry_at = refusal.retry_in.map(|wait| Instant::now() + wait);
                self.failure = Some(Failure { refusal, retry_at });
            }
        }
    }
}

/// Keeps what is known up to date, until it is dropped.
async fn follow(mut watching: Watching, latest: watch::Sender<Latest>) {
    loop {
        let news = watching.next().await;
        latest.send_modify(|latest| latest.take_in(news));
    }
}

#[cfg(test)]
mod tests;
