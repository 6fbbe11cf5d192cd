//! In which order a broker takes leave.

use rustix::process::Signal;
use tokio::net::TcpStream;

use crate::{
    broker::{Broker, machine, until},
    gate::Gate,
    trial::{Setup, Site, ask, http},
};

#[tokio::test(flavor = "multi_thread")]
async fn it_is_unready_first_then_takes_no_connections_and_calls_under_way_are_answered() {
    let _machine = machine().await;
    let site = Site::new(Setup {
        destinations: 1,
        server: "drain_timeout = \"60s\"",
        upstream: "timeout = \"60s\"",
        ..Setup::default()
    })
    .await;
    let gate = Gate::before(site.upstream.addr()).await;
    site.configure(|config| {
        config.replace(
            &site.upstream.base_url(),
            &format!("http://{}", gate.address),
        )
    });
    let mut broker = Broker::start(&site).await;
    let (ready, _) = http(broker.http, "/readyz").await.unwrap();
    assert_eq!(ready, 200);
    let mut client = broker.client(&site).await;
    let call = tokio::spawn(async move { ask(&mut client, "d0").await });
    until("the call is under way", async || gate.arrivals() == 1).await;

    broker.signal(Signal::TERM);
    until("it takes no connections", async || {
        TcpStream::connect(broker.address).await.is_err()
    })
    .await;
    let answer = http(broker.http, "/readyz").await.unwrap();
    assert_eq!(answer, (503, "not ready: stopping\n".to_owned()));
    let (alive, _) = http(broker.http, "/healthz").await.unwrap();
    assert_eq!(alive, 200, "nobody is to kill it now");
    assert!(!call.is_finished());

    gate.open();
    call.await.unwrap().unwrap();
    let (status, took) = broker.ended().await;
    println!(
        "ready {ready}, then {answer:?} with a call under way; {status} {took:?} after its answer"
    );
    assert_eq!(status.code(), Some(0));
}
