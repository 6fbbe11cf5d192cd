//! Stopping while callers are being served, and while some do not care.

use std::time::Duration;

use token_broker::upstream::standin::{Behaviour, Fault, Standin};
use tokio::{
    net::TcpStream,
    time::{Instant, sleep, timeout},
};
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};

use crate::{
    disguise::Disguise,
    line::{Line, ask},
    trial::{CART, GIVE_UP, Setup, Trial},
};

async fn trial(server: &'static str, upstream: &'static str) -> Trial {
    Trial::start(Setup {
        destinations: 2,
        server,
        upstream,
        ..Setup::default()
    })
    .await
}

async fn called(upstream: &Standin) {
    let called = async {
        while upstream.calls() == 0 {
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(GIVE_UP, called).await.expect("no call");
}

#[tokio::test(flavor = "multi_thread")]
async fn stopping_ends_what_is_under_way_and_begins_nothing() {
    let trial = trial("", "").await;
    let behaviour = Behaviour::delay(Duration::from_secs(4));
    trial.upstream.behave_for("d0", Some(behaviour));
    let mut line = Line::of(&trial, CART).await;
    let mut health =
        HealthClient::with_origin(line.wire.clone(), http::Uri::from_static("https://broker"));
    let request = HealthCheckRequest::default();
    let mut health = health.watch(request).await.unwrap().into_inner();
    let first = health.message().await.unwrap().unwrap();
    assert_eq!(first.status(), ServingStatus::Serving);
    let mut client = line.client.clone();
    let under_way = tokio::spawn(async move { ask(&mut client, "d0").await });
    called(&trial.upstream).await;

    let address = trial.app.address();
    let http = trial.app.http_address().unwrap();
    let (app, site) = trial.into_parts();
    let stopping = tokio::spawn(app.stop());
    let last = health.message().await.unwrap().unwrap();
    assert_eq!(last.status(), ServingStatus::NotServing);
    assert!(health.message().await.unwrap().is_none(), "and lets go");
    let refused = async { while TcpStream::connect(address).await.is_ok() {} };
    timeout(GIVE_UP, refused).await.expect("still listening");
    let probe = async || reqwest::get(format!("http://{http}/readyz")).await;
    assert!(!under_way.is_finished() && !stopping.is_finished());
    assert_eq!(probe().await.unwrap().status(), 503);

    under_way.await.unwrap().unwrap();
    timeout(GIVE_UP, stopping).await.unwrap().unwrap();
    assert!(probe().await.is_err(), "all ports are closed");
    line.ended().await.unwrap();
    assert_eq!(site.upstream.calls(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_end_is_cut_at_the_drain_deadline() {
    /// The drain deadline, and the second that a stop may take longer.
    const WITHIN: Duration = Duration::from_millis(1500);
    let server =
        "drain_timeout = \"500ms\"\nrequest_timeout = \"60s\"\nhandshake_timeout = \"60s\"";
    let mut quickest = Duration::MAX;
    // The machine may be busy with something else, but not every time.
    for _ in 0..3 {
        let trial = trial(server, r#"timeout = "60s""#).await;
        let stuck = Behaviour::fault(Fault::Silent);
        trial.upstream.behave_for("d0", Some(stuck));
        let mut line = Line::of(&trial, CART).await;
        let stuck = tokio::spawn(async move { line.ask("d0").await });
        called(&trial.upstream).await;
        let mut watching = Line::of(&trial, CART).await;
        watching.ask("d1").await.unwrap();
        let _watched = watching.watch("d1").await;
        // And peers that do not care: one before its handshake, one before HTTP/2, and
        // one that ignores its GOAWAY.
        let _silent = TcpStream::connect(trial.app.address()).await.unwrap();
        let disguise = Disguise::of(&trial, CART);
        let _tls = disguise.handshake().await.unwrap();
        let _mute = disguise.connect().await.unwrap();

        let began = Instant::now();
        timeout(GIVE_UP, trial.app.stop()).await.unwrap();
        let took = began.elapsed();
        println!("stopped after {took:?}");
        assert!(took >= Duration::from_millis(500), "the call had its time");
        quickest = quickest.min(took);
        stuck.await.unwrap().unwrap_err();
    }
    assert!(quickest < WITHIN, "{quickest:?}");
}
