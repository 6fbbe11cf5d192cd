//! The memory of a broker that has something to hold.

use std::{
    fs,
    time::{Duration, Instant},
};

use futures_util::{StreamExt as _, stream};
use token_broker::api::v1::{
    GetTokenRequest, WatchTokenRequest, token_broker_client::TokenBrokerClient,
};
use tokio::time::sleep;
use tonic::transport::Channel;

use crate::{
    connection::Connection,
    http2::{Http2, Questions},
    report::{Report, Target, Unit, number},
    site::{Broker, Cores, Policy, Site},
    tls::{self, Care},
};

const ONE: Policy = Policy {
    destinations: 1,
    callers: 1,
};
const DESTINATIONS: usize = 10_000;
const CONNECTIONS: usize = 10_000;
/// Watchers on so many connections, and on each of these.
const WATCHED: usize = 100;
const WATCHERS_EACH: usize = 100;
/// Calls that are under way at once.
const AT_ONCE: usize = 50;
/// The broker pings who is silent for 20 seconds, and wants an answer within as many.
const PINGED: Duration = Duration::from_secs(5);
const GIVE_UP: Duration = Duration::from_secs(60);
/// What was needed only for a moment is given back by then.
const SETTLED: Duration = Duration::from_secs(1);

/// A broker that nobody has asked for anything.
pub(crate) async fn idle(cores: &Cores, report: &mut Report) {
    let site = Site::new(ONE).await;
    let broker = Broker::start(&site, cores);
    let resident = resident(&broker).await;
    report.compare(
        "an idle process",
        megabytes(resident),
        Unit::Megabytes,
        Target {
            at_most: 20.0,
            aim: 10.0,
        },
    );
}

/// A broker that has a token for each of many destinations.
pub(crate) async fn warm(cores: &Cores, report: &mut Report) {
    let policy = Policy {
        destinations: DESTINATIONS,
        callers: 1,
    };
    let site = Site::new(policy).await;
    let broker = Broker::start(&site, cores);
    let cold = resident(&broker).await;
    let client = client(&site, &broker).await;
    stream::iter(0..DESTINATIONS)
        .for_each_concurrent(AT_ONCE, |n| ask(client.clone(), n))
        .await;
    let warm = resident(&broker).await;
    report.add(
        "with 10,000 destinations, nothing asked",
        megabytes(cold),
        Unit::Megabytes,
    );
    report.compare(
        "with 10,000 destinations, a token for each",
        megabytes(warm),
        Unit::Megabytes,
        Target {
            at_most: 60.0,
            aim: 30.0,
        },
    );
    let each = each(cold, warm, DESTINATIONS);
    report.add("one token at hand", each, Unit::Bytes);
}

/// Connections that have asked once, and ask for nothing more.
pub(crate) async fn connections(cores: &Cores, report: &mut Report) {
    let site = Site::new(ONE).await;
    allow_connections(&site);
    let broker = Broker::start(&site, cores);
    let token = first_token(&site, &broker).await;
    let before = resident(&broker).await;
    let questions = Questions::new(1, |_| token.clone());
    let config = tls::client(&site, 0, Care::None);
    let mut connections = Vec::new();
    let mut looked_at = Instant::now();
    for _ in 0..CONNECTIONS {
        let talk = Box::new(Http2::new(&questions));
        let mut connection = Connection::open(broker.address, &config, talk).unwrap();
        connection.ask(0, Instant::now());
        connection.socket().set_nonblocking(false).unwrap();
        while connection.under_way() > 0 {
            listen(&mut connection);
        }
        connection.socket().set_nonblocking(true).unwrap();
        connections.push(connection);
        if looked_at.elapsed() > PINGED {
            connections.iter_mut().for_each(listen);
            looked_at = Instant::now();
        }
    }
    connections.iter_mut().for_each(listen);
    let after = resident(&broker).await;
    report.compare(
        "one idle connection of 10,000",
        each(before, after, connections.len()) / 1024.0,
        Unit::Kibibytes,
        Target {
            at_most: 26.0,
            aim: 13.0,
        },
    );
}

/// Watchers, each of which has its first token.
pub(crate) async fn watchers(cores: &Cores, report: &mut Report) {
    let policy = Policy {
        destinations: WATCHERS_EACH,
        callers: 1,
    };
    let site = Site::new(policy).await;
    let broker = Broker::start(&site, cores);
    let mut clients = Vec::new();
    for _ in 0..WATCHED {
        let client = client(&site, &broker).await;
        for n in 0..WATCHERS_EACH {
            ask(client.clone(), n).await;
        }
        clients.push(client);
    }
    let before = resident(&broker).await;
    let mut watchers = Vec::new();
    for client in &mut clients {
        for n in 0..WATCHERS_EACH {
            let request = WatchTokenRequest {
                destination_id: Policy::destination(n),
            };
            let mut stream = client.watch_token(request).await.unwrap().into_inner();
            assert!(stream.message().await.unwrap().is_some());
            watchers.push(stream);
        }
    }
    let after = resident(&broker).await;
    report.compare(
        "one watcher of 10,000, on 100 connections",
        each(before, after, watchers.len()) / 1024.0,
        Unit::Kibibytes,
        Target {
            at_most: 8.0,
            aim: 4.0,
        },
    );
}

/// The memory of a broker that has come to rest, in bytes.
pub(crate) async fn resident(broker: &Broker) -> u64 {
    sleep(SETTLED).await;
    broker.process.resident_memory()
}

pub(crate) fn megabytes(bytes: u64) -> f64 {
    number(bytes) / 1e6
}

/// What one of so many things takes, in bytes.
fn each(before: u64, after: u64, count: usize) -> f64 {
    number(after.saturating_sub(before)) / number(u64::try_from(count).unwrap())
}

async fn client(site: &Site, broker: &Broker) -> TokenBrokerClient<Channel> {
    let channel = site.endpoint(broker.address, 0).connect().await.unwrap();
    TokenBrokerClient::new(channel)
}

async fn first_token(site: &Site, broker: &Broker) -> String {
    let mut client = client(site, broker).await;
    let reply = client.get_token(request(0)).await.unwrap();
    reply.into_inner().access_token
}

/// Asks until there is a token: on a machine that has much to do, minting may take too long.
async fn ask(mut client: TokenBrokerClient<Channel>, destination: usize) {
    let asked = Instant::now();
    while let Err(refused) = client.get_token(request(destination)).await {
        assert!(asked.elapsed() < GIVE_UP, "{refused}");
        sleep(SETTLED).await;
    }
}

fn request(destination: usize) -> GetTokenRequest {
    GetTokenRequest {
        destination_id: Policy::destination(destination),
        min_validity: None,
    }
}

/// Hears the server, and answers its pings.
fn listen(connection: &mut Connection) {
    connection.flush().unwrap();
    connection.receive(&mut Vec::new()).unwrap();
    connection.flush().unwrap();
}

/// Lets in more than ordinary callers have.
fn allow_connections(site: &Site) {
    let lines = fs::read_to_string(site.path("broker.toml")).unwrap();
    let ordinary = lines
        .lines()
        .filter(|line| !line.starts_with("max_connections"));
    let allowed = ordinary.map(|line| match line {
        "[server]" => "[server]\nmax_connections = 20000\nmax_connections_per_caller = 20000",
        line => line,
    });
    let lines: Vec<_> = allowed.collect();
    site.write("broker.toml", lines.join("\n"));
}
