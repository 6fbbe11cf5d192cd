//! Keys that no replica has a token for.

use std::{collections::HashSet, net::SocketAddr, time::Duration};

use rustix::process::Signal;
use token_broker::{
    api::v1::{GetTokenResponse, token_broker_client::TokenBrokerClient},
    upstream::standin::Behaviour,
};
use tokio::task::JoinSet;
use tonic::{Status, transport::Channel};

use crate::{
    broker::{Broker, machine},
    fleet::{Fleet, Metrics, site, until},
    server::Server,
    trial::{Setup, Site, ask},
};

/// How many connections the callers of one replica share: each has calls for a hundred.
const CONNECTIONS: usize = 10;
const CALLERS_EACH: usize = 100;

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs redis-server"]
async fn a_thousand_cold_calls_at_each_of_one_to_nine_replicas_make_one_upstream_call() {
    const MOST: usize = 9;
    let _machine = machine().await;
    let server = Server::start().await;
    let setup = Setup {
        destinations: MOST + 1,
        ..Setup::default()
    };
    let mut fleet = Fleet::at(patient(setup, server.address).await);
    let half_a_second = Behaviour::delay(Duration::from_millis(500));
    fleet.site.upstream.behave(half_a_second);
    let mut connections = Vec::new();
    for replicas in 1..=MOST {
        let newest = fleet.grow().await;
        fleet.connected().await;
        for _ in 0..CONNECTIONS {
            connections.push(fleet.client(newest).await);
        }
        let key = format!("d{replicas}");
        let (answered, ids) = outcome(callers(&connections, &key)).await;
        let calls = fleet.site.upstream.calls_for(&key);
        println!("{replicas} replicas: {answered} answered, {calls} upstream calls");
        assert_eq!(
            (answered, calls, ids.len()),
            (replicas * CONNECTIONS * CALLERS_EACH, 1, 1)
        );
    }
    fleet.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs redis-server"]
async fn a_replica_that_is_killed_while_it_mints_costs_the_others_one_upstream_call() {
    let _machine = machine().await;
    let server = Server::start().await;
    let setup = Setup {
        destinations: 1,
        upstream: r#"timeout = "3s""#,
        ..Setup::default()
    };
    let site = patient(setup, server.address).await;
    site.upstream
        .behave(Behaviour::delay(Duration::from_secs(2)));
    let mut brokers = Vec::new();
    for _ in 0..3 {
        let broker = Broker::start(&site).await;
        let up = async || Metrics::at(broker.http).await.value("shared_cache_up") == 1;
        until("it reaches the server", up).await;
        brokers.push(broker);
    }
    let holder = brokers.remove(0);
    let mut client = holder.client(&site).await;
    let lost = tokio::spawn(async move { ask(&mut client, "d0").await });
    until("it mints", async || site.upstream.calls() == 1).await;
    let mut connections = Vec::new();
    for broker in &brokers {
        for _ in 0..CONNECTIONS {
            connections.push(broker.client(&site).await);
        }
    }
    let calls = callers(&connections, "d0");
    for broker in &brokers {
        until("it waits for the other", async || {
            Metrics::at(broker.http).await.value("flights_in_progress") == 1
        })
        .await;
    }
    assert_eq!(site.upstream.calls(), 1);
    holder.signal(Signal::KILL);
    let (answered, ids) = outcome(calls).await;
    let calls = site.upstream.calls();
    println!("{answered} answered, {calls} upstream calls");
    assert!(lost.await.unwrap().is_err());
    assert_eq!(
        (answered, calls, ids.len()),
        (2 * CONNECTIONS * CALLERS_EACH, 2, 1)
    );
}

/// Replicas that give their server time: all of them, and all of their callers, share this
/// machine, and are built without optimisation.
async fn patient(setup: Setup, server: SocketAddr) -> Site {
    let site = site(setup, server).await;
    site.configure(|config| format!("{config}timeout = \"2s\"\n"));
    site
}

/// A hundred callers on each connection.
fn callers(
    connections: &[TokenBrokerClient<Channel>],
    key: &str,
) -> JoinSet<Result<GetTokenResponse, Status>> {
    let mut calls = JoinSet::new();
    for client in connections {
        for _ in 0..CALLERS_EACH {
            let (mut client, key) = (client.clone(), key.to_owned());
            calls.spawn(async move { ask(&mut client, &key).await });
        }
    }
    calls
}

/// How many were answered, and with which tokens.
async fn outcome(calls: JoinSet<Result<GetTokenResponse, Status>>) -> (usize, HashSet<String>) {
    let replies = calls.join_all().await;
    let answered = replies.len();
    let ids = replies.into_iter().map(|reply| reply.unwrap().token_id);
    (answered, ids.collect())
}
