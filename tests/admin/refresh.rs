//! `Refresh`.

use std::time::Duration;

use token_broker::{
    api::admin::v1::{RefreshRequest, Refreshed},
    upstream::standin::Behaviour,
};
use tonic::{Code, Request};

use crate::{
    desk::Desk,
    list::two,
    trial::{ask, reason},
};

fn outcomes(refreshed: &[Refreshed]) -> Vec<(&str, &str)> {
    let outcomes = refreshed.iter().map(|one| {
        // There is a token or a reason, and never both.
        assert_eq!(one.token_id.is_empty(), !one.reason.is_empty());
        assert_eq!(one.expires_at.is_some(), one.reason.is_empty());
        (one.application.as_str(), one.reason.as_str())
    });
    outcomes.collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_successor_is_minted_for_each_application_or_for_one() {
    let desk = two().await;
    let (ops, mut cart) = (desk.ops().await, desk.cart().await);
    let before = ask(&mut cart, "two").await.unwrap();
    assert_eq!(desk.site.upstream.calls(), 1);
    let all = ops.refresh("two", "").await.unwrap().refreshed;
    assert_eq!(outcomes(&all), [("shop", ""), ("depot", "")]);
    assert_eq!(desk.site.upstream.calls(), 3);
    let after = ask(&mut cart, "two").await.unwrap();
    assert_ne!(after.token_id, before.token_id);
    assert_eq!(after.token_id, all[0].token_id);
    assert_eq!(after.expires_at, all[0].expires_at);
    let one = ops.refresh("two", "depot").await.unwrap().refreshed;
    assert_eq!(outcomes(&one), [("depot", "")]);
    assert_eq!(desk.site.upstream.calls(), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_back_off_is_not_waited_for_and_the_reason_is_told() {
    let desk = Desk::with(1).await;
    let ops = desk.ops().await;
    desk.site.upstream.behave(Behaviour::status(401));
    ask(&mut desk.cart().await, "d0").await.unwrap_err();
    for _ in 0..3 {
        let failed = ops.refresh("d0", "").await.unwrap().refreshed;
        assert_eq!(outcomes(&failed), [("shop", "CREDENTIAL_REJECTED")]);
    }
    assert_eq!(desk.site.upstream.calls(), 4, "one for each, at once");
    desk.site.upstream.behave(Behaviour::default());
    let minted = ops.refresh("name-of-d0", "shop").await.unwrap().refreshed;
    assert_eq!(outcomes(&minted), [("shop", "")]);
    ops.quarantine("d0", "").await.unwrap();
    let stopped = ops.refresh("d0", "").await.unwrap().refreshed;
    assert_eq!(outcomes(&stopped), [("shop", "DESTINATION_QUARANTINED")]);
    assert_eq!(desk.site.upstream.calls(), 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_refreshed_has_its_reason() {
    let desk = Desk::with(1).await;
    let ops = desk.ops().await;
    for (destination, application, code, why) in [
        ("unknown", "", Code::NotFound, "NO_SUCH_DESTINATION"),
        ("d0", "depot", Code::NotFound, "NO_SUCH_APPLICATION"),
        ("d0", "no/name", Code::NotFound, "NO_SUCH_APPLICATION"),
        ("", "", Code::InvalidArgument, "INVALID_DESTINATION_ID"),
        (
            "public",
            "",
            Code::FailedPrecondition,
            "DESTINATION_UNPROTECTED",
        ),
    ] {
        let refreshed = ops.refresh(destination, application).await.unwrap_err();
        assert_eq!((refreshed.code(), reason(&refreshed).as_str()), (code, why));
        let stopped = ops.quarantine(destination, application).await.unwrap_err();
        assert_eq!((stopped.code(), reason(&stopped).as_str()), (code, why));
        let released = ops.release(destination, application).await.unwrap_err();
        assert_eq!((released.code(), reason(&released).as_str()), (code, why));
    }
    assert_eq!(desk.site.upstream.calls(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flight_outlives_the_deadline_of_whoever_asked_for_it() {
    let setup = crate::trial::Setup {
        destinations: 1,
        server: r#"request_timeout = "200ms""#,
        ..Default::default()
    };
    let desk = Desk::start(setup, crate::desk::ADMIN, "").await;
    let mut ops = desk.ops().await.0;
    desk.site
        .upstream
        .behave(Behaviour::delay(Duration::from_secs(1)));
    let request = Request::new(RefreshRequest {
        destination_id: "d0".to_owned(),
        application: String::new(),
    });
    let late = ops.refresh(request).await.unwrap().into_inner().refreshed;
    assert_eq!(outcomes(&late), [("shop", "DEADLINE_EXCEEDED")]);
    crate::desk::until("the token arrives all the same", async || {
        desk.ops()
            .await
            .destination("d0")
            .await
            .last_success_at
            .is_some()
    })
    .await;
    assert_eq!(desk.site.upstream.calls(), 1);
}
