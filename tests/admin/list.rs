//! `ListDestinations`.

use token_broker::{
    api::admin::v1::{DestinationState, RotationState},
    upstream::standin::Behaviour,
};

use crate::{
    desk::{ADMIN, Desk, until},
    trial::{CART, Setup, ask, client_id, client_secret},
};

/// A destination with two applications, which use the credentials of `d0` and `d1`.
pub(crate) const TWO: &str = r#"
[[destination]]
id = "two"
upstream = "occtoo"
[[destination.application]]
name = "shop"
credential = "file:d0"
[[destination.application]]
name = "depot"
credential = "file:d1"
[[destination.grant]]
callers = ["spiffe://corp.example/ns/shop/sa/cart", "spiffe://corp.example/ns/shop/**"]
application = "shop"
[[destination.grant]]
callers = ["spiffe://corp.example/ns/depot/*"]
application = "depot"
"#;

/// A broker with `two`, and `d0` and `d1`.
pub(crate) async fn two() -> Desk {
    let setup = Setup {
        destinations: 2,
        ..Setup::default()
    };
    let desk = Desk::start(setup, ADMIN, TWO).await;
    for name in ["d0", "d1"] {
        let upstream = &desk.site.upstream;
        upstream.register("two", &client_id(name), &client_secret(name));
    }
    desk
}

#[tokio::test(flavor = "multi_thread")]
async fn every_destination_and_application_is_listed_in_file_order() {
    let desk = two().await;
    let list = desk.ops().await.list().await;
    let shown: Vec<_> = list
        .destinations
        .iter()
        .map(|entry| {
            let texts = [
                &entry.id,
                &entry.name,
                &entry.application,
                &entry.credential,
            ];
            (texts.map(String::as_str), entry.state())
        })
        .collect();
    assert_eq!(
        shown,
        [
            (["public", "", "", ""], DestinationState::Unprotected),
            (
                ["d0", "name-of-d0", "shop", "file:d0"],
                DestinationState::Cold
            ),
            (
                ["d1", "name-of-d1", "shop", "file:d1"],
                DestinationState::Cold
            ),
            (["two", "", "shop", "file:d0"], DestinationState::Cold),
            (["two", "", "depot", "file:d1"], DestinationState::Cold),
        ]
    );
    assert!(list.warnings.is_empty());
    assert!(list.replicas.is_empty(), "nothing is shared");
    assert_eq!(desk.site.upstream.calls(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_destination_is_shown_as_a_caller_would_meet_it() {
    let desk = Desk::with(1).await;
    let ops = desk.ops().await;
    let cold = ops.destination("d0").await;
    assert_eq!(cold.state(), DestinationState::Cold);
    assert_eq!(
        (cold.expires_at, cold.last_used_at, cold.last_success_at),
        (None, None, None)
    );
    assert!(cold.callers.is_empty());
    assert_eq!(cold.rotation(), RotationState::None);
    assert!(!cold.credential_generation.is_empty());

    let mut cart = desk.cart().await;
    let token = ask(&mut cart, "name-of-d0").await.unwrap();
    let fresh = ops.destination("d0").await;
    assert_eq!(fresh.state(), DestinationState::Fresh);
    assert_eq!(
        fresh.expires_at.unwrap().seconds,
        token.expires_at.unwrap().seconds
    );
    let runway = fresh.runway.unwrap().seconds;
    assert!((3500..=3540).contains(&runway), "{runway}");
    // Half of its life later, give or take a twentieth of that.
    let expires = fresh.expires_at.unwrap().seconds;
    let refresh_in = fresh.next_refresh_at.unwrap().seconds - (expires - 3600);
    assert!((1700..=1900).contains(&refresh_in), "{refresh_in}");
    assert!(fresh.last_used_at.is_some() && fresh.last_success_at.is_some());
    assert_eq!(
        (fresh.last_failure_at, fresh.last_failure_reason),
        (None, String::new())
    );
    assert_eq!(fresh.callers, [CART]);
    assert!(fresh.warnings.is_empty() && fresh.quarantine.is_none());

    desk.site.upstream.behave(Behaviour::status(503));
    ops.refresh("d0", "").await.unwrap();
    let failing = ops.destination("d0").await;
    assert_eq!(failing.state(), DestinationState::RefreshFailing);
    assert_eq!(failing.last_failure_reason, "UPSTREAM_UNAVAILABLE");
    assert!(failing.last_failure_at.is_some());
    assert_eq!(failing.expires_at, fresh.expires_at);
    assert_eq!(ask(&mut cart, "d0").await.unwrap().token_id, token.token_id);
}

#[tokio::test(flavor = "multi_thread")]
async fn use_of_a_public_destination_is_shown_too() {
    let desk = Desk::with(0).await;
    let ops = desk.ops().await;
    assert!(ops.destination("public").await.last_used_at.is_none());
    ask(&mut desk.cart().await, "public").await.unwrap_err();
    assert!(ops.destination("public").await.last_used_at.is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn no_more_than_a_hundred_callers_are_named() {
    let desk = Desk::with(1).await;
    let ops = desk.ops().await;
    for n in 0..105 {
        let caller = format!("spiffe://corp.example/ns/shop/sa/caller-{n}");
        let mut client = token_broker::api::v1::token_broker_client::TokenBrokerClient::new(
            desk.connect(&caller).await,
        );
        ask(&mut client, "d0").await.unwrap();
        if n == 3 {
            let expected: Vec<_> = (0..=3)
                .map(|n| format!("spiffe://corp.example/ns/shop/sa/caller-{n}"))
                .collect();
            assert_eq!(ops.destination("d0").await.callers, expected);
        }
    }
    assert_eq!(ops.destination("d0").await.callers.len(), 100);
}

#[tokio::test(flavor = "multi_thread")]
async fn failing_and_pending_have_states_of_their_own() {
    let desk = Desk::with(2).await;
    let ops = desk.ops().await;
    let upstream = &desk.site.upstream;
    upstream.behave_for("d0", Some(Behaviour::status(401)));
    upstream.behave_for(
        "d1",
        Some(Behaviour::delay(std::time::Duration::from_secs(4))),
    );
    ask(&mut desk.cart().await, "d0").await.unwrap_err();
    let failing = ops.destination("d0").await;
    assert_eq!(failing.state(), DestinationState::Failing);
    assert_eq!(failing.last_failure_reason, "CREDENTIAL_REJECTED");
    let mut cart = desk.cart().await;
    let waiting = tokio::spawn(async move { ask(&mut cart, "d1").await });
    until("the first token is being minted", async || {
        ops.destination("d1").await.state() == DestinationState::Pending
    })
    .await;
    waiting.abort();
}
