//! Floods of HTTP/2 frames that carry no request.
//!
//! How they weigh on an honest caller is measured, not asserted, by
//! `cargo test --release --test front_door -- --ignored --nocapture an_honest_callers_p99`.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures_util::future::join_all;
use token_broker::api::v1::token_broker_client::TokenBrokerClient;
use tokio::{
    task::JoinHandle,
    time::{Instant, MissedTickBehavior, interval, timeout},
};
use tonic::transport::Channel;

use crate::{
    attacker::{
        CONTINUATION, DATA, END_HEADERS, HEADERS, PING, PRIORITY, Parting, RST_STREAM, SETTINGS,
        WINDOW_UPDATE, call, frame,
    },
    disguise::Disguise,
    trial::{CART, GIVE_UP, Trial, ask},
};

const ENHANCE_YOUR_CALM: u32 = 11;

/// One kind of flood.
#[derive(Clone, Copy)]
struct Flood {
    name: &'static str,
    /// What is sent first.
    before: fn() -> Vec<u8>,
    /// What is sent again and again, as the `n`th.
    again: fn(u32) -> Vec<u8>,
    /// After so many the connection must be gone: what a full bucket pays for, and what
    /// ten seconds give back, which is much longer than sending this few takes.
    most: u32,
}

const FLOODS: [Flood; 9] = [
    Flood {
        name: "ping",
        before: Vec::new,
        again: |_| frame(PING, 0, 0, b"pingpong"),
        most: 1_000,
    },
    Flood {
        name: "answers to pings that nobody sent",
        before: Vec::new,
        again: |_| frame(PING, 1, 0, b"pingpong"),
        most: 1_000,
    },
    Flood {
        name: "settings",
        before: Vec::new,
        again: |_| frame(SETTINGS, 0, 0, b""),
        most: 200,
    },
    Flood {
        name: "calls that are reset at once",
        before: Vec::new,
        again: |n| {
            let stream = 2 * n + 1;
            let call = frame(HEADERS, END_HEADERS, stream, &call());
            [call, frame(RST_STREAM, 0, stream, &[0, 0, 0, 8])].concat()
        },
        most: 200,
    },
    Flood {
        name: "continuation",
        before: || frame(HEADERS, 0, 1, &call()),
        again: |_| frame(CONTINUATION, 0, 1, b""),
        most: 5,
    },
    Flood {
        name: "empty data",
        before: || frame(HEADERS, END_HEADERS, 1, &call()),
        again: |_| frame(DATA, 0, 1, b""),
        most: 167,
    },
    Flood {
        name: "priority",
        before: Vec::new,
        again: |n| frame(PRIORITY, 0, 2 * n + 1, &[0, 0, 0, 0, 1]),
        most: 2_000,
    },
    Flood {
        name: "window updates",
        before: Vec::new,
        again: |_| frame(WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1]),
        most: 2_000,
    },
    Flood {
        name: "frames of an unknown type",
        before: Vec::new,
        again: |_| frame(0x1f, 0, 0, b"?"),
        most: 1_000,
    },
];

impl Flood {
    /// Its first `count` frames, a packet each so that the broker sees them come.
    fn frames(self, count: u32) -> impl Iterator<Item = Vec<u8>> {
        let before = std::iter::once((self.before)());
        before.chain((0..count).map(self.again))
    }

    /// The same in pieces of 16 KiB, as fast as they can be sent.
    fn torrent(self) -> impl Iterator<Item = Vec<u8>> {
        let mut next = 0;
        let pieces = std::iter::from_fn(move || {
            let mut piece = Vec::new();
            while piece.len() < 16_000 {
                piece.extend((self.again)(next));
                next += 1;
            }
            Some(piece)
        });
        std::iter::once((self.before)()).chain(pieces)
    }
}

/// A caller that keeps asking for its token.
struct Honest {
    stop: Arc<AtomicBool>,
    calls: JoinHandle<usize>,
}

impl Honest {
    fn start(mut client: TokenBrokerClient<Channel>) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let calls = tokio::spawn(async move {
            let mut calls = 0;
            while !stopped.load(Ordering::Relaxed) {
                ask(&mut client, "d0").await.unwrap();
                calls += 1;
            }
            calls
        });
        Self { stop, calls }
    }

    /// How many calls were answered; it panics if one was not.
    async fn stop(self) -> usize {
        self.stop.store(true, Ordering::Relaxed);
        self.calls.await.unwrap()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_flood_is_closed_and_honest_callers_notice_nothing() {
    let trial = Trial::with(1).await;
    let client = trial.client(CART).await;
    for (n, flood) in FLOODS.into_iter().enumerate() {
        let honest = Honest::start(client.clone());
        let caller = format!("spiffe://corp.example/ns/other/sa/attacker-{n}");
        let attacker = Disguise::of(&trial, &caller).connect().await.unwrap();
        let parting = timeout(GIVE_UP, attacker.attack(flood.frames(flood.most)))
            .await
            .unwrap_or_else(|_| panic!("{}: {} frames were accepted", flood.name, flood.most));

        let Parting { goaway, pongs } = parting;
        if let Some((code, why)) = goaway {
            assert_eq!(code, ENHANCE_YOUR_CALM, "{}: {why}", flood.name);
        }
        assert!(pongs <= flood.most as usize, "{}", flood.name);
        assert!(honest.stop().await > 0, "{}", flood.name);
    }
    trial.app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_honest_channel_is_never_cut() {
    let trial = Trial::with(1).await;
    let client = trial.client(CART).await;
    for _ in 0..100 {
        let burst = (0..200).map(|_| {
            let mut client = client.clone();
            async move { ask(&mut client, "d0").await.map(drop) }
        });
        for outcome in join_all(burst).await {
            outcome.unwrap();
        }
    }
    // A channel that is cut connects again without a word: the broker must know of one only.
    let (_, metrics) = trial.http("/metrics").await;
    let accepted = r#"token_broker_connections_total{outcome="ok"} 1"#;
    assert!(metrics.lines().any(|line| line == accepted), "{metrics}");
    trial.app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn callers_that_give_up_are_never_cut() {
    let trial = Trial::with(1).await;
    let client = trial.client(CART).await;
    // Of every burst the half is dropped before it can be answered.
    for _ in 0..100 {
        let calls: Vec<_> = (0..20)
            .map(|_| {
                let mut client = client.clone();
                tokio::spawn(async move { ask(&mut client, "d0").await.map(drop) })
            })
            .collect();
        for (n, call) in calls.into_iter().enumerate() {
            if n % 2 == 0 {
                call.abort();
            } else {
                call.await.unwrap().unwrap();
            }
        }
    }
    let (_, metrics) = trial.http("/metrics").await;
    let accepted = r#"token_broker_connections_total{outcome="ok"} 1"#;
    assert!(metrics.lines().any(|line| line == accepted), "{metrics}");
    trial.app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "measures for two minutes, and wants the machine for itself"]
async fn an_honest_callers_p99_with_and_without_each_flood() {
    let trial = Trial::with(1).await;
    let mut client = trial.client(CART).await;
    measure(&mut client).await;
    let calm = measure(&mut client).await;
    println!("no flood: p99 {calm:?}");
    for (n, flood) in FLOODS.into_iter().enumerate() {
        let caller = format!("spiffe://corp.example/ns/other/sa/attacker-{n}");
        let disguise = Disguise::of(&trial, &caller);
        let attack = tokio::spawn(async move {
            // Cut, it comes back at once.
            loop {
                if let Ok(attacker) = disguise.connect().await {
                    attacker.attack(flood.torrent()).await;
                }
            }
        });
        let flooded = measure(&mut client).await;
        attack.abort();
        let ratio = flooded.as_secs_f64() / calm.as_secs_f64();
        println!("{}: p99 {flooded:?}, {ratio:.2} times", flood.name);
    }
    trial.app.stop().await;
}

/// The p99 of 2,500 calls, 500 a second.
async fn measure(client: &mut TokenBrokerClient<Channel>) -> Duration {
    let mut ticks = interval(Duration::from_millis(2));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut took = Vec::new();
    for _ in 0..2_500 {
        ticks.tick().await;
        let asked = Instant::now();
        ask(client, "d0").await.unwrap();
        took.push(asked.elapsed());
    }
    took.sort_unstable();
    took[took.len() * 99 / 100]
}
