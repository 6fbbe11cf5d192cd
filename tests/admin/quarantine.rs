//! `Quarantine` and `Release`.

use std::time::Duration;

use token_broker::{
    api::{
        admin::v1::{DestinationState, Replicas},
        v1::{
            WatchTokenRequest, WatchTokenResponse, token_broker_client::TokenBrokerClient,
            watch_token_response::Event,
        },
    },
    upstream::standin::Behaviour,
};
use tonic::{Code, Streaming, transport::Channel};

use crate::{
    desk::{Desk, OPS, until},
    list::two,
    trial::{Setup, ask, client_id, reason},
};

async fn watch(client: &mut TokenBrokerClient<Channel>) -> Streaming<WatchTokenResponse> {
    let request = WatchTokenRequest {
        destination_id: "d0".to_owned(),
    };
    client.watch_token(request).await.unwrap().into_inner()
}

/// The id of the token, or the reason that there is none.
async fn next(stream: &mut Streaming<WatchTokenResponse>) -> Result<String, String> {
    match stream.message().await.unwrap().unwrap().event.unwrap() {
        Event::Token(token) => Ok(token.token_id),
        Event::Unavailable(unavailable) => Err(unavailable.reason),
    }
}

async fn refused(client: &mut TokenBrokerClient<Channel>, destination: &str) -> String {
    let status = ask(client, destination).await.unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition);
    reason(&status)
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_waits_watches_or_asks_is_refused_at_once_until_the_release() {
    let desk = Desk::with(2).await;
    let (ops, mut cart) = (desk.ops().await, desk.cart().await);
    let mut watching = watch(&mut cart).await;
    let first = next(&mut watching).await.unwrap();
    // A second flight, which hangs for longer than this test may take.
    let slow = Behaviour::delay(Duration::from_secs(20));
    desk.site.upstream.behave_for("d0", Some(slow));
    let waiting = {
        let ops = ops.clone();
        tokio::spawn(async move { ops.refresh("d0", "").await })
    };
    until("the flight is under way", async || {
        desk.site.upstream.calls() == 2
    })
    .await;

    let stopped = ops.quarantine("name-of-d0", "").await.unwrap();
    assert_eq!(
        (stopped.applications.as_slice(), stopped.kept),
        (&["shop".to_owned()][..], true)
    );
    assert_eq!(stopped.replicas(), Replicas::None, "nothing is shared");
    let waited = waiting.await.unwrap().unwrap().refreshed;
    assert_eq!(waited[0].reason, "DESTINATION_QUARANTINED");
    assert_eq!(
        next(&mut watching).await.unwrap_err(),
        "DESTINATION_QUARANTINED"
    );
    assert_eq!(refused(&mut cart, "d0").await, "DESTINATION_QUARANTINED");
    assert_eq!(
        refused(&mut desk.cart().await, "name-of-d0").await,
        "DESTINATION_QUARANTINED"
    );
    let again = watch(&mut cart).await;
    assert_eq!(
        next(&mut { again }).await.unwrap_err(),
        "DESTINATION_QUARANTINED"
    );
    ask(&mut cart, "d1").await.unwrap();
    assert_eq!(desk.site.upstream.calls_for("d0"), 2);

    let shown = ops.destination("d0").await;
    assert_eq!(shown.state(), DestinationState::Quarantined);
    assert_eq!((shown.expires_at, shown.next_refresh_at), (None, None));
    let note = shown.quarantine.unwrap();
    assert_eq!(
        (note.administrator.as_str(), note.comment.as_str()),
        (OPS, "it leaks")
    );
    let since = note.since.unwrap();
    // A second stop changes nothing.
    ops.quarantine("d0", "").await.unwrap();
    let note = ops.destination("d0").await.quarantine.unwrap();
    assert_eq!(note.since.unwrap(), since);

    desk.site.upstream.behave_for("d0", None);
    let released = ops.release("d0", "").await.unwrap();
    assert_eq!(
        (released.applications.as_slice(), released.kept),
        (&["shop".to_owned()][..], true)
    );
    assert_eq!(released.replicas(), Replicas::None);
    let token = next(&mut watching).await.unwrap();
    assert_ne!(token, first, "the old one was forgotten");
    assert_eq!(ask(&mut cart, "d0").await.unwrap().token_id, token);
    assert_eq!(desk.site.upstream.calls_for("d0"), 3);
    assert!(ops.destination("d0").await.quarantine.is_none());
    let nothing = ops.release("d0", "").await.unwrap();
    assert!(nothing.applications.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_that_waits_for_its_first_token_is_refused_too() {
    let desk = Desk::with(1).await;
    let (ops, mut cart) = (desk.ops().await, desk.cart().await);
    desk.site
        .upstream
        .behave(Behaviour::delay(Duration::from_secs(20)));
    let waiting = tokio::spawn(async move { refused(&mut cart, "d0").await });
    until("the flight is under way", async || {
        desk.site.upstream.calls() == 1
    })
    .await;
    ops.quarantine("d0", "").await.unwrap();
    assert_eq!(waiting.await.unwrap(), "DESTINATION_QUARANTINED");
    assert_eq!(desk.site.upstream.calls(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_application_is_stopped_and_the_other_goes_on() {
    let desk = two().await;
    let ops = desk.ops().await;
    let mut cart = desk.cart().await;
    let depot = desk.connect("spiffe://corp.example/ns/depot/x").await;
    let mut depot = TokenBrokerClient::new(depot);
    let stopped = ops.quarantine("two", "depot").await.unwrap();
    assert_eq!(stopped.applications, ["depot"]);
    assert_eq!(refused(&mut depot, "two").await, "DESTINATION_QUARANTINED");
    ask(&mut cart, "two").await.unwrap();
    let stopped = ops.quarantine("two", "").await.unwrap();
    assert_eq!(stopped.applications, ["shop", "depot"]);
    assert_eq!(refused(&mut cart, "two").await, "DESTINATION_QUARANTINED");
    let unclear = ops.release("two", "shop").await.unwrap_err();
    assert_eq!(reason(&unclear), "STOPPED_AS_ONE");
    assert_eq!(refused(&mut cart, "two").await, "DESTINATION_QUARANTINED");
    let released = ops.release("two", "").await.unwrap();
    assert_eq!(released.applications, ["shop", "depot"]);
    ask(&mut cart, "two").await.unwrap();
    ask(&mut depot, "two").await.unwrap();

    for name in ["shop", "depot"] {
        ops.quarantine("two", name).await.unwrap();
    }
    let released = ops.release("two", "shop").await.unwrap();
    assert_eq!(
        (released.applications.as_slice(), released.all),
        (&["shop".to_owned()][..], false)
    );
    ask(&mut cart, "two").await.unwrap();
    assert_eq!(refused(&mut depot, "two").await, "DESTINATION_QUARANTINED");
    let released = ops.release("two", "").await.unwrap();
    assert_eq!(released.applications, ["depot"]);
    ask(&mut depot, "two").await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_stops_a_destination_stops_applications_that_a_reload_brings() {
    let desk = two().await;
    let ops = desk.ops().await;
    ops.quarantine("two", "").await.unwrap();
    let original = desk.text("broker.toml");
    desk.write(
        "broker.toml",
        &original
            .replace("id = \"two\"", "id = \"two\"\nwarm = true")
            .replace("name = \"depot\"", "name = \"store\"")
            .replace(
                "application = \"depot\"",
                "application = \"store\"\n\
                [[destination.application]]\nname = \"new\"\ncredential = \"file:d1\"\n\
                [[destination.grant]]\ncallers = [\"spiffe://corp.example/ns/new/x\"]\napplication = \"new\"",
            ),
    );
    ops.reload().await.unwrap();
    let callers = [
        "spiffe://corp.example/ns/shop/sa/cart",
        "spiffe://corp.example/ns/depot/x",
        "spiffe://corp.example/ns/new/x",
    ];
    let all_are_refused = async |desk: &Desk| {
        for caller in callers {
            let mut client = TokenBrokerClient::new(desk.connect(caller).await);
            assert_eq!(refused(&mut client, "two").await, "DESTINATION_QUARANTINED");
        }
        let list = desk.ops().await.list().await.destinations;
        let two: Vec<_> = list.iter().filter(|entry| entry.id == "two").collect();
        assert_eq!(two.len(), 3);
        for entry in two {
            assert_eq!(entry.state(), DestinationState::Quarantined);
            assert_eq!(entry.quarantine.as_ref().unwrap().comment, "it leaks");
        }
        assert_eq!(desk.site.upstream.calls(), 0, "nothing is minted");
    };
    all_are_refused(&desk).await;
    let desk = desk.restart().await;
    all_are_refused(&desk).await;

    // A release needs no destination in the configuration.
    let ops = desk.ops().await;
    let changed = desk.text("broker.toml");
    let (without, rest) = changed.split_once("[[destination]]\nid = \"two\"").unwrap();
    let (_, admin) = rest.split_once("[admin]").unwrap();
    desk.write("broker.toml", &format!("{without}[admin]{admin}"));
    ops.reload().await.unwrap();
    let released = ops.release("two", "").await.unwrap();
    assert!(released.applications.is_empty() && released.all && released.kept);
    let unknown = ops.release("two", "").await.unwrap_err();
    assert_eq!(reason(&unknown), "NO_SUCH_DESTINATION");
    desk.write("broker.toml", &changed);
    ops.reload().await.unwrap();
    let desk = desk.restart().await;
    for caller in callers {
        let mut client = TokenBrokerClient::new(desk.connect(caller).await);
        ask(&mut client, "two").await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn it_outlives_reloads_renewed_credentials_and_restarts() {
    let setup = Setup {
        destinations: 1,
        destination: "warm = true",
        ..Setup::default()
    };
    let desk = Desk::start(setup, crate::desk::ADMIN, "").await;
    let (ops, mut cart) = (desk.ops().await, desk.cart().await);
    ask(&mut cart, "d0").await.unwrap();
    ops.quarantine("d0", "").await.unwrap();
    desk.reconfigure("name = \"name-of-d0\"", "name = \"another-name\"");
    let changes = ops.reload().await.unwrap();
    assert_eq!(changes, ["destination \"d0\" has changed"]);
    assert_eq!(
        refused(&mut cart, "another-name").await,
        "DESTINATION_QUARANTINED"
    );

    let upstream = &desk.site.upstream;
    upstream.register("d0", &client_id("d0"), "another-secret");
    desk.write("credentials/d0/client_secret", "another-secret");
    let changes = ops.reload().await.unwrap();
    assert_eq!(
        changes,
        ["destination \"d0\": the credential of \"shop\" has changed"]
    );
    assert_eq!(refused(&mut cart, "d0").await, "DESTINATION_QUARANTINED");

    // Taken out of the configuration, and put back.
    let config = desk.text("broker.toml");
    let (without, _) = config.split_once("[[destination]]\nid = \"d0\"").unwrap();
    let (_, admin) = config.split_once("[admin]").unwrap();
    desk.write("broker.toml", &format!("{without}[admin]{admin}"));
    let changes = ops.reload().await.unwrap();
    assert_eq!(changes, ["destination \"d0\" is gone"]);
    desk.write("broker.toml", &config);
    let changes = ops.reload().await.unwrap();
    assert_eq!(changes, ["destination \"d0\" is new"]);
    assert_eq!(refused(&mut cart, "d0").await, "DESTINATION_QUARANTINED");

    let desk = desk.restart().await;
    let (ops, mut cart) = (desk.ops().await, desk.cart().await);
    assert_eq!(
        ops.destination("d0").await.state(),
        DestinationState::Quarantined
    );
    let note = ops.destination("d0").await.quarantine.unwrap();
    assert_eq!(
        (note.administrator.as_str(), note.comment.as_str()),
        (OPS, "it leaks")
    );
    assert_eq!(refused(&mut cart, "d0").await, "DESTINATION_QUARANTINED");
    assert_eq!(
        desk.site.upstream.calls(),
        1,
        "not even a warm one is minted"
    );

    ops.release("d0", "").await.unwrap();
    ask(&mut cart, "d0").await.unwrap();
    let desk = desk.restart().await;
    ask(&mut desk.cart().await, "d0").await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_state_file_it_works_and_says_that_a_restart_ends_it() {
    let setup = Setup {
        destinations: 1,
        ..Setup::default()
    };
    let admin = "allow = [\"spiffe://corp.example/ns/ops/**\"]";
    let desk = Desk::start(setup, admin, "").await;
    let ops = desk.ops().await;
    assert!(!ops.quarantine("d0", "").await.unwrap().kept);
    let released = ops.release("d0", "").await.unwrap();
    assert!(released.kept, "a restart stops nothing");
    ops.quarantine("d0", "").await.unwrap();
    let mut cart = desk.cart().await;
    assert_eq!(refused(&mut cart, "d0").await, "DESTINATION_QUARANTINED");
    let desk = desk.restart().await;
    ask(&mut desk.cart().await, "d0").await.unwrap();
}
