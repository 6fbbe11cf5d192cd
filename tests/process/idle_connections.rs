//! Connections that ask for nothing any more.

use std::time::Duration;

use futures_util::{StreamExt as _, stream};
use token_broker::api::v1::token_broker_client::TokenBrokerClient;
use tokio::time::sleep;
use tonic::transport::Channel;

use crate::{
    broker::{Broker, machine},
    latency::{Calling, Latency},
    silent_peers::allow_descriptors,
    trial::{CART, Setup, Site, ask},
};

const CONNECTIONS: usize = 10_000;
const MOST_MEMORY: u64 = 400_000_000;
/// Handshakes that are under way at once.
const AT_ONCE: usize = 50;

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes minutes, gigabytes and 10,100 file descriptors: --release --ignored"]
async fn ten_thousand_idle_connections_take_little_memory_and_delay_nobody() {
    let _machine = machine().await;
    allow_descriptors(CONNECTIONS);
    let site = Site::new(Setup {
        destinations: 1,
        server: "max_connections = 10100\nmax_connections_per_caller = 10100",
        ..Setup::default()
    })
    .await;
    let broker = Broker::start(&site).await;
    let mut client = broker.client(&site).await;
    ask(&mut client, "d0").await.unwrap();
    measure(&client).await;
    let usual = measure(&client).await;
    let empty = broker.resident_memory();

    let endpoint = site.endpoint(broker.address, CART);
    let idle: Vec<_> = stream::iter(0..CONNECTIONS)
        .map(|_| async {
            let mut client = TokenBrokerClient::new(endpoint.connect().await.unwrap());
            ask(&mut client, "d0").await.unwrap();
            client
        })
        .buffer_unordered(AT_ONCE)
        .collect()
        .await;
    let full = broker.resident_memory();
    let crowded = measure(&client).await;
    let settled = broker.resident_memory();

    let each = (settled - empty) / u64::try_from(idle.len()).unwrap();
    println!(
        "{} idle connections: {empty} bytes resident before, {full} after, {settled} when settled, {each} each",
        idle.len()
    );
    println!("without them: {usual}");
    println!("with them: {crowded}");
    let ratio = crowded.p99().as_secs_f64() / usual.p99().as_secs_f64();
    println!("p99 {ratio:.2} times the usual");
    assert!(full.max(settled) < MOST_MEMORY);
    assert!(ratio < 2.0, "{ratio}");
}

/// Some seconds of calls, 500 a second.
async fn measure(client: &TokenBrokerClient<Channel>) -> Latency {
    let calling = Calling::start(client.clone(), Duration::from_millis(2));
    sleep(Duration::from_secs(10)).await;
    calling.stop().await
}
