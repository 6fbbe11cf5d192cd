//! Which secret is asked with, and what a rejection leads to, in paused time.

use std::{
    collections::VecDeque,
    sync::atomic::{AtomicUsize, Ordering},
};

use futures_util::future::{BoxFuture, FutureExt as _};
use tokio::time::advance;

use super::*;
use crate::{secret::Secret, upstream::Broken};

const CURRENT: &str = "current";
const NEXT: &str = "next";
const REJECTED: FetchError = FetchError::Rejected {
    status: 401,
    code: Some("invalid_client"),
};
const ALSO_REJECTED: FetchError = FetchError::Rejected {
    status: 403,
    code: None,
};

/// Answers as it was told, the last answer again and again.
struct Scripted {
    answers: Mutex<VecDeque<Result<(), FetchError>>>,
    calls: AtomicUsize,
}

impl Scripted {
    fn new(answers: impl IntoIterator<Item = Result<(), FetchError>>) -> Arc<Self> {
        Arc::new(Self {
            answers: Mutex::new(answers.into_iter().collect()),
            calls: AtomicUsize::new(0),
        })
    }

    fn calls(&self) -> usize {
        self.calls.load(Ordering::Relaxed)
    }
}

impl TokenSource for Scripted {
    fn mint<'a>(&'a self, _flight: &'a Span) -> BoxFuture<'a, Result<Minted, FetchError>> {
        self.calls.fetch_add(1, Ordering::Relaxed);
        let mut answers = self.answers.lock().unwrap();
        let answer = match answers.len() {
            1 => answers[0].clone(),
            _ => answers.pop_front().unwrap(),
        };
        let minted = answer.map(|()| Minted {
            access_token: Secret::new("token".to_owned()),
            expires_in: Some(3600),
        });
        async { minted }.boxed()
    }
}

/// A rotation, and both of its sources.
struct Bench {
    rotation: Rotation,
    current: Arc<Scripted>,
    next: Arc<Scripted>,
}

impl Bench {
    fn new<const N: usize, const M: usize>(
        current: [Result<(), FetchError>; N],
        next: [Result<(), FetchError>; M],
    ) -> Self {
        Self::on_trial(current, next, Trial::default())
    }

    fn on_trial<const N: usize, const M: usize>(
        current: [Result<(), FetchError>; N],
        next: [Result<(), FetchError>; M],
        trial: Trial,
    ) -> Self {
        let (current, next) = (Scripted::new(current), Scripted::new(next));
        let rotation =
            Rotation::on_trial(minter(CURRENT, &current), Some(minter(NEXT, &next)), trial);
        Self {
            rotation,
            current,
            next,
        }
    }

    /// The generation that minted, or why there is none.
    async fn mint(&self) -> Result<String, FetchError> {
        let (_, secret) = self.rotation.mint(&Span::none()).await?;
        Ok(secret.generation.clone())
    }

    /// How often the current and the next secret were asked with.
    fn calls(&self) -> (usize, usize) {
        (self.current.calls(), self.next.calls())
    }

    fn first(&self) -> &str {
        &self.rotation.minting(Instant::now()).generation
    }
}

fn minter(generation: &str, source: &Arc<Scripted>) -> Minter {
    Minter {
        source: Arc::clone(source) as _,
        secret: Arc::new(SecretName {
            credential: "sealed:shop".into(),
            generation: generation.to_owned(),
            client_id: format!("client-of-{generation}").into(),
        }),
    }
}

fn rolled_back(for_another: Duration) -> Trial {
    Trial::RolledBack {
        again_at: Instant::now() + for_another,
    }
}

#[tokio::test(start_paused = true)]
async fn without_a_next_secret_a_rejection_is_final() {
    let current = Scripted::new([Err(REJECTED)]);
    let rotation = Rotation::new(minter(CURRENT, &current), None);
    assert_eq!(rotation.mint(&Span::none()).await.err(), Some(REJECTED));
    assert_eq!(current.calls(), 1);
    assert_eq!(rotation.trial(), None);
    assert_eq!(rotation.minting(Instant::now()).generation, CURRENT);
}

#[tokio::test(start_paused = true)]
async fn a_next_secret_that_mints_is_promoted_and_the_current_one_is_not_asked_with() {
    let bench = Bench::new([Ok(())], [Ok(())]);
    assert_eq!(bench.first(), NEXT);
    for calls in 1..=3 {
        assert_eq!(bench.mint().await.unwrap(), NEXT);
        assert_eq!(bench.calls(), (0, calls));
        assert_eq!(bench.rotation.trial(), Some(Trial::Promoted));
    }
}

#[tokio::test(start_paused = true)]
async fn a_rejected_next_secret_is_left_alone_for_five_minutes() {
    let bench = Bench::new([Ok(())], [Err(REJECTED)]);
    assert_eq!(bench.mint().await.unwrap(), CURRENT);
    assert_eq!(bench.calls(), (1, 1));
    assert_eq!(bench.rotation.trial(), Some(rolled_back(TRY_AGAIN_AFTER)));

    advance(Duration::from_millis(299_999)).await;
    assert_eq!(bench.first(), CURRENT);
    assert_eq!(bench.mint().await.unwrap(), CURRENT);
    assert_eq!(bench.calls(), (2, 1));

    advance(Duration::from_millis(1)).await;
    assert_eq!(bench.first(), NEXT);
    assert_eq!(bench.mint().await.unwrap(), CURRENT);
    assert_eq!(bench.calls(), (3, 2), "it was tried again");
    assert_eq!(bench.rotation.trial(), Some(rolled_back(TRY_AGAIN_AFTER)));
}

#[tokio::test(start_paused = true)]
async fn a_next_secret_that_works_later_is_promoted_then() {
    let bench = Bench::new([Ok(())], [Err(REJECTED), Ok(())]);
    assert_eq!(bench.mint().await.unwrap(), CURRENT);
    advance(TRY_AGAIN_AFTER).await;
    assert_eq!(bench.mint().await.unwrap(), NEXT);
    assert_eq!(bench.rotation.trial(), Some(Trial::Promoted));
    assert_eq!(bench.calls(), (1, 2));
}

#[tokio::test(start_paused = true)]
async fn the_current_secret_takes_over_from_a_promoted_one_that_is_rejected() {
    let bench = Bench::new([Ok(())], [Ok(()), Err(REJECTED)]);
    assert_eq!(bench.mint().await.unwrap(), NEXT);
    assert_eq!(bench.mint().await.unwrap(), CURRENT);
    assert_eq!(bench.rotation.trial(), Some(rolled_back(TRY_AGAIN_AFTER)));
    assert_eq!(bench.mint().await.unwrap(), CURRENT);
    assert_eq!(bench.calls(), (2, 2));
}

#[tokio::test(start_paused = true)]
async fn the_next_secret_takes_over_from_a_current_one_that_is_rejected() {
    let bench = Bench::new([Ok(()), Err(REJECTED)], [Err(REJECTED), Ok(())]);
    assert_eq!(bench.mint().await.unwrap(), CURRENT);
    // Long before it would have been tried again.
    assert_eq!(bench.mint().await.unwrap(), NEXT);
    assert_eq!(bench.rotation.trial(), Some(Trial::Promoted));
    assert_eq!(bench.calls(), (2, 2));
}

#[tokio::test(start_paused = true)]
async fn if_both_are_rejected_the_first_rejection_counts_and_nothing_is_decided() {
    let bench = Bench::new([Err(ALSO_REJECTED)], [Err(REJECTED)]);
    for calls in 1..=2 {
        assert_eq!(bench.mint().await.err(), Some(REJECTED));
        assert_eq!(bench.calls(), (calls, calls));
        assert_eq!(bench.rotation.trial(), Some(Trial::Pending));
    }
}

#[tokio::test(start_paused = true)]
async fn a_failure_that_says_nothing_about_the_secret_changes_nothing() {
    for failure in [
        FetchError::TimedOut,
        FetchError::Transport(Broken::NoAddress),
        FetchError::Throttled { retry_after: None },
        FetchError::Status {
            status: 503,
            retry_after: None,
        },
        FetchError::Malformed("it is no JSON"),
    ] {
        for trial in [Trial::Pending, Trial::Promoted] {
            let bench = Bench::on_trial([Ok(())], [Err(failure.clone())], trial);
            assert_eq!(bench.mint().await.err(), Some(failure.clone()));
            assert_eq!(bench.calls(), (0, 1));
            assert_eq!(bench.rotation.trial(), Some(trial));
        }
        // Nor does it when only the second one meets it, whose secret may be good.
        let bench = Bench::new([Err(failure.clone())], [Err(REJECTED)]);
        assert_eq!(bench.mint().await.err(), Some(failure));
        assert_eq!(bench.calls(), (1, 1));
        assert_eq!(bench.rotation.trial(), Some(Trial::Pending));
    }
}

#[tokio::test(start_paused = true)]
async fn a_trial_goes_on_where_it_was() {
    let minute = Duration::from_secs(60);
    let bench = Bench::on_trial([Ok(())], [Ok(())], rolled_back(minute));
    assert_eq!(bench.mint().await.unwrap(), CURRENT);
    assert_eq!(bench.calls(), (1, 0));
    advance(minute).await;
    assert_eq!(bench.mint().await.unwrap(), NEXT);

    let bench = Bench::on_trial([Ok(())], [Ok(())], Trial::Promoted);
    assert_eq!(bench.mint().await.unwrap(), NEXT);
    assert_eq!(bench.rotation.trial(), Some(Trial::Promoted));
}

#[tokio::test(start_paused = true)]
async fn tokens_of_both_clients_are_tokens_of_the_application() {
    let bench = Bench::new([Ok(())], [Ok(())]);
    for (client, known) in [
        ("client-of-current", true),
        ("client-of-next", true),
        ("client", false),
    ] {
        assert_eq!(bench.rotation.knows_client(client), known);
    }
}

#[tokio::test(start_paused = true)]
async fn a_flight_that_a_reload_overtakes_decides_the_trial_all_the_same() {
    let last = Bench::new([Ok(())], [Err(REJECTED)]);
    let after = Bench::new([Ok(())], [Ok(())]);
    let rotation = after.rotation.after(&last.rotation);
    assert_eq!(last.mint().await.unwrap(), CURRENT);
    let again_at = Instant::now() + TRY_AGAIN_AFTER;
    assert_eq!(rotation.trial(), Some(Trial::RolledBack { again_at }));
    let (_, secret) = rotation.mint(&Span::none()).await.unwrap();
    assert_eq!(secret.generation, CURRENT);
    assert_eq!(after.next.calls(), 0, "it is left alone");
}
