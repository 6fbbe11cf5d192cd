//! SIGTERM before peers that will not go.

use std::time::Duration;

use rustix::process::Signal;
use token_broker::upstream::standin::{Behaviour, Fault};
use tokio::{io::AsyncWriteExt as _, net::TcpStream};

use crate::{
    attacker::{DATA, END_HEADERS, HEADERS, call, frame},
    broker::{Broker, machine, until},
    disguise::{Disguise, Papers},
    trial::{CART, Setup, Site, ask, http},
};

const DRAIN: Duration = Duration::from_secs(2);
/// Unoptimised, all that can be told is that nobody is waited for.
const GRACE: Duration = Duration::from_secs(if cfg!(debug_assertions) { 10 } else { 1 });

#[tokio::test(flavor = "multi_thread")]
async fn no_peer_holds_up_the_end_for_longer_than_the_drain_deadline() {
    let _machine = machine().await;
    let site = Site::new(Setup {
        destinations: 1,
        // Only the drain deadline ends anything.
        server: "drain_timeout = \"2s\"\nhandshake_timeout = \"60s\"\nfirst_request_timeout = \"60s\"",
        upstream: "timeout = \"60s\"",
        ..Setup::default()
    })
    .await;
    site.upstream.behave(Behaviour::fault(Fault::Silent));
    let mut broker = Broker::start(&site).await;

    let silent = TcpStream::connect(broker.address).await.unwrap();
    let mut in_handshake = TcpStream::connect(broker.address).await.unwrap();
    // The head of a TLS record that holds a ClientHello, and nothing of it.
    let hello = [22, 3, 1, 0, 200];
    in_handshake.write_all(&hello).await.unwrap();
    let on_plain_port = TcpStream::connect(broker.http).await.unwrap();

    let mut client = broker.client(&site).await;
    let stuck = tokio::spawn(async move { ask(&mut client, "d0").await });
    let papers = Papers::from(&site.authority.client(CART).unwrap());
    let disguise = Disguise::before(broker.address, site.authority.certificate(), Some(&papers));
    // It begins a call, never ends it, and answers nothing, neither GOAWAY nor PING.
    let begun = frame(HEADERS, END_HEADERS, 1, &call());
    let deaf = disguise.connect().await.unwrap();
    let deaf = tokio::spawn(deaf.attack([begun, frame(DATA, 0, 1, b"\0")]));
    let idle = disguise.connect().await.unwrap();
    let idle = tokio::spawn(idle.attack([]));
    until("the upstream is asked, and all are connected", async || {
        let (_, metrics) = http(broker.http, "/metrics").await.unwrap();
        site.upstream.calls() == 1 && metrics.contains("\ntoken_broker_connections_open 3\n")
    })
    .await;

    broker.signal(Signal::TERM);
    let (status, took) = broker.ended().await;
    println!("a drain deadline of {DRAIN:?}: {status} after {took:?}");
    assert_eq!(status.code(), Some(0), "{}", broker.log());
    assert!(took < DRAIN + GRACE, "{took:?}: {}", broker.log());
    let refused = stuck.await.unwrap().unwrap_err();
    println!("the stuck call: {refused}");
    for (who, parting) in [("busy", deaf.await.unwrap()), ("idle", idle.await.unwrap())] {
        println!("the {who} peer that answers nothing: {parting:?}");
        assert!(parting.goaway.is_some_and(|(code, _)| code == 0), "{who}");
    }
    drop((silent, in_handshake, on_plain_port));
}
