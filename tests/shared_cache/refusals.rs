//! What one replica is told counts for all of them.

use std::{collections::HashMap, time::Duration};

use token_broker::{
    api::admin::v1::{QuarantineRequest, ReleaseRequest},
    upstream::standin::{Behaviour, Fault},
};
use tokio::{task::JoinSet, time::sleep};
use tonic::Status;
use tonic_types::StatusExt as _;

use crate::{
    broker::machine,
    fleet::{Fleet, until},
    server::Server,
    trial::{Setup, ask, reason},
};

const REPLICAS: usize = 10;

async fn ten() -> (Server, Fleet) {
    let server = Server::start().await;
    let setup = Setup {
        destinations: 3,
        ..Setup::default()
    };
    let fleet = Fleet::start(REPLICAS, setup, server.address).await;
    (server, fleet)
}

/// The refusals of all replicas, which are asked at once.
async fn refused(fleet: &Fleet, destination: &str) -> Vec<Status> {
    let mut calls = JoinSet::new();
    for mut client in fleet.clients().await {
        let destination = destination.to_owned();
        calls.spawn(async move { ask(&mut client, &destination).await.unwrap_err() });
    }
    calls.join_all().await
}

fn reasons(refusals: &[Status]) -> HashMap<String, usize> {
    let mut reasons = HashMap::new();
    for refusal in refusals {
        *reasons.entry(reason(refusal)).or_default() += 1;
    }
    reasons
}

fn all(reason: &str) -> HashMap<String, usize> {
    [(reason.to_owned(), REPLICAS)].into()
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs redis-server"]
async fn an_endpoint_that_asks_ten_replicas_for_peace_is_called_once() {
    let _machine = machine().await;
    let (_server, fleet) = ten().await;
    let upstream = &fleet.site.upstream;
    upstream.behave(Behaviour::fault(Fault::Status {
        status: 429,
        retry_after: Some("30".to_owned()),
    }));
    let refusals = refused(&fleet, "d0").await;
    assert_eq!(reasons(&refusals), all("UPSTREAM_THROTTLED"));
    for refusal in &refusals {
        let details = refusal.get_error_details();
        let delay = details.retry_info().and_then(|info| info.retry_delay);
        let delay = delay.unwrap().as_secs();
        // Whoever asked comes back up to a tenth later, and the others a little later than it was
        // asked for.
        assert!((29..=34).contains(&delay), "{delay} s");
    }
    assert_eq!(upstream.calls(), 1);
    // The host asked, so it is left alone by every key.
    upstream.behave(Behaviour::default());
    for destination in ["d0", "d1", "d2"] {
        let refusals = refused(&fleet, destination).await;
        assert_eq!(reasons(&refusals), all("UPSTREAM_THROTTLED"));
        sleep(Duration::from_millis(500)).await;
    }
    assert_eq!(upstream.calls(), 1);
    fleet.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs redis-server"]
async fn credentials_that_are_rejected_are_shown_once_by_ten_replicas() {
    let _machine = machine().await;
    let (_server, mut fleet) = ten().await;
    fleet.site.upstream.behave(Behaviour::status(401));
    for _ in 0..4 {
        let refusals = refused(&fleet, "d0").await;
        assert_eq!(reasons(&refusals), all("CREDENTIAL_REJECTED"));
        sleep(Duration::from_millis(500)).await;
    }
    assert_eq!(fleet.site.upstream.calls(), 1);
    // Nor by one that comes later.
    let newest = fleet.grow().await;
    let refusal = ask(&mut fleet.client(newest).await, "d0").await;
    assert_eq!(reason(&refusal.unwrap_err()), "CREDENTIAL_REJECTED");
    assert_eq!(fleet.site.upstream.calls(), 1);
    fleet.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs redis-server"]
async fn a_quarantine_at_one_replica_stops_all_and_a_release_at_another_frees_all() {
    let _machine = machine().await;
    let (_server, mut fleet) = ten().await;
    let before = fleet.agreed("d0").await;
    let mut operator = fleet.operator(3).await;
    let stop = QuarantineRequest {
        destination_id: "d0".to_owned(),
        comment: "it leaks".to_owned(),
        application: String::new(),
    };
    operator.quarantine(stop).await.unwrap();
    until("all are stopped", async || {
        let mut stopped = 0;
        for mut client in fleet.clients().await {
            let refused = ask(&mut client, "d0").await.err();
            stopped += usize::from(
                refused.is_some_and(|status| reason(&status) == "DESTINATION_QUARANTINED"),
            );
        }
        stopped == REPLICAS
    })
    .await;
    // One that comes later is told, too.
    let newest = fleet.grow().await;
    let refusal = ask(&mut fleet.client(newest).await, "d0").await;
    assert_eq!(reason(&refusal.unwrap_err()), "DESTINATION_QUARANTINED");
    let flights = async || {
        let metrics = fleet.replicas[newest].metrics().await;
        metrics.value("flights_in_progress")
    };
    until("it has nothing under way", async || flights().await == 0).await;
    assert_eq!(fleet.site.upstream.calls(), 1);
    fleet.agreed("d1").await;

    let free = ReleaseRequest {
        destination_id: "d0".to_owned(),
        application: String::new(),
    };
    fleet.operator(7).await.release(free).await.unwrap();
    until("all are free", async || {
        for mut client in fleet.clients().await {
            if ask(&mut client, "d0").await.is_err() {
                return false;
            }
        }
        true
    })
    .await;
    assert_ne!(fleet.agreed("d0").await, before);
    assert_eq!(fleet.site.upstream.calls_for("d0"), 2);
    assert_eq!(fleet.site.upstream.calls_for("d1"), 1);
    fleet.stop().await;
}
