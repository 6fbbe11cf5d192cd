use std::{collections::HashSet, time::Duration};

use token_broker::{
    api::v1::{GetTokenRequest, GetTokenResponse},
    upstream::standin::{Behaviour, Fault},
};
use tonic::{Code, Request, Status, codegen::http::uri::PathAndQuery};
use tonic_prost::ProstCodec;
use tonic_types::StatusExt as _;

use crate::trial::{CART, STRANGER, Setup, Trial, ask, client_id, reason};

const HALF_A_SECOND: Duration = Duration::from_millis(500);

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_minted_once_and_served_to_everybody() {
    let trial = Trial::with(1).await;
    let mut client = trial.client(CART).await;
    let first = ask(&mut client, "d0").await.unwrap();
    let by_name = ask(&mut client, "name-of-d0").await.unwrap();
    let mut other = trial
        .client("spiffe://corp.example/ns/shop/sa/search")
        .await;
    let others = ask(&mut other, "d0").await.unwrap();

    assert_eq!(trial.upstream.calls(), 1);
    assert_eq!(first.access_token, by_name.access_token);
    assert_eq!(first.access_token, others.access_token);
    assert_eq!(first.token_id, others.token_id);
    assert_eq!(first.token_type, "Bearer");
    let minted_for = trial.upstream.minted_for(&first.access_token).unwrap();
    assert_eq!(
        (minted_for.destination.as_str(), minted_for.client_id),
        ("d0", client_id("d0"))
    );
    let left = first.expires_in.unwrap().seconds;
    assert!((3590..=3600).contains(&left), "{left} seconds left");
    let expires_at = first.expires_at.unwrap().seconds;
    let now = std::time::SystemTime::UNIX_EPOCH
        .elapsed()
        .unwrap()
        .as_secs();
    let until = expires_at - i64::try_from(now).unwrap();
    assert!((3590..=3600).contains(&until), "expires in {until} seconds");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_cold_calls_make_one_upstream_call() {
    let trial = Trial::with(1).await;
    trial.upstream.behave(Behaviour::delay(HALF_A_SECOND));
    let mut calls = Vec::new();
    // More connections than the streams of one allow at once.
    for _ in 0..20 {
        let client = trial.client(CART).await;
        for _ in 0..50 {
            let mut client = client.clone();
            calls.push(tokio::spawn(async move { ask(&mut client, "d0").await }));
        }
    }
    let mut ids = HashSet::new();
    for call in calls {
        ids.insert(call.await.unwrap().unwrap().token_id);
    }
    assert_eq!((trial.upstream.calls(), ids.len()), (1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn cancelling_the_first_caller_makes_no_second_upstream_call() {
    let trial = Trial::with(1).await;
    trial.upstream.behave(Behaviour::delay(HALF_A_SECOND));
    let mut first = trial.client(CART).await;
    let mut second = trial.client(CART).await;
    let first = tokio::spawn(async move { ask(&mut first, "d0").await });
    while trial.upstream.calls() == 0 {
        tokio::task::yield_now().await;
    }
    // Aborting the task resets the stream; the flight is the slot's and goes on.
    first.abort();
    ask(&mut second, "d0").await.unwrap();
    assert_eq!(trial.upstream.calls(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn unknown_and_forbidden_destinations_give_the_same_bytes() {
    let trial = Trial::with(1).await;
    let mut stranger = trial.client(STRANGER).await;
    let parts = |status: Status| {
        let metadata = status.metadata().clone().into_headers();
        let headers: Vec<_> = metadata
            .iter()
            .filter(|(name, _)| *name != "date")
            .map(|(name, value)| (name.to_string(), value.as_bytes().to_vec()))
            .collect();
        (
            status.code(),
            status.message().to_owned(),
            status.details().to_vec(),
            headers,
        )
    };
    let forbidden = ask(&mut stranger, "d0").await.unwrap_err();
    assert_eq!(reason(&forbidden), "NOT_GRANTED");
    assert_eq!(forbidden.code(), Code::PermissionDenied);
    let forbidden = parts(forbidden);
    for destination in ["nothing", "name-of-d0", "public"] {
        let status = ask(&mut stranger, destination).await.unwrap_err();
        assert_eq!(parts(status), forbidden, "{destination}");
    }
    assert_eq!(trial.upstream.calls(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn unknown_destination_creates_no_slot() {
    let trial = Trial::with(1).await;
    let mut client = trial.client(CART).await;
    for n in 0..100 {
        let status = ask(&mut client, &format!("unknown-{n}")).await.unwrap_err();
        assert_eq!(reason(&status), "NOT_GRANTED");
    }
    assert_eq!(trial.upstream.calls(), 0);
    let (_, metrics) = trial.http("/metrics").await;
    assert!(
        !metrics.contains("unknown-"),
        "no time series for what a caller makes up"
    );
    assert!(!metrics.contains("token_broker_mints_total{"), "no flight");
    let denied =
        r#"token_broker_calls_total{door="grpc",destination="",outcome="NOT_GRANTED"} 100"#;
    assert!(metrics.contains(denied), "{metrics}");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_refusal_has_its_reason() {
    let trial = Trial::with(6).await;
    let misbehave = |destination: &str, fault| {
        trial
            .upstream
            .behave_for(destination, Some(Behaviour::fault(fault)));
    };
    let status = |status, retry_after: Option<&str>| Fault::Status {
        status,
        retry_after: retry_after.map(str::to_owned),
    };
    misbehave("d0", status(401, None));
    misbehave("d1", status(503, None));
    misbehave("d2", Fault::Body("<html>".to_owned()));
    misbehave("d3", status(429, Some("30")));
    let mut client = trial.client(CART).await;
    for (destination, code, expected, retry_in) in [
        ("", Code::InvalidArgument, "INVALID_DESTINATION_ID", None),
        (
            "d0/..",
            Code::InvalidArgument,
            "INVALID_DESTINATION_ID",
            None,
        ),
        (
            "public",
            Code::FailedPrecondition,
            "DESTINATION_UNPROTECTED",
            None,
        ),
        ("d0", Code::FailedPrecondition, "CREDENTIAL_REJECTED", None),
        ("d1", Code::Unavailable, "UPSTREAM_UNAVAILABLE", Some(0..=1)),
        ("d2", Code::Unavailable, "UPSTREAM_MALFORMED", Some(0..=1)),
        ("d3", Code::Unavailable, "UPSTREAM_THROTTLED", Some(29..=33)),
        // The host asked to be left alone: no other key of it is minted either.
        ("d4", Code::Unavailable, "UPSTREAM_THROTTLED", Some(28..=33)),
    ] {
        let refused = ask(&mut client, destination).await.unwrap_err();
        assert_eq!(
            (refused.code(), reason(&refused).as_str()),
            (code, expected)
        );
        let delay = refused
            .get_error_details()
            .retry_info()
            .and_then(|info| info.retry_delay);
        match (delay, retry_in) {
            (None, None) => {}
            (Some(delay), Some(range)) => assert!(range.contains(&delay.as_secs()), "{delay:?}"),
            (found, expected) => panic!("{destination}: {found:?} instead of {expected:?}"),
        }
    }
    assert_eq!(trial.upstream.calls_for("d4"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn validity_is_attained_refused_or_invalid() {
    let trial = Trial::with(1).await;
    let mut client = trial.client(CART).await;
    for (seconds, nanos, expected) in [
        (0, 0, Ok(())),
        (3000, 0, Ok(())),
        (7200, 0, Err("VALIDITY_UNATTAINABLE")),
        (i64::MAX, 0, Err("VALIDITY_UNATTAINABLE")),
        (-1, 0, Err("INVALID_MIN_VALIDITY")),
        (0, -1, Err("INVALID_MIN_VALIDITY")),
        (i64::MIN, i32::MIN, Err("INVALID_MIN_VALIDITY")),
        (0, 1_000_000_000, Err("INVALID_MIN_VALIDITY")),
        (i64::MAX, i32::MAX, Err("INVALID_MIN_VALIDITY")),
    ] {
        let request = GetTokenRequest {
            destination_id: "d0".to_owned(),
            min_validity: Some(prost_types::Duration { seconds, nanos }),
        };
        let reply = client.get_token(request).await;
        let outcome = reply.map(|_| ()).map_err(|status| reason(&status));
        assert_eq!(
            outcome,
            expected.map_err(str::to_owned),
            "{seconds} s {nanos} ns"
        );
    }
    assert_eq!(trial.upstream.calls(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_servers_longest_deadline_ends_a_call_and_not_the_flight() {
    let trial = Trial::start(Setup {
        destinations: 1,
        server: r#"request_timeout = "100ms""#,
        ..Setup::default()
    })
    .await;
    trial.upstream.behave(Behaviour::delay(HALF_A_SECOND));
    let mut client = trial.client(CART).await;
    let mut late = 0;
    let token = loop {
        match ask(&mut client, "d0").await {
            Ok(token) => break token,
            Err(status) => {
                assert_eq!(status.code(), Code::DeadlineExceeded, "never CANCELLED");
                assert_eq!(reason(&status), "DEADLINE_EXCEEDED");
                late += 1;
            }
        }
    };
    assert!(late >= 1 && trial.upstream.minted_for(&token.access_token).is_some());
    assert_eq!(trial.upstream.calls(), 1, "one flight outlived every call");
}

/// A request whose destination id is no UTF-8.
#[derive(Clone, PartialEq, Eq, prost::Message)]
struct Malformed {
    #[prost(bytes = "vec", tag = "1")]
    destination_id: Vec<u8>,
}

#[tokio::test(flavor = "multi_thread")]
async fn a_malformed_message_is_an_internal_error_as_in_every_grpc_server() {
    let trial = Trial::with(1).await;
    let signed = trial.authority.client(CART).unwrap();
    let mut grpc = tonic::client::Grpc::new(trial.connect(&signed).await.unwrap());
    let mut call = async |bytes: Vec<u8>| {
        grpc.ready().await.unwrap();
        let path = PathAndQuery::from_static("/tokenbroker.v1.TokenBroker/GetToken");
        let request = Request::new(Malformed {
            destination_id: bytes,
        });
        let codec = ProstCodec::<Malformed, GetTokenResponse>::default();
        grpc.unary(request, path, codec).await.unwrap_err()
    };
    assert_eq!(call(vec![0xff, 0xfe]).await.code(), Code::Internal);
    // Four kilobytes are enough for every request of this API.
    assert_eq!(call(vec![b'a'; 5000]).await.code(), Code::OutOfRange);
    assert_eq!(trial.upstream.calls(), 0);
}
