//! Peers that connect and say nothing.

use std::{net::SocketAddr, time::Duration};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::{
    io::AsyncReadExt as _,
    net::TcpStream,
    task::JoinSet,
    time::{Instant, timeout},
};

use crate::{
    broker::{Broker, machine},
    latency::Calling,
    trial::{GIVE_UP, Setup, Site, ask},
};

const PEERS: usize = 2_000;
const DROPPED_WITHIN: Duration = Duration::from_secs(5);

#[tokio::test(flavor = "multi_thread")]
async fn two_thousand_silent_peers_are_dropped_within_five_seconds() {
    let _machine = machine().await;
    allow_descriptors(PEERS);
    let site = Site::new(Setup {
        destinations: 1,
        ..Setup::default()
    })
    .await;
    let broker = Broker::start(&site).await;
    let mut client = broker.client(&site).await;
    ask(&mut client, "d0").await.unwrap();
    let calling = Calling::start(client, Duration::from_millis(10));

    let mut peers = JoinSet::new();
    for _ in 0..PEERS {
        peers.spawn(stay(broker.address));
    }
    let stays = peers.join_all().await;
    let (shortest, longest) = (stays.iter().min().unwrap(), stays.iter().max().unwrap());
    let dropped = stays.iter().filter(|stay| **stay < DROPPED_WITHIN).count();
    let calls = calling.stop().await;
    println!(
        "{dropped} of {PEERS} silent peers dropped in {DROPPED_WITHIN:?}, \
         the first after {shortest:?}, the last after {longest:?}; {calls}"
    );
    assert_eq!(dropped, PEERS);
}

/// How long a peer is borne that says nothing.
async fn stay(broker: SocketAddr) -> Duration {
    let mut stream = TcpStream::connect(broker).await.unwrap();
    let connected = Instant::now();
    let read = timeout(GIVE_UP, stream.read(&mut [0; 64])).await;
    let length = read.expect("it was not dropped").unwrap_or(0);
    assert_eq!(length, 0, "it was answered");
    connected.elapsed()
}

/// Lets this process have so many sockets.
pub(crate) fn allow_descriptors(sockets: usize) {
    const OWN: u64 = 100;
    let limit = getrlimit(Resource::Nofile);
    let wanted = u64::try_from(sockets).unwrap() + OWN;
    if limit.current.is_some_and(|current| current < wanted) {
        let raised = Rlimit {
            current: Some(wanted),
            ..limit
        };
        setrlimit(Resource::Nofile, raised).expect("a higher hard limit of descriptors is needed");
    }
}
