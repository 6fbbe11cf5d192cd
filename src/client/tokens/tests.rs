//! Tokens in paused time, over a wire that does what a test tells it.

use std::{
    collections::VecDeque,
    sync::atomic::{AtomicUsize, Ordering},
};

use futures_util::{FutureExt as _, StreamExt as _, future::BoxFuture};
use tokio::{
    sync::mpsc::{UnboundedSender, unbounded_channel},
    time::{advance, sleep},
};
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::Status;

use super::*;
use crate::{
    api::v1::{
        GetTokenResponse, TokenUnavailable, WatchTokenResponse, watch_token_response::Event,
    },
    client::wire::Events,
};

const SECOND: Duration = Duration::from_secs(1);

/// One watch after the other, as they were staged; then none is ever answered.
#[derive(Default)]
struct Staged {
    watches: Mutex<VecDeque<Result<Events, Refusal>>>,
    begun: Mutex<Vec<Instant>>,
    reports: AtomicUsize,
    deaf: bool,
    /// Reports are never answered.
    silent: bool,
}

impl Wire for Staged {
    fn watch<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<Events, Refusal>> {
        self.begun.lock().unwrap().push(Instant::now());
        match self.watches.lock().unwrap().pop_front() {
            Some(watch) => std::future::ready(watch).boxed(),
            None => std::future::pending().boxed(),
        }
    }

    fn report<'a>(
        &'a self,
        _: &'a str,
        _: &'a str,
    ) -> BoxFuture<'a, Result<ReportOutcome, Refusal>> {
        self.reports.fetch_add(1, Ordering::SeqCst);
        let answer = if self.deaf {
            Err(Refusal::unavailable("gone"))
        } else {
            Ok(ReportOutcome::Refreshing)
        };
        let silent = self.silent;
        async move {
            sleep(SECOND).await;
            if silent {
                std::future::pending::<()>().await;
            }
            answer
        }
        .boxed()
    }
}

/// The broker's end of a watch.
struct Broker(UnboundedSender<Result<WatchTokenResponse, Status>>);

impl Broker {
    /// A wire with so many watches, and the other ends of them.
    fn stage<const N: usize>() -> (Staged, [Self; N]) {
        let staged = Staged::default();
        let brokers = std::array::from_fn(|_| {
            let (broker, events) = Self::watched();
            staged.watches.lock().unwrap().push_back(Ok(events));
            broker
        });
        (staged, brokers)
    }

    fn watched() -> (Self, Events) {
        let (sender, receiver) = unbounded_channel();
        let events = UnboundedReceiverStream::new(receiver).boxed();
        (Self(sender), events)
    }

    fn token(&self, id: &str, lives: i64) {
        self.send(Event::Token(GetTokenResponse {
            access_token: format!("token-{id}"),
            token_type: "Bearer".to_owned(),
            expires_at: Some(prost_types::Timestamp::default()),
            expires_in: Some(prost_types::Duration {
                seconds: lives,
                nanos: 0,
            }),
            token_id: id.to_owned(),
        }));
    }

    fn unavailable(&self, reason: &str, retry_in: Option<i64>) {
        self.send(Event::Unavailable(TokenUnavailable {
            reason: reason.to_owned(),
            retry_delay: retry_in.map(|seconds| prost_types::Duration { seconds, nanos: 0 }),
        }));
    }

    fn send(&self, event: Event) {
        let event = Some(event);
        let _ = self.0.send(Ok(WatchTokenResponse { event }));
    }
}

fn refused(needs_action: bool, retry_in: Option<Duration>) -> Result<Events, Refusal> {
    Err(Refusal {
        retry_in,
        needs_action,
        ..Refusal::unavailable("refused")
    })
}

fn start(wire: Staged) -> (Tokens, Arc<Staged>) {
    let wire = Arc::new(wire);
    (Tokens::over(Arc::clone(&wire) as _, "orders"), wire)
}

async fn id(tokens: &Tokens) -> Result<String, String> {
    let token = tokens.token().await;
    token
        .map(|token| token.id.clone())
        .map_err(|refusal| refusal.reason)
}

#[tokio::test(start_paused = true)]
async fn a_token_is_served_through_a_restart_until_just_before_its_end_and_never_longer() {
    let (wire, [broker]) = Broker::stage();
    broker.token("a", 100);
    for _ in 0..20 {
        wire.watches.lock().unwrap().push_back(refused(false, None));
    }
    let (tokens, _) = start(wire);
    assert_eq!(id(&tokens).await.unwrap(), "a");
    drop(broker);
    let began = Instant::now();
    let mut served = 0;
    while let Some(Ok(token)) = tokens.token().now_or_never() {
        assert_eq!(token.id, "a");
        served += 1;
        advance(SECOND).await;
    }
    assert_eq!((served, began.elapsed().as_secs()), (90, 90));
    assert_eq!(id(&tokens).await.unwrap_err(), "UNAVAILABLE");
}

#[tokio::test(start_paused = true)]
async fn a_successor_is_picked_up_and_a_reconnect_ends_a_failure() {
    let (wire, [first, second]) = Broker::stage();
    first.token("a", 100);
    let (tokens, wire) = start(wire);
    assert_eq!(id(&tokens).await.unwrap(), "a");
    first.token("b", 100);
    assert_eq!(tokens.successor("a").await.unwrap().id, "b");
    drop(first);
    second.token("c", 100);
    assert_eq!(tokens.successor("b").await.unwrap().id, "c");
    assert!(tokens.latest.borrow().failure.is_none());
    let begun = wire.begun.lock().unwrap();
    let pause = begun[1] - begun[0];
    assert_eq!(begun.len(), 2);
    assert!(pause >= SECOND / 10 && pause <= SECOND, "{pause:?}");
}

#[tokio::test(start_paused = true)]
async fn a_token_that_dies_without_a_successor_is_an_error_with_the_reason() {
    let (wire, [broker]) = Broker::stage();
    broker.token("a", 100);
    let (tokens, _) = start(wire);
    assert_eq!(id(&tokens).await.unwrap(), "a");
    advance(40 * SECOND).await;
    broker.unavailable("UPSTREAM_THROTTLED", Some(120));
    sleep(49 * SECOND).await;
    assert_eq!(id(&tokens).await.unwrap(), "a", "it is alive for all that");
    advance(SECOND).await;
    let refusal = tokens.token().now_or_never().unwrap().unwrap_err();
    assert_eq!(refusal.reason, "UPSTREAM_THROTTLED");
    assert_eq!(refusal.retry_in.unwrap().as_secs(), 70);
    broker.token("b", 100);
    sleep(SECOND).await;
    assert_eq!(id(&tokens).await.unwrap(), "b");
}

#[tokio::test(start_paused = true)]
async fn what_comes_of_itself_is_waited_for_and_nothing_else() {
    for (needs_action, retry_in, waited) in [
        (true, None, 0),
        (false, Some(60 * SECOND), 0),
        (false, None, 10),
    ] {
        let wire = Staged::default();
        let refusal = refused(needs_action, retry_in);
        wire.watches.lock().unwrap().push_back(refusal);
        let (tokens, _) = start(wire);
        let began = Instant::now();
        let refusal = tokens.token().await.unwrap_err();
        assert_eq!(refusal.reason, "UNAVAILABLE");
        assert_eq!(
            began.elapsed().as_secs(),
            waited,
            "{needs_action} {retry_in:?}"
        );
    }
    let (tokens, _) = start(Staged::default());
    assert_eq!(id(&tokens).await.unwrap_err(), "DEADLINE_EXCEEDED");
}

#[tokio::test(start_paused = true)]
async fn retries_are_spread_and_wait_as_long_as_the_broker_says() {
    for (needs_action, retry_in, first, ten) in [
        // The ceilings are 1, 2, 4 … 60 seconds, and 30, 60 … 300.
        (false, None, 0..=1, 1..=303),
        (true, None, 15..=30, 150..=2310),
        (false, Some(120 * SECOND), 120..=120, 1200..=1200),
        (false, Some(9000 * SECOND), 300..=300, 3000..=3000),
    ] {
        let wire = Staged::default();
        for _ in 0..10 {
            let refusal = refused(needs_action, retry_in);
            wire.watches.lock().unwrap().push_back(refusal);
        }
        let (_tokens, wire) = start(wire);
        sleep(9000 * SECOND).await;
        let begun = wire.begun.lock().unwrap();
        assert_eq!(begun.len(), 11);
        assert!(first.contains(&(begun[1] - begun[0]).as_secs()));
        assert!(ten.contains(&(begun[10] - begun[0]).as_secs()));
    }
}

#[tokio::test(start_paused = true)]
async fn a_token_is_reported_once_by_however_many() {
    let (wire, [broker]) = Broker::stage();
    broker.token("a", 100);
    let (tokens, wire) = start(wire);
    assert_eq!(id(&tokens).await.unwrap(), "a");
    let tokens = Arc::new(tokens);
    let reports = (0..100).map(|_| tokens.report_rejected("a"));
    for outcome in futures_util::future::join_all(reports).await {
        assert_eq!(outcome.unwrap(), ReportOutcome::Refreshing);
    }
    tokens.report_rejected("a").await.unwrap();
    let old = tokens.report_rejected("older").await.unwrap();
    assert_eq!(old, ReportOutcome::AlreadyReplaced);
    assert_eq!(wire.reports.load(Ordering::SeqCst), 1);
    // Whatever became of that, the token is still there, and still rejected.
    advance(REPORT_WINDOW).await;
    tokens.report_rejected("a").await.unwrap();
    assert_eq!(wire.reports.load(Ordering::SeqCst), 2);
}

#[tokio::test(start_paused = true)]
async fn a_report_that_did_not_arrive_may_be_made_again() {
    let (wire, [broker]) = Broker::stage();
    broker.token("a", 100);
    let (tokens, wire) = start(Staged { deaf: true, ..wire });
    assert_eq!(id(&tokens).await.unwrap(), "a");
    for _ in 0..2 {
        let refusal = tokens.report_rejected("a").await.unwrap_err();
        assert_eq!(refusal.reason, "UNAVAILABLE");
    }
    assert_eq!(wire.reports.load(Ordering::SeqCst), 2);
}

#[tokio::test(start_paused = true)]
async fn all_who_report_to_a_silent_broker_give_up_together_after_one_call() {
    let (wire, [broker]) = Broker::stage();
    broker.token("a", 100);
    let (tokens, wire) = start(Staged {
        silent: true,
        ..wire
    });
    assert_eq!(id(&tokens).await.unwrap(), "a");
    let began = Instant::now();
    let reports = (0..100).map(|_| tokens.report_rejected("a"));
    let late = async {
        sleep(9 * SECOND).await;
        tokens.report_rejected("a").await
    };
    let (refusals, late) = tokio::join!(futures_util::future::join_all(reports), late);
    for refusal in refusals.into_iter().chain([late]) {
        assert_eq!(refusal.unwrap_err().reason, "DEADLINE_EXCEEDED");
    }
    assert_eq!(began.elapsed().as_secs(), PATIENCE.as_secs());
    assert_eq!(wire.reports.load(Ordering::SeqCst), 1);
}

#[tokio::test(start_paused = true)]
async fn a_report_whose_caller_is_gone_is_made_by_the_next() {
    let (wire, [broker]) = Broker::stage();
    broker.token("a", 100);
    let (tokens, wire) = start(wire);
    assert_eq!(id(&tokens).await.unwrap(), "a");
    for wait in [Duration::ZERO, PATIENCE] {
        assert!(tokens.report_rejected("a").now_or_never().is_none());
        advance(wait).await;
    }
    let outcome = tokens.report_rejected("a").await.unwrap();
    assert_eq!(outcome, ReportOutcome::Refreshing);
    assert_eq!(wire.reports.load(Ordering::SeqCst), 3);
}

#[tokio::test(start_paused = true)]
async fn dropped_it_lets_go_of_its_stream() {
    let (wire, [broker]) = Broker::stage();
    broker.token("a", 100);
    let (tokens, wire) = start(wire);
    assert_eq!(id(&tokens).await.unwrap(), "a");
    drop(tokens);
    broker.0.closed().await;
    assert_eq!(Arc::strong_count(&wire), 1, "nothing is left of its task");
}
