//! `UnusedGrants`.

use std::{fs, time::SystemTime};

use serde_json::Value;
use token_broker::{
    api::{
        admin::v1::UnusedGrantsRequest,
        v1::{WatchTokenRequest, token_broker_client::TokenBrokerClient},
    },
    app::App,
};

use crate::{
    desk::{Desk, Ops, until},
    list::two,
    trial::{ask, reason},
};

/// Longer than a test takes, in seconds, and shorter than what [`aged`] adds.
const IDLE: i64 = 3600;
/// What [`aged`] adds, in seconds.
const AGE: u64 = 2 * 3600;
const SHOP: &str = "spiffe://corp.example/ns/shop/sa/*";

/// The same broker, with a state file from two hours ago.
async fn aged(desk: Desk) -> Desk {
    let Desk { app, site } = desk;
    app.stop().await;
    let path = site.folder.path().join("state.json");
    let mut state: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    for list in ["grants", "credentials"] {
        for entry in state[list].as_array_mut().unwrap() {
            for stamp in ["known_since", "last_used"] {
                if let Some(seconds) = entry[stamp].as_u64() {
                    entry[stamp] = (seconds - AGE).into();
                }
            }
        }
    }
    fs::write(&path, state.to_string()).unwrap();
    let app = App::start(&site.config()).await.unwrap();
    Desk { app, site }
}

/// When a grant was used last.
async fn last_used(ops: &Ops, callers: &str) -> Option<SystemTime> {
    let request = UnusedGrantsRequest { idle_for: None };
    let answer = ops.0.clone().unused_grants(request).await.unwrap();
    let mut grants = answer.into_inner().grants.into_iter();
    let grant = grants.find(|grant| grant.caller_pattern == callers);
    let used = grant.unwrap().last_used_at?;
    Some(used.try_into().unwrap())
}

fn names(unused: &[(String, bool)]) -> Vec<(&str, bool)> {
    unused
        .iter()
        .map(|(name, used)| (name.as_str(), *used))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn exactly_the_unused_are_found_also_after_a_restart() {
    let desk = two().await;
    let ops = desk.ops().await;
    assert!(
        ops.unused(3600).await.is_empty(),
        "nothing is known for so long"
    );
    let all = [
        format!("d0 shop {SHOP}"),
        "d0 shop cart.corp.example".to_owned(),
        format!("d1 shop {SHOP}"),
        "d1 shop cart.corp.example".to_owned(),
        "public  spiffe://corp.example/ns/shop/sa/cart".to_owned(),
        "two depot spiffe://corp.example/ns/depot/*".to_owned(),
        "two shop spiffe://corp.example/ns/shop/**".to_owned(),
        "two shop spiffe://corp.example/ns/shop/sa/cart".to_owned(),
        "file:d0".to_owned(),
        "file:d1".to_owned(),
    ];
    let listed = ops.unused(0).await;
    let mut found: Vec<_> = listed.iter().map(|(name, _)| name.clone()).collect();
    found.sort();
    let mut expected = all.to_vec();
    expected.sort();
    assert_eq!(found, expected);
    assert!(listed.iter().all(|(_, used)| !used));

    // Known for a while before they are used, so that the used ones stand out.
    let desk = aged(desk).await;
    assert_eq!(desk.ops().await.unused(IDLE).await.len(), 10);
    ask(&mut desk.cart().await, "two").await.unwrap();
    ask(&mut desk.cart().await, "public").await.unwrap_err();
    let expected = [
        ("d0 shop cart.corp.example", false),
        ("d0 shop spiffe://corp.example/ns/shop/sa/*", false),
        ("d1 shop cart.corp.example", false),
        ("d1 shop spiffe://corp.example/ns/shop/sa/*", false),
        ("two depot spiffe://corp.example/ns/depot/*", false),
        ("two shop spiffe://corp.example/ns/shop/**", false),
        // The credential of d0 was used with the grant of `two`.
        ("file:d1", false),
    ];
    assert_eq!(names(&desk.ops().await.unused(IDLE).await), expected);
    let desk = desk.restart().await;
    assert_eq!(names(&desk.ops().await.unused(IDLE).await), expected);

    // A new grant is known since the reload, not since the start.
    desk.reconfigure("ns/depot/*\"", "ns/depot/*\", \"new.corp.example\"");
    let ops = desk.ops().await;
    ops.reload().await.unwrap();
    assert_eq!(names(&ops.unused(IDLE).await), expected);
    let new = ("two depot new.corp.example".to_owned(), false);
    assert!(ops.unused(0).await.contains(&new));
    let depot = desk.connect("spiffe://corp.example/ns/depot/x").await;
    ask(&mut TokenBrokerClient::new(depot), "two")
        .await
        .unwrap();
    let rest: Vec<_> = expected
        .into_iter()
        .filter(|(name, _)| !name.contains("depot") && *name != "file:d1")
        .collect();
    assert_eq!(names(&ops.unused(IDLE).await), rest);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_used_once_becomes_unused_again() {
    let desk = Desk::with(1).await;
    ask(&mut desk.cart().await, "d0").await.unwrap();
    let used = [format!("d0 shop {SHOP}"), "file:d0".to_owned()].map(|name| (name, true));
    let unused = desk.ops().await.unused(IDLE).await;
    assert!(unused.is_empty(), "{unused:?}");
    let desk = aged(desk).await;
    let ops = desk.ops().await;
    let unused = ops.unused(IDLE).await;
    assert!(used.iter().all(|one| unused.contains(one)), "{unused:?}");
    assert!(ops.unused(3 * IDLE).await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watcher_uses_its_grant_with_every_token() {
    let desk = Desk::with(1).await;
    let (ops, mut cart) = (desk.ops().await, desk.cart().await);
    let request = WatchTokenRequest {
        destination_id: "d0".to_owned(),
    };
    let mut watching = cart.watch_token(request).await.unwrap().into_inner();
    watching.message().await.unwrap().unwrap();
    let grant = (format!("d0 shop {SHOP}"), true);
    // Uses are known by the second.
    until("it is idle", async || ops.unused(2).await.contains(&grant)).await;
    let before = last_used(&ops, SHOP).await;
    ops.refresh("d0", "").await.unwrap();
    watching.message().await.unwrap().unwrap();
    assert!(before < last_used(&ops, SHOP).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_time_that_is_none_is_refused() {
    let desk = Desk::with(1).await;
    let mut ops = desk.ops().await.0;
    for (seconds, nanos) in [(-1, 0), (0, -1), (0, 1_000_000_000), (i64::MIN, i32::MIN)] {
        let idle_for = Some(prost_types::Duration { seconds, nanos });
        let refused = ops.unused_grants(UnusedGrantsRequest { idle_for }).await;
        assert_eq!(reason(&refused.unwrap_err()), "INVALID_IDLE_FOR");
    }
    let idle_for = Some(prost_types::Duration {
        seconds: i64::MAX,
        nanos: 0,
    });
    let none = ops.unused_grants(UnusedGrantsRequest { idle_for }).await;
    assert!(none.unwrap().into_inner().grants.is_empty());
}
