//! A broker that ends while its successor answers.

use std::{
    collections::BTreeMap,
    error::Error as _,
    sync::{Arc, Mutex},
    time::Duration,
};

use rustix::process::Signal;
use token_broker::api::v1::token_broker_client::TokenBrokerClient;
use tokio::{
    task::JoinSet,
    time::{MissedTickBehavior, interval, sleep},
};
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status, transport::Channel};

use crate::{
    broker::{Broker, machine},
    trial::{Setup, Site, ask},
};

/// A client, with a connection to both brokers.
struct Caller {
    old: TokenBrokerClient<Channel>,
    new: TokenBrokerClient<Channel>,
}

/// What became of all calls.
#[derive(Debug, Default)]
struct Outcomes {
    at_once: usize,
    /// What failed first, and how often.
    on_retry: BTreeMap<String, usize>,
    /// What failed for good, and how often.
    failed: BTreeMap<String, usize>,
}

#[tokio::test(flavor = "multi_thread")]
async fn no_call_fails_that_is_retried_once() {
    hand_over(500, Duration::from_millis(500)).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "2,000 calls a second: --release --ignored"]
async fn no_call_of_two_thousand_a_second_fails_that_is_retried_once() {
    hand_over(2_000, Duration::from_secs(10)).await;
}

/// Ends a broker amid so many calls a second, with this time before and after.
async fn hand_over(calls_per_second: u32, around: Duration) {
    const CALLERS: u32 = 20;
    let _machine = machine().await;
    let site = Site::new(Setup {
        destinations: 1,
        ..Setup::default()
    })
    .await;
    let mut old = Broker::start(&site).await;
    let new = Broker::start(&site).await;
    let outcomes = Arc::new(Mutex::new(Outcomes::default()));
    let stop = CancellationToken::new();
    let mut callers = JoinSet::new();
    for _ in 0..CALLERS {
        let caller = Caller {
            old: old.client(&site).await,
            new: new.client(&site).await,
        };
        let pace = Duration::from_secs(1) * CALLERS / calls_per_second;
        callers.spawn(caller.keep_calling(pace, Arc::clone(&outcomes), stop.clone()));
    }
    sleep(around).await;
    old.signal(Signal::TERM);
    let (status, took) = old.ended().await;
    sleep(around).await;
    stop.cancel();
    callers.join_all().await;
    let outcomes = outcomes.lock().unwrap();
    println!("{calls_per_second} calls a second, {status} after {took:?}: {outcomes:?}");
    assert_eq!(status.code(), Some(0));
    assert!(outcomes.failed.is_empty());
    assert!(outcomes.at_once > 0 && !outcomes.on_retry.is_empty());
}

impl Caller {
    /// Begins a call in every `pace`, whether or not the last one has ended.
    async fn keep_calling(
        self,
        pace: Duration,
        outcomes: Arc<Mutex<Outcomes>>,
        stop: CancellationToken,
    ) {
        let mut calls = JoinSet::new();
        let mut ticks = interval(pace);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
        while stop.run_until_cancelled(ticks.tick()).await.is_some() {
            let (old, new) = (self.old.clone(), self.new.clone());
            calls.spawn(call(old, new, Arc::clone(&outcomes)));
        }
        calls.join_all().await;
    }
}

/// Asks the old broker, and the new one where that is of no use any more.
async fn call(
    mut old: TokenBrokerClient<Channel>,
    mut new: TokenBrokerClient<Channel>,
    outcomes: Arc<Mutex<Outcomes>>,
) {
    let first = ask(&mut old, "d0").await;
    let retried = match &first {
        Err(status) if is_worth_a_retry(status) => Some(ask(&mut new, "d0").await),
        _ => None,
    };
    let mut outcomes = outcomes.lock().unwrap();
    let say = |status: Status| format!("{:?}: {}", status.code(), status.message());
    match (first, retried) {
        (Ok(_), _) => outcomes.at_once += 1,
        (Err(status), Some(Ok(_))) => {
            *outcomes.on_retry.entry(say(status)).or_default() += 1;
        }
        (Err(status), None) | (_, Some(Err(status))) => {
            *outcomes.failed.entry(say(status)).or_default() += 1;
        }
    }
}

/// Whether a call was refused for now, or found its connection gone: tonic has no code
/// of its own for that, but then the status has a cause, which no broker's answer has.
fn is_worth_a_retry(status: &Status) -> bool {
    status.code() == Code::Unavailable || status.source().is_some()
}
