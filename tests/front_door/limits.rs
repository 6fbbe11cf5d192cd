//! How much the port takes, and for how long.

use std::time::Duration;

use futures_util::future::{join_all, select_all};
use token_broker::{
    api::v1::{GetTokenRequest, WatchTokenRequest, watch_token_response::Event},
    upstream::standin::{Behaviour, Fault},
};
use tokio::{
    io::AsyncWriteExt as _,
    net::TcpStream,
    time::{Instant, sleep, timeout},
};
use tonic::{Code, Request, Status};
use tonic_types::StatusExt as _;

use crate::{
    attacker::{DATA, END_HEADERS, END_STREAM, HEADERS, call, frame},
    counters::{closed, connections},
    disguise::Disguise,
    line::{Line, ask, hung_up},
    trial::{CART, GIVE_UP, STRANGER, Setup, Trial, reason},
};

const SEARCH: &str = "spiffe://corp.example/ns/shop/sa/search";
const NO_ERROR: u32 = 0;

async fn trial(server: &'static str) -> Trial {
    Trial::start(Setup {
        destinations: 2,
        server,
        ..Setup::default()
    })
    .await
}

/// When a refused caller should come back.
fn retry_in(status: &Status) -> Duration {
    let details = status.get_error_details();
    let info = details.retry_info().expect("a retry can help");
    info.retry_delay.unwrap()
}

/// The broker does not let this caller in.
async fn kept_out(trial: &Trial, caller: &str) {
    if let Ok(mut line) = Line::open(&Disguise::of(trial, caller)).await {
        let refused = line.ask("d0").await.unwrap_err();
        assert!(refused.details().is_empty(), "{refused:?}");
    }
}

/// Comes back until the broker has noticed that there is room.
async fn let_in(trial: &Trial, caller: &str) -> Line {
    let disguise = Disguise::of(trial, caller);
    let tried = async {
        loop {
            if let Ok(mut line) = Line::open(&disguise).await
                && line.ask("d0").await.is_ok()
            {
                return line;
            }
        }
    };
    timeout(GIVE_UP, tried).await.expect("there is room")
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_above_the_limit_are_closed_and_the_others_served() {
    let trial = trial("max_connections = 2").await;
    let mut first = Line::of(&trial, CART).await;
    let second = Line::of(&trial, SEARCH).await;
    first.ask("d0").await.unwrap();
    kept_out(&trial, STRANGER).await;
    assert_eq!(trial.counted(&connections("over_capacity")).await, 1);
    first.ask("d0").await.unwrap();
    drop(second);
    let mut third = let_in(&trial, SEARCH).await;
    third.ask("d0").await.unwrap();
    assert!(first.is_open());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_callers_connections_above_its_share_are_closed_and_others_let_in() {
    let trial = trial("max_connections_per_caller = 2").await;
    let mut first = Line::of(&trial, CART).await;
    let mut second = Line::of(&trial, CART).await;
    first.ask("d0").await.unwrap();
    second.ask("d0").await.unwrap();
    kept_out(&trial, CART).await;
    assert_eq!(trial.counted(&connections("over_caller_capacity")).await, 1);
    Line::of(&trial, SEARCH).await.ask("d0").await.unwrap();
    first.ask("d0").await.unwrap();
    drop(second);
    let_in(&trial, CART).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_that_calls_too_fast_is_told_when_to_come_back_and_others_are_served() {
    const CALLS: usize = 50;
    let trial = trial("max_calls_per_second = 1").await;
    let mut line = Line::of(&trial, CART).await;
    let started = Instant::now();
    let burst = (0..CALLS).map(|_| {
        let mut client = line.client.clone();
        async move { ask(&mut client, "d0").await }
    });
    let (served, refused): (Vec<_>, Vec<_>) =
        join_all(burst).await.into_iter().partition(Result::is_ok);
    let regained = usize::try_from(started.elapsed().as_secs()).unwrap();
    assert!((1..=2 + regained).contains(&served.len()));
    assert!(
        !refused.is_empty(),
        "{CALLS} calls in {:?}",
        started.elapsed()
    );
    for status in refused.into_iter().filter_map(Result::err) {
        assert_eq!(status.code(), Code::ResourceExhausted);
        assert_eq!(reason(&status), "CALLER_RATE");
        let delay = retry_in(&status);
        let range = Duration::from_millis(100)..=Duration::from_secs(1);
        assert!(range.contains(&delay), "{delay:?}");
    }
    Line::of(&trial, SEARCH).await.ask("d0").await.unwrap();
    let patient = async {
        while let Err(status) = line.ask("d0").await {
            sleep(retry_in(&status)).await;
        }
    };
    timeout(GIVE_UP, patient).await.expect("it was patient");
    assert_eq!(trial.upstream.calls(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_caller_fills_half_of_the_broker_and_the_others_are_served() {
    let trial = trial("max_calls = 4").await;
    trial
        .upstream
        .behave_for("d0", Some(Behaviour::fault(Fault::Silent)));
    let line = Line::of(&trial, CART).await;
    let calls: Vec<_> = (0..3)
        .map(|_| {
            let mut client = line.client.clone();
            Box::pin(async move { ask(&mut client, "d0").await })
        })
        .collect();
    // Two of them wait; whichever comes third is refused at once.
    let (refused, _, waiting) = select_all(calls).await;
    let refused = refused.unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted);
    assert_eq!(reason(&refused), "OVERLOADED");
    assert!(retry_in(&refused) >= Duration::from_millis(100));
    let mut other = Line::of(&trial, SEARCH).await;
    other.ask("d1").await.unwrap();

    // Calls that were given up take no place.
    drop(waiting);
    let mut client = line.client.clone();
    let patient = async {
        while let Err(status) = ask(&mut client, "d1").await {
            assert_eq!(reason(&status), "OVERLOADED");
            sleep(retry_in(&status)).await;
        }
    };
    timeout(GIVE_UP, patient).await.expect("there is room");
    assert!(line.is_open());
}

#[tokio::test(flavor = "multi_thread")]
async fn headers_that_are_too_long_reach_no_handler_and_cost_no_connection() {
    let trial = trial("").await;
    let mut line = Line::of(&trial, CART).await;
    let with_header = |length| {
        let mut request = Request::new(GetTokenRequest {
            destination_id: "d0".to_owned(),
            min_validity: None,
        });
        let value = "a".repeat(length).parse().unwrap();
        request.metadata_mut().insert("x-long", value);
        request
    };
    line.client.get_token(with_header(7_000)).await.unwrap();
    let refused = line.client.get_token(with_header(9_000)).await.unwrap_err();
    assert!(refused.details().is_empty(), "{refused:?}");
    line.ask("d0").await.unwrap();
    assert!(line.is_open());
    let served = r#"token_broker_calls_total{door="grpc",destination="d0",outcome="ok"}"#;
    assert_eq!(trial.counted(served).await, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_does_not_finish_its_handshake_is_hung_up_on() {
    let trial = trial(r#"handshake_timeout = "200ms""#).await;
    let silent = TcpStream::connect(trial.app.address()).await.unwrap();
    let mut begun = TcpStream::connect(trial.app.address()).await.unwrap();
    // The first bytes of a record that is to hold a ClientHello.
    begun.write_all(&[22, 3, 1, 2, 0, 1]).await.unwrap();
    hung_up(silent).await;
    hung_up(begun).await;
    trial
        .until_counted(&connections("handshake_timeout"), 2)
        .await;
    assert_eq!(trial.counted(&connections("ok")).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_asks_nothing_is_sent_away() {
    let trial = trial(r#"first_request_timeout = "200ms""#).await;
    let opened = Instant::now();
    let mut line = Line::of(&trial, CART).await;
    line.ended().await.unwrap();
    assert!(opened.elapsed() >= Duration::from_millis(200));
    trial.until_counted(&closed("no_request"), 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_speaks_no_http2_keeps_its_place_no_longer_than_one_that_asks_nothing() {
    // Were it given any more time than for its first request, this test would be given up.
    let server = "first_request_timeout = \"200ms\"\nhandshake_timeout = \"600s\"";
    let trial = trial(server).await;
    hung_up(Disguise::of(&trial, CART).handshake().await.unwrap()).await;
    trial.until_counted(&closed("no_request"), 1).await;

    let mut slow = Disguise::of(&trial, CART).handshake().await.unwrap();
    slow.write_all(b"PRI * HTTP/2.0\r\n").await.unwrap();
    hung_up(slow).await;
    trial.until_counted(&closed("no_request"), 2).await;
    assert_eq!(trial.counted("token_broker_connections_open").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_ignores_its_goaway_is_cut() {
    let server = "first_request_timeout = \"200ms\"\nhandshake_timeout = \"200ms\"";
    let trial = trial(server).await;
    let mute = Disguise::of(&trial, CART).connect().await.unwrap();
    let parting = timeout(GIVE_UP, mute.attack([])).await.unwrap();
    assert_eq!(parting.goaway, Some((NO_ERROR, String::new())));
    trial.until_counted(&closed("no_request"), 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_without_calls_is_closed_with_a_goaway() {
    let server =
        "first_request_timeout = \"2s\"\nidle_timeout = \"1s\"\nhandshake_timeout = \"1s\"";
    let trial = trial(server).await;
    let mut line = Line::of(&trial, CART).await;
    let mut watching = Line::of(&trial, CART).await;
    let _watched = watching.watch("d0").await;
    line.ask("d0").await.unwrap();
    let asked = Instant::now();
    line.ended().await.unwrap();
    assert!(asked.elapsed() >= Duration::from_secs(1));
    trial.until_counted(&closed("idle"), 1).await;

    let mute = Disguise::of(&trial, CART).connect().await.unwrap();
    let call = [
        frame(HEADERS, END_HEADERS, 1, &call()),
        frame(DATA, END_STREAM, 1, &[0, 0, 0, 0, 4, 10, 2, b'd', b'0']),
    ];
    let parting = timeout(GIVE_UP, mute.attack(call)).await.unwrap();
    assert_eq!(parting.goaway, Some((NO_ERROR, String::new())));
    assert!(watching.is_open(), "a watcher is not idle");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_of_age_ends_its_calls_and_its_watchers_connect_anew() {
    // A call may take longer than stopping: coming of age cuts none either way.
    let server = "max_connection_age = \"3s\"\nrequest_timeout = \"6s\"\ndrain_timeout = \"100ms\"";
    let trial = trial(server).await;
    trial
        .upstream
        .behave_for("d0", Some(Behaviour::delay(Duration::from_secs(4))));
    let opened = Instant::now();
    let mut line = Line::of(&trial, CART).await;
    line.ask("d1").await.unwrap();
    // Begun before the connection comes of age, and answered after.
    line.ask("d0").await.unwrap();
    assert!(opened.elapsed() >= Duration::from_secs(4));
    line.ended().await.unwrap();
    assert!(line.ask("d1").await.is_err(), "no call is begun any more");
    trial.until_counted(&closed("age"), 1).await;

    let mut watching = Line::of(&trial, CART).await;
    let mut watched = watching.watch("d0").await;
    let first = watched.message().await.unwrap();
    let end = timeout(GIVE_UP, watched.message()).await.unwrap();
    assert!(!matches!(end, Ok(Some(_))), "{end:?}");
    let _ = watching.ended().await;
    trial.until_counted(&closed("age"), 2).await;
    let mut again = Line::of(&trial, CART).await.watch("d0").await;
    let next = again.message().await.unwrap();
    let id = |event| match event {
        Some(Event::Token(token)) => token.token_id,
        event => panic!("{event:?}"),
    };
    assert_eq!(id(next.unwrap().event), id(first.unwrap().event));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deadline_that_passes_is_exceeded_and_never_cancelled() {
    /// What a call waits for.
    async fn outcome(line: &mut Line, destination: &str, timeout: Option<&str>) -> String {
        let mut request = Request::new(GetTokenRequest {
            destination_id: destination.to_owned(),
            min_validity: None,
        });
        if let Some(timeout) = timeout {
            let timeout = timeout.parse().unwrap();
            request.metadata_mut().insert("grpc-timeout", timeout);
        }
        match line.client.get_token(request).await {
            Ok(_) => "ok".to_owned(),
            Err(status) => {
                let reason = reason(&status);
                let exceeded = status.code() == Code::DeadlineExceeded;
                assert_eq!(exceeded, reason == "DEADLINE_EXCEEDED");
                reason
            }
        }
    }
    let silent = |trial: &Trial| {
        trial
            .upstream
            .behave_for("d0", Some(Behaviour::fault(Fault::Silent)));
    };
    // The upstream is given up after five seconds, so what ends these is the deadline:
    // the broker's own where the caller's is absent or malformed.
    let short = trial(r#"request_timeout = "200ms""#).await;
    silent(&short);
    let mut line = Line::of(&short, CART).await;
    for timeout in [
        None,
        Some(""),
        Some("S"),
        Some("5"),
        Some("5s"),
        Some("-5S"),
        Some("5 S"),
        Some("123456789m"),
        Some("1e3S"),
        Some("99999999H"),
    ] {
        let outcome = outcome(&mut line, "d0", timeout).await;
        assert_eq!(outcome, "DEADLINE_EXCEEDED", "{timeout:?}");
    }
    // And the caller's where that is the shorter one.
    let long = trial(r#"request_timeout = "60s""#).await;
    silent(&long);
    let mut line = Line::of(&long, CART).await;
    assert_eq!(outcome(&mut line, "d1", None).await, "ok");
    for timeout in ["100m", "1m", "1000u", "9n", "0n", "00000000H"] {
        let late = outcome(&mut line, "d0", Some(timeout)).await;
        assert_eq!(late, "DEADLINE_EXCEEDED", "{timeout}");
    }
    assert_eq!(outcome(&mut line, "d1", Some("0n")).await, "ok", "at hand");

    let mut watch = Request::new(WatchTokenRequest {
        destination_id: "d0".to_owned(),
    });
    let timeout = "100m".parse().unwrap();
    watch.metadata_mut().insert("grpc-timeout", timeout);
    let mut watched = line.client.watch_token(watch).await.unwrap().into_inner();
    let ended = watched.message().await.unwrap_err();
    assert_eq!(reason(&ended), "DEADLINE_EXCEEDED");
    assert_eq!(ended.code(), Code::DeadlineExceeded);
    assert!(line.is_open());
    assert_eq!(short.upstream.calls() + long.upstream.calls(), 3);
}
