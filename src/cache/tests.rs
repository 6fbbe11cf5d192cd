//! The cache in paused time, with sources that do what a test tells them.

use std::{
    collections::HashSet,
    future::Future,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use futures_util::{FutureExt as _, future::BoxFuture};
use tokio::time::{advance, sleep_until};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::*;
use crate::{
    destination::Generation,
    secret::Secret,
    slot::FailureReason,
    token::Minted,
    upstream::{FetchError, TokenSource},
};

const HOUR: Duration = Duration::from_secs(3600);
const MINUTE: Duration = Duration::from_secs(60);
const HALF_A_SECOND: Duration = Duration::from_millis(500);

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

type Script = Box<dyn Fn(usize) -> BoxFuture<'static, Result<Minted, FetchError>> + Send + Sync>;

/// A token endpoint that does as it is told and counts its calls.
struct Scripted {
    calls: AtomicUsize,
    now_flying: AtomicUsize,
    most_flying: AtomicUsize,
    moments: Mutex<Vec<Instant>>,
    script: Script,
}

impl Scripted {
    fn new<F>(script: impl Fn(usize) -> F + Send + Sync + 'static) -> Arc<Self>
    where
        F: Future<Output = Result<Minted, FetchError>> + Send + 'static,
    {
        Arc::new(Self {
            calls: AtomicUsize::new(0),
            now_flying: AtomicUsize::new(0),
            most_flying: AtomicUsize::new(0),
            moments: Mutex::default(),
            script: Box::new(move |call| script(call).boxed()),
        })
    }

    fn calls(&self) -> usize {
        self.calls.load(Ordering::SeqCst)
    }
}

impl TokenSource for Scripted {
    fn mint<'a>(&'a self, _flight: &'a Span) -> BoxFuture<'a, Result<Minted, FetchError>> {
        let call = self.calls.fetch_add(1, Ordering::SeqCst) + 1;
        self.moments.lock().unwrap().push(Instant::now());
        let flying = self.now_flying.fetch_add(1, Ordering::SeqCst) + 1;
        self.most_flying.fetch_max(flying, Ordering::SeqCst);
        let answer = (self.script)(call);
        async move {
            let answer = answer.await;
            self.now_flying.fetch_sub(1, Ordering::SeqCst);
            answer
        }
        .boxed()
    }
}

#[expect(clippy::unnecessary_wraps, reason = "what a script ends with")]
fn token_of(life: Duration) -> Result<Minted, FetchError> {
    Ok(Minted {
        access_token: Secret::new("token".to_owned()),
        expires_in: Some(life.as_secs().try_into().unwrap()),
    })
}

fn unavailable() -> Result<Minted, FetchError> {
    Err(FetchError::Status {
        status: 503,
        retry_after: None,
    })
}

/// A token after half a second, each time.
fn steady() -> Arc<Scripted> {
    Scripted::new(|_| async {
        tokio::time::sleep(HALF_A_SECOND).await;
        token_of(HOUR)
    })
}

fn host() -> Arc<Host> {
    Arc::new(Host::new("upstream.example:443".to_owned(), 16))
}

fn registration(name: &str, source: Arc<Scripted>, host: &Arc<Host>) -> Registration {
    Registration {
        host: Arc::clone(host),
        ..Registration::sample(name, Rotation::of(source))
    }
}

/// A cache whose schedule runs until the test ends.
fn cache() -> (Arc<Cache>, DropGuard) {
    cache_with(Arc::default(), Traces::off())
}

/// A cache that is counted and whose flights are traced so.
fn cache_with(metrics: Arc<Metrics>, traces: Traces) -> (Arc<Cache>, DropGuard) {
    let stop = CancellationToken::new();
    let (cache, schedule) = Cache::new(metrics, Arc::new(Audit::off()), SharedCache::off(), traces);
    tokio::spawn(schedule.run(stop.clone()));
    (Arc::new(cache), stop.drop_guard())
}

/// A cache and one registration for a source.
fn one(source: &Arc<Scripted>) -> (Arc<Cache>, DropGuard, Arc<Registration>) {
    let (cache, guard) = cache();
    let registration = registration("one", Arc::clone(source), &host());
    (cache, guard, Arc::new(registration))
}

/// Asks in a task of its own, so that it can be cancelled.
fn ask(
    cache: &Arc<Cache>,
    registration: &Arc<Registration>,
) -> tokio::task::JoinHandle<Result<Arc<Token>, Refusal>> {
    let (cache, registration) = (Arc::clone(cache), Arc::clone(registration));
    tokio::spawn(async move { cache.token(&registration, Duration::ZERO).await })
}

fn condition(cache: &Cache, registration: &Registration) -> Condition {
    cache.condition(registration)
}

/// Lets everything that is ready run, without letting time pass.
async fn settle() {
    for _ in 0..20 {
        tokio::task::yield_now().await;
    }
}

/// Lets time pass as it does outside of tests: not all at once.
async fn pass(time: Duration) {
    let until = Instant::now() + time;
    while Instant::now() < until {
        advance(secs(10)).await;
        settle().await;
    }
}

fn reason(refusal: Refusal) -> FailureReason {
    match refusal {
        Refusal::Failed { reason, .. } => reason,
        other => panic!("{other:?} is no failure"),
    }
}

#[tokio::test(start_paused = true)]
async fn a_thousand_cold_callers_make_one_call() {
    let source = steady();
    let (cache, _guard, registration) = one(&source);
    let callers: Vec<_> = (0..1000).map(|_| ask(&cache, &registration)).collect();
    let mut ids = HashSet::new();
    for caller in callers {
        ids.insert(caller.await.unwrap().unwrap().id);
    }
    assert_eq!((source.calls(), ids.len()), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn cancelled_caller_does_not_restart_fetch() {
    // At any moment: before the flight starts, while it waits, and as it lands.
    for millis in [0, 1, 250, 499, 500] {
        let source = steady();
        let (cache, _guard, registration) = one(&source);
        let first = ask(&cache, &registration);
        settle().await;
        let second = ask(&cache, &registration);
        advance(Duration::from_millis(millis)).await;
        first.abort();
        second.await.unwrap().unwrap();
        assert_eq!(source.calls(), 1, "cancelled after {millis} ms");
    }
}

#[tokio::test(start_paused = true)]
async fn a_flight_without_callers_lands_all_the_same() {
    let source = steady();
    let (cache, _guard, registration) = one(&source);
    let only = ask(&cache, &registration);
    settle().await;
    only.abort();
    advance(secs(1)).await;
    settle().await;
    assert_eq!(condition(&cache, &registration), Condition::Fresh);
    assert_eq!(source.calls(), 1);
}

#[tokio::test(start_paused = true)]
async fn silent_upstream_times_out_once() {
    let source = Scripted::new(|_| std::future::pending());
    let (cache, _guard, registration) = one(&source);
    let asked_at = Instant::now();
    let callers: Vec<_> = (0..100).map(|_| ask(&cache, &registration)).collect();
    for caller in callers {
        let refusal = caller.await.unwrap().unwrap_err();
        assert_eq!(reason(refusal), FailureReason::Unavailable);
    }
    assert_eq!(
        asked_at.elapsed().as_secs(),
        5,
        "all wait for the same flight"
    );
    assert_eq!(source.calls(), 1);
}

#[tokio::test(start_paused = true)]
async fn failure_is_shared_by_all_waiters() {
    let source = Scripted::new(|_| async {
        tokio::time::sleep(HALF_A_SECOND).await;
        unavailable()
    });
    let (cache, _guard, registration) = one(&source);
    let callers: Vec<_> = (0..100).map(|_| ask(&cache, &registration)).collect();
    let mut refusals = Vec::new();
    for caller in callers {
        refusals.push(caller.await.unwrap().unwrap_err());
    }
    refusals.dedup();
    assert_eq!((refusals.len(), source.calls()), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn panicking_source_is_a_failure() {
    let source = Scripted::new(|call| async move {
        assert!(call > 1, "the first call panics");
        token_of(HOUR)
    });
    let (cache, _guard, registration) = one(&source);
    let refusal = cache
        .token(&registration, Duration::ZERO)
        .await
        .unwrap_err();
    assert_eq!(reason(refusal), FailureReason::Unavailable);
    advance(secs(2)).await;
    cache.token(&registration, Duration::ZERO).await.unwrap();
    assert_eq!(source.calls(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_source_that_panics_before_its_first_await_is_a_failure() {
    let source = Scripted::new(|call| {
        assert!(call > 1, "the first call panics");
        std::future::ready(token_of(HOUR))
    });
    let (cache, _guard, registration) = one(&source);
    let refusal = cache
        .token(&registration, Duration::ZERO)
        .await
        .unwrap_err();
    assert_eq!(reason(refusal), FailureReason::Unavailable);
}

#[test]
fn a_flight_aborted_with_its_runtime_lands_as_a_failure() {
    let source = Scripted::new(|_| std::future::pending());
    let runtime = || {
        tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .unwrap()
    };
    let (cache, registration) = runtime().block_on(async {
        let (cache, _guard, registration) = one(&source);
        let _waiting = ask(&cache, &registration);
        settle().await;
        assert_eq!(condition(&cache, &registration), Condition::Pending);
        (cache, registration)
    });
    runtime().block_on(async {
        assert_eq!(condition(&cache, &registration), Condition::Failing);
    });
}

#[tokio::test(start_paused = true)]
async fn valid_token_is_served_at_once() {
    let source = Scripted::new(|call| async move {
        if call > 1 {
            std::future::pending::<()>().await;
        }
        token_of(HOUR)
    });
    let (cache, _guard, registration) = one(&source);
    cache.token(&registration, Duration::ZERO).await.unwrap();
    advance(secs(2000)).await;
    settle().await;
    let before = Instant::now();
    for _ in 0..1000 {
        cache.token(&registration, Duration::ZERO).await.unwrap();
    }
    assert_eq!(
        before.elapsed(),
        Duration::ZERO,
        "nobody waits for a refresh"
    );
    assert_eq!(source.calls(), 2);
}

#[tokio::test(start_paused = true)]
async fn failed_refresh_keeps_valid_token() {
    let source = Scripted::new(|call| async move {
        if call == 1 {
            token_of(HOUR)
        } else {
            unavailable()
        }
    });
    let (cache, _guard, registration) = one(&source);
    let first = cache.token(&registration, Duration::ZERO).await.unwrap();
    for _ in 0..58 {
        advance(secs(60)).await;
        settle().await;
        let token = cache.token(&registration, Duration::ZERO).await.unwrap();
        assert_eq!(token.id, first.id);
    }
    assert!(source.calls() > 10, "the refresh is tried again and again");
}

#[tokio::test(start_paused = true)]
async fn expired_token_is_never_served() {
    let source = Scripted::new(|call| async move {
        if call == 1 {
            token_of(HOUR)
        } else {
            unavailable()
        }
    });
    let (cache, _guard, registration) = one(&source);
    let token = cache.token(&registration, Duration::ZERO).await.unwrap();
    sleep_until(token.expires_at().instant - secs(60)).await;
    for _ in 0..120 {
        cache
            .token(&registration, Duration::ZERO)
            .await
            .unwrap_err();
        advance(secs(1)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_used_key_is_refreshed_with_nobody_asking_and_then_left_alone() {
    let source = steady();
    let (cache, _guard, registration) = one(&source);
    cache.token(&registration, Duration::ZERO).await.unwrap();
    let mut calls = Vec::new();
    for _ in 0..6 {
        for _ in 0..190 {
            advance(secs(10)).await;
            settle().await;
        }
        calls.push(source.calls());
    }
    // Refreshed at half an hour and, within an hour of the last use, at no later time twice.
    assert_eq!(calls[0], 2);
    assert_eq!(
        calls.last(),
        calls.get(2),
        "an unused key is left alone: {calls:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_warm_key_is_minted_and_kept_fresh_although_nobody_ever_asks() {
    let source = steady();
    let (cache, _guard) = cache();
    let warm = Arc::new(Registration {
        warm: true,
        ..registration("warm", Arc::clone(&source), &host())
    });
    cache.warm(&warm);
    tokio::time::sleep(secs(1)).await;
    // Ten hours, in which a token is due about every half hour.
    for _ in 0..3600 {
        advance(secs(10)).await;
        settle().await;
        assert_eq!(condition(&cache, &warm), Condition::Fresh);
    }
    assert!(
        (19..=21).contains(&source.calls()),
        "{} calls",
        source.calls()
    );
}

#[tokio::test(start_paused = true)]
async fn rejected_credentials_recover_without_restart() {
    let source = Scripted::new(|call| async move {
        if call < 4 {
            Err(FetchError::Rejected {
                status: 401,
                code: None,
            })
        } else {
            token_of(HOUR)
        }
    });
    let (cache, _guard, registration) = one(&source);
    let refusal = cache
        .token(&registration, Duration::ZERO)
        .await
        .unwrap_err();
    assert_eq!(reason(refusal), FailureReason::CredentialRejected);
    for _ in 0..90 {
        advance(secs(10)).await;
        settle().await;
    }
    assert_eq!(condition(&cache, &registration), Condition::Fresh);
    assert_eq!(source.calls(), 4);
}

#[tokio::test(start_paused = true)]
async fn an_upstream_that_fails_for_ever_is_called_at_most_fifteen_times_a_minute() {
    let source = Scripted::new(|_| async { unavailable() });
    let (cache, _guard, registration) = one(&source);
    for _ in 0..30_000 {
        cache
            .token(&registration, Duration::ZERO)
            .await
            .unwrap_err();
        advance(Duration::from_millis(2)).await;
    }
    assert!(
        (2..=15).contains(&source.calls()),
        "{} calls",
        source.calls()
    );
}

#[tokio::test(start_paused = true)]
async fn a_host_that_asks_to_be_left_alone_is_not_asked_for_any_key() {
    let throttling = Scripted::new(|call| async move {
        if call == 1 {
            Err(FetchError::Throttled {
                retry_after: Some(secs(30)),
            })
        } else {
            token_of(HOUR)
        }
    });
    let (cache, _guard) = cache();
    let host = host();
    let keys: Vec<_> = (0..10)
        .map(|n| {
            Arc::new(registration(
                &format!("d{n}"),
                Arc::clone(&throttling),
                &host,
            ))
        })
        .collect();
    let asked_at = Instant::now();
    for key in &keys {
        let refusal = cache.token(key, Duration::ZERO).await.unwrap_err();
        assert_eq!(reason(refusal), FailureReason::Throttled);
    }
    assert_eq!(throttling.calls(), 1, "the others did not ask");
    advance(secs(29)).await;
    settle().await;
    assert_eq!(throttling.calls(), 1);
    advance(secs(5)).await;
    settle().await;
    assert_eq!(throttling.calls(), 11, "after the pause each key is minted");
    let first_retry = throttling.moments.lock().unwrap()[1];
    assert!(first_retry >= asked_at + secs(30));

    let elsewhere = Arc::new(registration(
        "other",
        steady(),
        &Arc::new(Host::new("other".to_owned(), 16)),
    ));
    cache.token(&elsewhere, Duration::ZERO).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn one_failing_destination_does_not_delay_another() {
    let host = host();
    let silent = Arc::new(registration(
        "silent",
        Scripted::new(|_| std::future::pending()),
        &host,
    ));
    let failing = Arc::new(registration(
        "failing",
        Scripted::new(|_| async { unavailable() }),
        &host,
    ));
    let good = Arc::new(registration("good", steady(), &host));
    let (cache, _guard) = cache();
    let _waiting = ask(&cache, &silent);
    cache.token(&failing, Duration::ZERO).await.unwrap_err();
    let before = Instant::now();
    cache.token(&good, Duration::ZERO).await.unwrap();
    assert_eq!(before.elapsed(), HALF_A_SECOND);
}

#[tokio::test(start_paused = true)]
async fn at_most_sixteen_flights_ask_one_host_at_once() {
    let source = steady();
    let host = host();
    let (cache, _guard) = cache();
    let callers: Vec<_> = (0..100)
        .map(|n| {
            ask(
                &cache,
                &Arc::new(registration(&format!("d{n}"), Arc::clone(&source), &host)),
            )
        })
        .collect();
    for caller in callers {
        caller.await.unwrap().unwrap();
    }
    assert_eq!(source.calls(), 100);
    assert_eq!(source.most_flying.load(Ordering::SeqCst), 16);
}

#[tokio::test(start_paused = true)]
async fn more_validity_than_the_tokens_have_is_refused_without_a_second_call() {
    let source = steady();
    let (cache, _guard, registration) = one(&source);
    for _ in 0..10 {
        let refusal = cache.token(&registration, 2 * HOUR).await.unwrap_err();
        assert_eq!(refusal, Refusal::ValidityUnattainable);
    }
    assert_eq!(source.calls(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_zero_lifetime_is_a_failure() {
    let source = Scripted::new(|_| async { token_of(Duration::ZERO) });
    let (cache, _guard, registration) = one(&source);
    let refusal = cache
        .token(&registration, Duration::ZERO)
        .await
        .unwrap_err();
    assert_eq!(reason(refusal), FailureReason::Malformed);
}

/// The same registration with renewed credentials.
fn renewed(registration: &Registration, source: Arc<Scripted>) -> Arc<Registration> {
    let key = TokenKey {
        generation: Generation(2),
        ..(*registration.key).clone()
    };
    Arc::new(Registration {
        edition: registration.edition.next(),
        key: Arc::new(key),
        rotation: Rotation::of(source),
        host: Arc::clone(&registration.host),
        place: None,
        whereabouts: Whereabouts::default(),
        terms: Arc::clone(&registration.terms),
        ..*registration
    })
}

#[tokio::test(start_paused = true)]
async fn renewed_credentials_take_over_the_token_until_they_bring_their_own() {
    let (cache, _guard, last) = one(&steady());
    let inherited = cache.token(&last, Duration::ZERO).await.unwrap();
    let source = steady();
    let renewed = renewed(&last, Arc::clone(&source));
    cache.succeed(&last.key, &renewed);
    cache.adopt(renewed.edition, [&renewed].into_iter());

    let before = Instant::now();
    let token = cache.token(&renewed, Duration::ZERO).await.unwrap();
    assert_eq!(before.elapsed(), Duration::ZERO, "nobody waits");
    assert_eq!(token.id, inherited.id);
    assert!(token.is_for(&renewed.key));
    tokio::time::sleep(secs(1)).await;
    assert_eq!(source.calls(), 1, "its own flight was launched at once");
    let own = cache.token(&renewed, Duration::ZERO).await.unwrap();
    assert_ne!(own.id, inherited.id);
}

#[tokio::test(start_paused = true)]
async fn whoever_wants_more_than_is_left_of_an_inherited_token_waits_for_its_successor() {
    let (cache, _guard, last) = one(&steady());
    let inherited = cache.token(&last, Duration::ZERO).await.unwrap();
    tokio::time::sleep(25 * secs(60)).await;
    let source = steady();
    let renewed = renewed(&last, Arc::clone(&source));
    cache.succeed(&last.key, &renewed);
    let own = cache.token(&renewed, 40 * secs(60)).await.unwrap();
    assert_ne!(own.id, inherited.id);
    assert_eq!(source.calls(), 1);
}

#[tokio::test(start_paused = true)]
async fn renewed_credentials_that_are_rejected_leave_the_token_alone() {
    let (cache, _guard, last) = one(&steady());
    let inherited = cache.token(&last, Duration::ZERO).await.unwrap();
    let source = Scripted::new(|_| async {
        Err(FetchError::Rejected {
            status: 401,
            code: None,
        })
    });
    let renewed = renewed(&last, Arc::clone(&source));
    cache.succeed(&last.key, &renewed);
    for _ in 0..50 {
        tokio::time::sleep(secs(60)).await;
        let token = cache.token(&renewed, Duration::ZERO).await.unwrap();
        assert_eq!(token.id, inherited.id);
    }
    assert!(source.calls() > 5, "they are tried again and again");
    sleep_until(inherited.expires_at().instant).await;
    let refusal = cache.token(&renewed, Duration::ZERO).await.unwrap_err();
    assert_eq!(reason(refusal), FailureReason::CredentialRejected);
}

/// The same key in the next catalogue, minted in another way.
fn next_edition(registration: &Registration, source: Arc<Scripted>) -> Arc<Registration> {
    Arc::new(Registration {
        edition: registration.edition.next(),
        key: Arc::clone(&registration.key),
        rotation: Rotation::of(source),
        host: Arc::clone(&registration.host),
        place: None,
        whereabouts: Whereabouts::default(),
        terms: Arc::clone(&registration.terms),
        ..*registration
    })
}

#[tokio::test(start_paused = true)]
async fn a_new_catalogue_counts_for_refreshes_that_nobody_asks_for() {
    let (old_source, new_source) = (steady(), steady());
    let (cache, _guard, old) = one(&old_source);
    cache.token(&old, Duration::ZERO).await.unwrap();
    let mut watch = cache.watch(&old, NOBODY);
    watch.next().await.unwrap();
    let new = next_edition(&old, Arc::clone(&new_source));
    cache.adopt(new.edition, [&new].into_iter());
    // A caller that was authorised before, and a watcher, still hold the old registration.
    cache.token(&old, Duration::ZERO).await.unwrap();
    watch.next().await.unwrap();
    assert_eq!((old_source.calls(), new_source.calls()), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_was_authorised_before_a_reload_mints_nothing_for_a_removed_key() {
    let source = steady();
    let (cache, _guard) = cache();
    let removed = Arc::new(Registration {
        warm: true,
        ..registration("removed", Arc::clone(&source), &host())
    });
    let next = removed.edition.next();
    cache.adopt(next, std::iter::empty());
    let missing = cache
        .find(&removed, Duration::ZERO, &NOBODY)
        .await
        .unwrap_err();
    assert_eq!(missing, Missing::Outdated);
    tokio::time::sleep(HOUR).await;
    assert_eq!(source.calls(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_slot_of_a_removed_key_is_not_kept_fresh_if_it_comes_back() {
    let source = steady();
    let (cache, _guard) = cache();
    let removed = Arc::new(Registration {
        warm: true,
        ..registration("removed", Arc::clone(&source), &host())
    });
    cache.adopt(removed.edition.next(), std::iter::empty());
    // Whoever asks at the very moment of the reload makes the slot once more.
    cache.warm(&removed);
    settle().await;
    for _ in 0..1000 {
        advance(secs(60)).await;
        settle().await;
    }
    assert_eq!(source.calls(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_slow_upstream_is_not_asked_again_and_again_for_more_validity() {
    let source = Scripted::new(|_| async {
        tokio::time::sleep(secs(11)).await;
        token_of(HOUR)
    });
    let (cache, _guard) = cache();
    let slow = Arc::new(Registration {
        terms: Arc::new(MintTerms {
            timeout: secs(60),
            ..MintTerms::sample()
        }),
        ..registration("slow", Arc::clone(&source), &host())
    });
    let refusal = cache.token(&slow, secs(3595)).await.unwrap_err();
    assert_eq!(refusal, Refusal::ValidityUnattainable);
    assert_eq!(source.calls(), 1);
}

/// Twenty-five minutes without an upstream, at the worst moment, cost nobody anything.
#[tokio::test(start_paused = true)]
async fn an_outage_of_twenty_five_minutes_fails_no_call() {
    const KEYS: usize = 1000;
    let start = Instant::now();
    let outage = move || (secs(1700)..secs(3200)).contains(&start.elapsed());
    let source = Scripted::new(move |_| async move {
        if outage() {
            return unavailable();
        }
        tokio::time::sleep(HALF_A_SECOND).await;
        token_of(HOUR)
    });
    let (cache, _guard) = cache();
    let host = host();
    let keys: Vec<_> = (0..KEYS)
        .map(|n| {
            Arc::new(Registration {
                warm: true,
                ..registration(&format!("d{n}"), Arc::clone(&source), &host)
            })
        })
        .collect();
    for key in &keys {
        cache.warm(key);
    }
    tokio::time::sleep(secs(60)).await;
    assert_eq!(source.calls(), KEYS);

    let (mut calls, mut least_left) = (0, HOUR);
    while start.elapsed() < HOUR {
        tokio::time::sleep(secs(10)).await;
        for key in &keys {
            let token = cache
                .token(key, Duration::ZERO)
                .await
                .expect("no call fails");
            least_left = least_left.min(token.expires_at().instant - Instant::now());
            calls += 1;
        }
    }
    assert_eq!(calls, 354 * KEYS);
    assert!(least_left >= secs(60), "only {least_left:?} left");
}

/// `TOKEN_BROKER_CALLS` sets the number of calls.
#[test]
fn million_requests_no_token_of_another_key() {
    let calls = std::env::var("TOKEN_BROKER_CALLS")
        .ok()
        .and_then(|count| count.parse().ok())
        .unwrap_or(1_000_000_usize);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(4)
        .enable_time()
        .build()
        .unwrap();
    runtime.block_on(async {
        let (cache, _guard) = cache();
        let host = Arc::new(Host::new("upstream".to_owned(), 64));
        let keys: Arc<Vec<_>> = Arc::new(
            (0..200)
                .map(|n| Arc::new(registration(&format!("d{n}"), short_lived(n), &host)))
                .collect(),
        );
        let callers: Vec<_> = (0..200)
            .map(|_| {
                let (cache, keys) = (Arc::clone(&cache), Arc::clone(&keys));
                tokio::spawn(async move {
                    let (mut served, mut cancelled) = (0_usize, 0_usize);
                    for _ in 0..calls / 200 {
                        let n = rand::random_range(0..keys.len());
                        let mut call = std::pin::pin!(cache.token(&keys[n], Duration::ZERO));
                        let asked_at = Instant::now();
                        // A random cancel: polled once and, one time in four, dropped.
                        if let Some(token) = (&mut call).now_or_never() {
                            served += usize::from(is_right(token, n, asked_at));
                        } else if rand::random_ratio(1, 4) {
                            cancelled += 1;
                        } else {
                            served += usize::from(is_right(call.await, n, asked_at));
                        }
                    }
                    (served, cancelled)
                })
            })
            .collect();
        let (mut served, mut cancelled) = (0, 0);
        for caller in callers {
            let counts = caller.await.unwrap();
            served += counts.0;
            cancelled += counts.1;
        }
        assert_eq!(served + cancelled, calls / 200 * 200, "every call ended");
        assert!(
            cancelled > 0 && served > calls / 2,
            "{served} served, {cancelled} cancelled"
        );
    });
}

/// Tokens that name their key and live so short that they are minted all the time.
fn short_lived(n: usize) -> Arc<Scripted> {
    Scripted::new(move |_| async move {
        tokio::time::sleep(Duration::from_millis(2)).await;
        Ok(Minted {
            access_token: Secret::new(format!("token-of-{n}")),
            expires_in: Some(3),
        })
    })
}

/// Whether it is the right token, and was alive when it was asked for.
fn is_right(result: Result<Arc<Token>, Refusal>, n: usize, asked_at: Instant) -> bool {
    let token = result.expect("this upstream never fails");
    assert_eq!(
        token.access_token.expose(),
        format!("token-of-{n}"),
        "another key's token"
    );
    assert!(token.suffices(asked_at, Duration::ZERO), "an expired token");
    true
}

#[tokio::test(start_paused = true)]
async fn a_quarantine_is_told_to_all_and_ends_with_its_release() {
    let source = steady();
    let (cache, _guard, registration) = one(&source);
    let TokenKey {
        destination,
        application,
        ..
    } = &*registration.key;
    let mut watch = cache.watch(&registration, NOBODY);
    watch.next().await.unwrap();
    assert_eq!(source.calls(), 1);
    // The next flight is under way, with somebody who waits for it.
    let waiting = {
        let (cache, registration) = (Arc::clone(&cache), Arc::clone(&registration));
        tokio::spawn(async move { cache.refresh(&registration, &NOBODY).await })
    };
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert_eq!(source.calls(), 2);

    let before = Instant::now();
    cache.quarantine(destination, Some(application));
    assert_eq!(waiting.await.unwrap().unwrap_err(), Refusal::Quarantined);
    assert_eq!(watch.next().await.unwrap_err(), Refusal::Quarantined);
    let refused = cache.token(&registration, Duration::ZERO).await;
    assert_eq!(refused.unwrap_err(), Refusal::Quarantined);
    let refused = cache.refresh(&registration, &NOBODY).await;
    assert_eq!(refused.unwrap_err(), Refusal::Quarantined);
    assert_eq!(before.elapsed(), Duration::ZERO, "all of them at once");
    cache.warm(&registration);
    tokio::time::sleep(3 * HOUR).await;
    assert_eq!(source.calls(), 2, "nothing is minted");
    let standing = cache.survey(&registration).unwrap();
    assert_eq!(standing.condition, Condition::Quarantined);
    assert!(
        standing.token.is_none(),
        "the flight under way brought none"
    );

    let next = tokio::spawn(async move { watch.next().await });
    tokio::time::sleep(secs(1)).await;
    assert!(!next.is_finished(), "the watcher knows already");
    cache.release(destination, Some(application));
    let brought = next.await.unwrap().unwrap();
    let token = cache.token(&registration, Duration::ZERO).await.unwrap();
    assert_eq!(token.id, brought.id);
    assert_eq!(source.calls(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_quarantine_holds_for_slots_that_come_later() {
    let source = steady();
    let (cache, _guard, registration) = one(&source);
    let TokenKey {
        destination,
        application,
        ..
    } = &*registration.key;
    cache.quarantine(destination, Some(application));
    let foreseen = Foresight::Refuse(Refusal::Quarantined);
    assert_eq!(cache.foresee(&registration), foreseen);
    let refused = cache.token(&registration, Duration::ZERO).await;
    assert_eq!(refused.unwrap_err(), Refusal::Quarantined);

    let renewed = renewed(&registration, Arc::clone(&source));
    cache.succeed(&registration.key, &renewed);
    cache.adopt(renewed.edition, [&renewed].into_iter());
    let refused = cache.token(&renewed, Duration::ZERO).await;
    assert_eq!(refused.unwrap_err(), Refusal::Quarantined);
    assert_eq!(source.calls(), 0);
    cache.release(destination, Some(application));
    cache.token(&renewed, Duration::ZERO).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn what_stops_a_destination_stops_every_application_that_comes() {
    let source = steady();
    let (cache, _guard, shop) = one(&source);
    let application = ApplicationName::parse("depot").unwrap();
    let key = TokenKey {
        application: application.clone(),
        ..(*shop.key).clone()
    };
    let depot = Arc::new(Registration {
        key: Arc::new(key),
        rotation: Rotation::of(Arc::clone(&source) as Arc<dyn TokenSource>),
        host: Arc::clone(&shop.host),
        warm: true,
        place: None,
        whereabouts: Whereabouts::default(),
        terms: Arc::clone(&shop.terms),
        ..*shop
    });
    let destination = &shop.key.destination;
    cache.quarantine(destination, None);
    cache.adopt(shop.edition, [&shop, &depot].into_iter());
    cache.warm(&depot);
    for registration in [&shop, &depot] {
        let refused = cache.token(registration, Duration::ZERO).await;
        assert_eq!(refused.unwrap_err(), Refusal::Quarantined);
    }
    // Not even by its own name, while all of them are stopped.
    cache.quarantine(destination, Some(&application));
    cache.release(destination, Some(&application));
    let refused = cache.token(&depot, Duration::ZERO).await;
    assert_eq!(refused.unwrap_err(), Refusal::Quarantined);
    assert_eq!(source.calls(), 0);
    cache.quarantine(destination, Some(&application));
    cache.release(destination, None);
    for registration in [&shop, &depot] {
        cache.token(registration, Duration::ZERO).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_quarantine_reaches_whoever_waits_where_a_reload_came_between() {
    for fails in [false, true] {
        let source = Scripted::new(move |_| async move {
            tokio::time::sleep(HALF_A_SECOND).await;
            if fails { unavailable() } else { token_of(HOUR) }
        });
        let (cache, _guard, registration) = one(&source);
        let waiting = ask(&cache, &registration);
        tokio::time::sleep(Duration::from_millis(1)).await;
        assert_eq!(source.calls(), 1);
        cache.adopt(registration.edition.next(), [].into_iter());
        cache.quarantine(&registration.key.destination, None);
        assert_eq!(waiting.await.unwrap().unwrap_err(), Refusal::Quarantined);
        assert_eq!(source.calls(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn an_operators_refresh_does_not_wait_for_the_back_off() {
    let source = Scripted::new(|call| async move {
        match call {
            2..=9 => Err(FetchError::Rejected {
                status: 401,
                code: None,
            }),
            _ => token_of(HOUR),
        }
    });
    let (cache, _guard, registration) = one(&source);
    let first = cache.token(&registration, Duration::ZERO).await.unwrap();
    for _ in 2..=9 {
        let refused = cache.refresh(&registration, &NOBODY).await.unwrap_err();
        assert_eq!(reason(refused), FailureReason::CredentialRejected);
    }
    let standing = cache.survey(&registration).unwrap();
    assert_eq!(standing.condition, Condition::RefreshFailing);
    assert_eq!(standing.token.unwrap().id, first.id);
    let token = cache.refresh(&registration, &NOBODY).await.unwrap();
    assert_ne!(token.id, first.id);
    assert_eq!(source.calls(), 10);
    let standing = cache.survey(&registration).unwrap();
    assert_eq!(standing.condition, Condition::Fresh);
}

#[tokio::test(start_paused = true)]
async fn what_would_be_done_is_foreseen_without_doing_it() {
    let source = Scripted::new(|call| async move {
        tokio::time::sleep(HALF_A_SECOND).await;
        if call == 1 {
            token_of(HOUR)
        } else {
            unavailable()
        }
    });
    let (cache, _guard, registration) = one(&source);
    assert_eq!(cache.foresee(&registration), Foresight::MintAndWait);
    assert!(cache.survey(&registration).is_none(), "no slot was made");
    cache.warm(&registration);
    assert_eq!(cache.foresee(&registration), Foresight::Wait);
    tokio::time::sleep(secs(1)).await;
    let runway = secs(3600 - 61);
    assert_eq!(cache.foresee(&registration), Foresight::Serve { runway });
    // Nobody has asked, so nobody refreshes: the token is old when somebody looks.
    tokio::time::sleep(secs(45 * 60)).await;
    let runway = secs(3600 - 61 - 45 * 60);
    let foreseen = cache.foresee(&registration);
    assert_eq!(foreseen, Foresight::ServeAndRefresh { runway });
    assert_eq!(source.calls(), 1);
    tokio::time::sleep(secs(15 * 60)).await;
    cache
        .token(&registration, Duration::ZERO)
        .await
        .unwrap_err();
    let foreseen = cache.foresee(&registration);
    let Foresight::Refuse(refusal) = foreseen else {
        panic!("{foreseen:?}");
    };
    assert_eq!(reason(refusal), FailureReason::Unavailable);
}

#[tokio::test(start_paused = true)]
async fn a_survey_says_when_a_slot_was_used_and_how_it_went() {
    let source = Scripted::new(|call| async move {
        if call == 1 {
            token_of(HOUR)
        } else {
            unavailable()
        }
    });
    let (cache, _guard, registration) = one(&source);
    cache.warm(&registration);
    tokio::time::sleep(secs(1)).await;
    let standing = cache.survey(&registration).unwrap();
    assert!(standing.last_used.is_none(), "keeping it warm is no use");
    assert!(standing.last_failure.is_none());
    let minted = standing.last_success.unwrap().instant;
    tokio::time::sleep(secs(99)).await;
    cache.token(&registration, Duration::ZERO).await.unwrap();
    cache.refresh(&registration, &NOBODY).await.unwrap_err();
    let standing = cache.survey(&registration).unwrap();
    let (reason, failed) = standing.last_failure.unwrap();
    assert_eq!(reason, FailureReason::Unavailable);
    assert_eq!(failed.instant - minted, secs(100));
    assert_eq!(standing.last_success.unwrap().instant, minted);
    assert_eq!(standing.last_used.unwrap().instant - minted, secs(100));
}

mod fleet;
mod traces;
mod whereabouts;

#[tokio::test(start_paused = true)]
async fn a_refresh_is_late_if_somebody_wanted_it_when_it_was_due() {
    let metrics = Arc::new(Metrics::new());
    let (cache, _guard) = cache_with(Arc::clone(&metrics), Traces::off());
    // How many successors came, and how late they were together, in seconds.
    let lags = || {
        let exposition = metrics.exposition().unwrap();
        let number = |name: &str| {
            let start = format!("token_broker_refresh_lag_seconds_{name} ");
            let mut lines = exposition.lines();
            let number = lines.find_map(|line| line.strip_prefix(&start));
            number.unwrap().to_owned()
        };
        let count: u64 = number("count").parse().unwrap();
        let sum: f64 = number("sum").parse().unwrap();
        (count, sum)
    };
    let began = Instant::now();
    let source = Scripted::new(move |_| async move {
        let age = began.elapsed();
        // Out of order from before the first refresh is due until ten minutes later.
        if (20 * MINUTE..40 * MINUTE).contains(&age) {
            return unavailable();
        }
        token_of(HOUR)
    });
    let used = Arc::new(registration("one", Arc::clone(&source), &host()));
    cache.token(&used, Duration::ZERO).await.unwrap();
    assert_eq!(lags().0, 0, "a first token succeeds none");
    pass(45 * MINUTE).await;
    let (count, sum) = lags();
    assert!(count == 1 && (480.0..780.0).contains(&sum), "{count} {sum}");

    // Nobody asked since, so it is left alone; whoever comes hours later waits for a new one.
    pass(5 * HOUR).await;
    let (before, _) = lags();
    cache.token(&used, Duration::ZERO).await.unwrap();
    assert_eq!(lags().0, before);
    // Due after half an hour, or a minute and a half more.
    pass(32 * MINUTE).await;
    let (after, sum_after) = lags();
    assert_eq!(after, before + 1, "and its successor counts again");
    assert!(sum_after < sum + 120.0, "{sum_after}");
}
