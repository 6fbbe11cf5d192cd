//! x
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a panic in a benchmark is its report"
)]

mod bare;
mod connection;
mod http2;
mod load;
#[path = "../site/mod.rs"]
#[allow(
    dead_code,
    reason = "shared with other benchmarks, which use all of it"
)]
mod site;
mod talk;
mod tls;

use site::*;
use std::time::Duration;
use token_broker::api::v1::{
    GetTokenRequest, GetTokenResponse, token_broker_client::TokenBrokerClient,
};

fn main() {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let mut args = std::env::args_os().skip(1);
    if args.next().is_some_and(|first| first == bare::COMMAND) {
        bare::serve(args.next().unwrap().as_ref());
        return;
    }
    let machine = Machine::look();
    let cores = Cores::divide();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let policy = Policy {
        destinations: 200,
        callers: 200,
    };
    let site = runtime.block_on(Site::new(policy));
    let broker = Broker::start(&site, &cores);
    println!(
        "{machine:?} {:?} {} {:?} {}",
        broker.took,
        broker.process.resident_memory(),
        broker.process.processor_time(),
        broker.process.context_switches()
    );
    let replies = runtime.block_on(learn(&site, broker.address));
    let bare = bare::Bare::start(&site, &replies[0], &cores);
    let known = http2::Questions::new(200, |n| replies[n].access_token.clone());
    let same = http2::Questions::new(200, |_| replies[0].access_token.clone());
    let connect = |address, questions| {
        let connections = (0..8)
            .map(|n| {
                connection::Connection::open(
                    address,
                    &tls::client(&site, n, false),
                    Box::new(http2::Http2::new(questions)),
                )
                .unwrap()
            })
            .collect();
        load::Load::new(connections, 200, cores.are_two())
    };
    let mut a = connect(broker.address, &known);
    let mut b = connect(bare.address, &same);
    for _ in 0..4 {
        for (name, load, process) in [
            ("broker", &mut a, &broker.process),
            ("bare", &mut b, &bare.process),
        ] {
            let (cpu, switches) = (process.processor_time(), process.context_switches());
            let done = load.full(16, Duration::from_secs(2)).unwrap();
            let cpu = process.processor_time() - cpu;
            println!(
                "{name} {:.0}/s {:.2} us {:.2} switches",
                done.calls as f64 / done.took.as_secs_f64(),
                cpu.as_secs_f64() * 1e6 / done.calls as f64,
                (process.context_switches() - switches) as f64 / done.calls as f64
            );
            let mut l = load.steady(8000.0, Duration::from_secs(1)).unwrap();
            l.sort();
            println!(
                "{name} {:?} {:?} {:?}",
                l[l.len() / 2],
                l[l.len() * 99 / 100],
                l[l.len() * 999 / 1000]
            );
        }
    }
}

async fn learn(site: &Site, broker: std::net::SocketAddr) -> Vec<GetTokenResponse> {
    let channel = site.endpoint(broker, 0).connect().await.unwrap();
    let mut client = TokenBrokerClient::new(channel);
    let mut replies = Vec::new();
    for n in 0..site.policy.destinations {
        let request = GetTokenRequest {
            destination_id: Policy::destination(n),
            min_validity: None,
        };
        let reply = client.get_token(request).await.unwrap().into_inner();
        let for_whom = site.upstream.minted_for(&reply.access_token).unwrap();
        assert_eq!(for_whom.destination, Policy::destination(n));
        replies.push(reply);
    }
    replies
}
