//! More peers than there are file descriptors.

use std::{net::SocketAddr, time::Duration};

use tokio::{
    io::AsyncReadExt as _,
    net::TcpStream,
    task::JoinSet,
    time::{Instant, sleep},
};

use crate::{
    broker::{Broker, machine},
    latency::Calling,
    trial::{CART, Setup, Site, ask, http},
};
use token_broker::api::v1::token_broker_client::TokenBrokerClient;

const PEERS: usize = 500;
const PROBES: usize = 20;
/// How long they hang on.
const SIEGE: Duration = Duration::from_secs(3);
/// Cut off, a peer comes back after this time.
const COMES_BACK: Duration = Duration::from_secs(1);
/// Unoptimised, all that can be told is that nothing spins.
const MOST_PROCESSOR_TIME: f64 = if cfg!(debug_assertions) { 0.5 } else { 0.05 };
const RECOVERY: Duration = Duration::from_secs(2);
/// What it says of a limit that is in the way.
const FEWER: &str = "the limit of descriptors allows fewer connections";

#[tokio::test(flavor = "multi_thread")]
async fn a_soft_limit_of_64_descriptors_is_raised() {
    let log = siege("ulimit -Sn 64", |broker| broker.address).await;
    assert!(
        !log.contains(FEWER) || !log.contains(r#""descriptors":64,"#),
        "{log}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hard_limit_of_64_descriptors_is_lived_with() {
    let log = siege("ulimit -n 64", |broker| broker.address).await;
    assert!(
        log.contains(FEWER) && log.contains(r#""descriptors":64,"#),
        "{log}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn peers_of_the_plain_port_take_no_descriptors_from_callers() {
    siege("ulimit -n 64", |broker| broker.http).await;
}

/// Lets peers hang on to a broker with few descriptors, and says what it logged.
async fn siege(limit: &str, port: fn(&Broker) -> SocketAddr) -> String {
    let _machine = machine().await;
    let site = Site::new(Setup {
        destinations: 2,
        ..Setup::default()
    })
    .await;
    let broker = Broker::start_after(limit, &site).await;
    let mut client = broker.client(&site).await;
    ask(&mut client, "d0").await.unwrap();

    let port = port(&broker);
    let mut peers = JoinSet::new();
    for _ in 0..PEERS {
        peers.spawn(hang_on(port));
    }
    let before = (Instant::now(), broker.processor_time());
    let calling = Calling::start(client.clone(), Duration::from_millis(20));
    sleep(SIEGE).await;
    let mut probes = 0;
    for _ in 0..PROBES {
        let answer = http(broker.http, "/readyz").await;
        probes += usize::from(answer.is_ok_and(|(status, _)| status == 200));
    }
    // Descriptors are left for upstreams, too.
    ask(&mut client, "d1").await.unwrap();
    let calls = calling.stop().await;
    let busy = broker.processor_time().saturating_sub(before.1);
    let share = busy.as_secs_f64() / before.0.elapsed().as_secs_f64();

    peers.shutdown().await;
    let left = Instant::now();
    let newcomer = site.endpoint(broker.address, CART);
    let channel = loop {
        if let Ok(channel) = newcomer.connect().await {
            break channel;
        }
        assert!(left.elapsed() < RECOVERY, "not recovered");
    };
    ask(&mut TokenBrokerClient::new(channel), "d0")
        .await
        .unwrap();
    let recovery = left.elapsed();

    println!(
        "{limit}, {PEERS} peers on {port}: {:.1} % of a processor; \
         {probes} of {PROBES} probes and {calls}; recovered in {recovery:?}",
        100.0 * share
    );
    let log = broker.log();
    assert!(probes > PROBES / 2, "a supervisor would take it for dead");
    assert!(share < MOST_PROCESSOR_TIME, "{share}");
    assert!(recovery < RECOVERY, "{recovery:?}");
    assert!(!log.contains("cannot accept"), "{log}");
    log
}

/// A peer that says nothing, and comes back whenever it is sent away.
async fn hang_on(broker: SocketAddr) {
    loop {
        if let Ok(mut stream) = TcpStream::connect(broker).await {
            while stream
                .read(&mut [0; 64])
                .await
                .is_ok_and(|length| length > 0)
            {}
        }
        sleep(COMES_BACK).await;
    }
}
