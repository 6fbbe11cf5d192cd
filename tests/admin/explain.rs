//! `Explain`.

use token_broker::{api::admin::v1::DestinationState, upstream::standin::Behaviour};
use tonic::Code;

use crate::{
    desk::{ADMIN, Desk},
    list::two,
    trial::{CART, STRANGER, Setup, ask, reason},
};

async fn explained(desk: &Desk, caller: &str, destination: &str) -> (bool, String, String, String) {
    let answer = desk.ops().await.explain(caller, destination).await.unwrap();
    (
        answer.granted,
        answer.rule,
        answer.application,
        answer.cache_decision,
    )
}

fn expected(granted: bool, texts: [&str; 3]) -> (bool, String, String, String) {
    let [rule, application, decision] = texts.map(str::to_owned);
    (granted, rule, application, decision)
}

#[tokio::test(flavor = "multi_thread")]
#[expect(clippy::too_many_lines, reason = "a table")]
async fn the_deciding_rule_is_told_as_it_stands_and_nothing_is_minted() {
    let desk = two().await;
    let cold = "mints a token and lets the caller wait for it";
    let denied = "refuses with NOT_GRANTED and does not look at the cache";
    for (caller, destination, answer) in [
        (
            CART,
            "name-of-d0",
            expected(
                true,
                [
                    r#"grant 1 of name-of-d0: callers "spiffe://corp.example/ns/shop/sa/*", application "shop""#,
                    "shop",
                    cold,
                ],
            ),
        ),
        (
            "cart.corp.example",
            "d0",
            expected(
                true,
                [
                    r#"grant 1 of name-of-d0: callers "cart.corp.example", application "shop""#,
                    "shop",
                    cold,
                ],
            ),
        ),
        (
            "spiffe://corp.example/ns/depot/x",
            "two",
            expected(
                true,
                [
                    r#"grant 2 of two: callers "spiffe://corp.example/ns/depot/*", application "depot""#,
                    "depot",
                    cold,
                ],
            ),
        ),
        (
            STRANGER,
            "two",
            expected(
                false,
                ["none of the 3 caller patterns of two matches", "", denied],
            ),
        ),
        (
            STRANGER,
            "public",
            expected(
                false,
                [
                    "the one caller pattern of public does not match",
                    "",
                    denied,
                ],
            ),
        ),
        (
            CART,
            "public",
            expected(
                true,
                [
                    r#"grant 1 of public: callers "spiffe://corp.example/ns/shop/sa/cart""#,
                    "",
                    "answers DESTINATION_UNPROTECTED: the destination is public and needs no token",
                ],
            ),
        ),
    ] {
        assert_eq!(explained(&desk, caller, destination).await, answer);
    }
    let ops = desk.ops().await;
    for (caller, destination, code, why) in [
        (CART, "unknown", Code::NotFound, "NO_SUCH_DESTINATION"),
        (
            CART,
            "no/id",
            Code::InvalidArgument,
            "INVALID_DESTINATION_ID",
        ),
        ("", "d0", Code::InvalidArgument, "INVALID_CALLER"),
        (
            "spiffe://corp.example",
            "d0",
            Code::InvalidArgument,
            "INVALID_CALLER",
        ),
    ] {
        let status = ops.explain(caller, destination).await.unwrap_err();
        assert_eq!((status.code(), reason(&status).as_str()), (code, why));
    }
    assert_eq!(desk.site.upstream.calls(), 0);
    let list = ops.list().await;
    assert!(list.destinations.iter().all(|entry| {
        let state = entry.state();
        state == DestinationState::Cold || state == DestinationState::Unprotected
    }));
    // Explaining is no use of a grant: all of them are unused still.
    assert_eq!(
        ops.unused(0).await.iter().filter(|(_, used)| *used).count(),
        0
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn whom_the_front_door_does_not_know_is_not_granted() {
    let setup = Setup {
        destinations: 1,
        server: r#"trust_domains = ["other.example", "corp.example"]"#,
        ..Setup::default()
    };
    let desk = Desk::start(setup, ADMIN, "").await;
    assert!(explained(&desk, CART, "d0").await.0);
    assert!(explained(&desk, "cart.corp.example", "d0").await.0);
    desk.reconfigure(
        r#"["spiffe://corp.example/ns/shop/sa/*", "#,
        r#"["spiffe://td.example/**", "#,
    );
    desk.ops().await.reload().await.unwrap();
    assert_eq!(
        explained(&desk, "spiffe://td.example/cart", "d0").await,
        expected(
            false,
            [
                "the trust domain is not one of [server] trust_domains",
                "",
                "refuses with CALLER_UNIDENTIFIED and does not look at the cache",
            ]
        )
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_cache_would_do_now_is_told() {
    let desk = Desk::with(3).await;
    let ops = desk.ops().await;
    let mut cart = desk.cart().await;
    let decision = async |destination| explained(&desk, CART, destination).await.3;

    ask(&mut cart, "d0").await.unwrap();
    let fresh = decision("d0").await;
    let start = "hands out the token at hand, which it can do for another 58m ";
    assert!(fresh.starts_with(start), "{fresh}");

    let upstream = &desk.site.upstream;
    upstream.behave_for("d1", Some(Behaviour::status(401)));
    ask(&mut cart, "d1").await.unwrap_err();
    let failing = decision("d1").await;
    let start = "refuses with CREDENTIAL_REJECTED and mints again in ";
    assert!(failing.starts_with(start), "{failing}");

    ops.quarantine("d2", "").await.unwrap();
    assert_eq!(decision("d2").await, "refuses with DESTINATION_QUARANTINED");
    ops.quarantine("d0", "").await.unwrap();
    assert_eq!(decision("d0").await, "refuses with DESTINATION_QUARANTINED");
    assert_eq!(upstream.calls(), 2);
}
