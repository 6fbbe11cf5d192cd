//! Replicas that are replaced while others answer.

use std::time::Duration;

use rustix::process::Signal;
use tokio::{sync::watch, time::sleep};

use crate::{
    broker::{Broker, machine},
    fleet::{Fleet, Metrics, site, until},
    load::Load,
    server::Server,
    trial::{Setup, Site, ask, http},
};

const REPLICAS: usize = 3;
const KEYS: usize = 20;
const CALLERS: usize = 12;
const PACE: Duration = Duration::from_millis(10);
/// How long the load goes on between two changes.
const REST: Duration = Duration::from_millis(300);

/// A replica in a process of its own that says that it is ready.
async fn ready(site: &Site) -> Broker {
    let broker = Broker::start(site).await;
    until("it is ready", async || {
        http(broker.http, "/readyz").await.unwrap().0 == 200
    })
    .await;
    broker
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs redis-server"]
async fn a_fleet_is_replaced_one_by_one_without_a_failed_call_or_another_upstream_call() {
    let _machine = machine().await;
    let server = Server::start().await;
    let setup = Setup {
        destinations: KEYS,
        ..Setup::default()
    };
    let site = site(setup, server.address).await;
    let keys: Vec<_> = (0..KEYS).map(|n| format!("d{n}")).collect();
    let mints = u64::try_from(KEYS).unwrap();
    let (mut brokers, mut clients) = (Vec::new(), Vec::new());
    for _ in 0..REPLICAS {
        let broker = ready(&site).await;
        clients.push(broker.client(&site).await);
        brokers.push(broker);
    }
    for key in &keys {
        for client in &mut clients {
            ask(client, key).await.unwrap();
        }
    }
    assert_eq!(site.upstream.calls(), mints);
    let (publish, directory) = watch::channel(clients.clone());
    let load = Load::anywhere(&directory, CALLERS, &keys, PACE);
    sleep(REST).await;
    for replica in 0..REPLICAS {
        brokers[replica].signal(Signal::TERM);
        let (status, took) = brokers[replica].ended().await;
        assert_eq!(status.code(), Some(0));
        let broker = ready(&site).await;
        let mut client = broker.client(&site).await;
        for key in &keys {
            ask(&mut client, key).await.unwrap();
        }
        println!("replica {replica} ended in {took:?}");
        assert_eq!(
            site.upstream.calls(),
            mints,
            "its first answers cost nothing"
        );
        clients[replica] = client;
        brokers[replica] = broker;
        publish.send_replace(clients.clone());
        sleep(REST).await;
    }
    let outcomes = load.stop().await;
    println!(
        "{} answered, {} of them on a retry; {} upstream calls",
        outcomes.answered,
        outcomes.on_retry,
        site.upstream.calls()
    );
    outcomes.assert_all_answered("in all");
    assert_eq!(site.upstream.calls(), mints);
    for broker in &brokers {
        let metrics = Metrics::at(broker.http).await;
        for key in &keys {
            let own = metrics.value(&format!(
                "mints_total{{destination=\"{key}\",application=\"shop\",outcome=\"ok\"}}"
            ));
            assert_eq!(own, 0, "{key}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs redis-server"]
async fn a_new_replica_is_ready_once_it_needs_neither_its_peers_nor_their_server() {
    let _machine = machine().await;
    let mut server = Server::start().await;
    let setup = Setup {
        destinations: KEYS,
        ..Setup::default()
    };
    let mut fleet = Fleet::start(1, setup, server.address).await;
    for key in 0..KEYS {
        fleet.agreed(&format!("d{key}")).await;
    }
    let newest = fleet.grow().await;
    let app = &fleet.replicas[newest].app;
    until("it is ready", async || app.is_ready()).await;
    server.kill();
    let mut client = fleet.client(newest).await;
    for key in 0..KEYS {
        ask(&mut client, &format!("d{key}")).await.unwrap();
    }
    assert_eq!(fleet.site.upstream.calls(), u64::try_from(KEYS).unwrap());
    fleet.stop().await;
}
