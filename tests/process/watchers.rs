//! Many watchers on real connections: what each of them costs, and what it is told.

use std::{collections::HashSet, time::Duration};

use token_broker::{
    api::v1::{
        WatchTokenRequest, WatchTokenResponse, token_broker_client::TokenBrokerClient,
        watch_token_response::Event,
    },
    upstream::standin::Behaviour,
};
use tokio::task::JoinSet;
use tonic::{Streaming, transport::Channel};

use crate::{
    broker::{Broker, machine},
    trial::{CART, Setup, Site, ask},
};

const DESTINATIONS: usize = 100;
const CONNECTIONS: usize = 100;
/// As many as one connection has calls.
const WATCHERS_EACH: usize = 100;
/// The bytes of one watcher, without its connection.
const MOST_MEMORY: u64 = 8 * 1024;

#[tokio::test(flavor = "multi_thread")]
#[ignore = "ten thousand streams: --release --ignored"]
async fn ten_thousand_watchers_take_little_memory_and_all_see_the_successor() {
    let _machine = machine().await;
    let site = Site::new(Setup {
        destinations: DESTINATIONS,
        ..Setup::default()
    })
    .await;
    // The successors come when all are watching.
    let lifetime = Duration::from_secs(120);
    site.upstream.behave(Behaviour::lifetime(lifetime));
    let broker = Broker::start(&site).await;
    let endpoint = site.endpoint(broker.address, CART);
    let mut clients = Vec::new();
    for _ in 0..CONNECTIONS {
        let mut client = TokenBrokerClient::new(endpoint.connect().await.unwrap());
        for destination in 0..DESTINATIONS {
            ask(&mut client, &format!("d{destination}")).await.unwrap();
        }
        clients.push(client);
    }
    let connected = broker.resident_memory();

    let mut watchers = Vec::new();
    for client in &clients {
        for n in 0..WATCHERS_EACH {
            watchers.push(Watcher::begin(client.clone(), n % DESTINATIONS).await);
        }
    }
    let watched = broker.resident_memory();
    let each = watched.saturating_sub(connected) / u64::try_from(watchers.len()).unwrap();
    println!(
        "{} watchers on {CONNECTIONS} connections: {connected} bytes resident before, {watched} after, {each} each",
        watchers.len()
    );

    let mut waiting = JoinSet::new();
    for watcher in watchers {
        waiting.spawn(watcher.successor());
    }
    let successors: HashSet<_> = waiting.join_all().await.into_iter().collect();
    println!(
        "{} bytes resident when all have seen a successor",
        broker.resident_memory()
    );
    assert_eq!(
        successors.len(),
        DESTINATIONS,
        "all of one destination saw the same"
    );
    assert_eq!(
        site.upstream.calls(),
        2 * u64::try_from(DESTINATIONS).unwrap()
    );
    assert!(each <= MOST_MEMORY, "{each}");
}

struct Watcher {
    stream: Streaming<WatchTokenResponse>,
    first: String,
}

impl Watcher {
    async fn begin(mut client: TokenBrokerClient<Channel>, destination: usize) -> Self {
        let request = WatchTokenRequest {
            destination_id: format!("d{destination}"),
        };
        let mut stream = client.watch_token(request).await.unwrap().into_inner();
        let first = next(&mut stream).await;
        Self { stream, first }
    }

    async fn successor(mut self) -> String {
        let successor = next(&mut self.stream).await;
        assert_ne!(successor, self.first);
        successor
    }
}

async fn next(stream: &mut Streaming<WatchTokenResponse>) -> String {
    match stream.message().await.unwrap().unwrap().event {
        Some(Event::Token(token)) => token.token_id,
        other => panic!("{other:?} instead of a token"),
    }
}
