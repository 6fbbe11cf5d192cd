//! x
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a panic in a benchmark is its report"
)]

#[path = "../site/mod.rs"]
#[allow(
    dead_code,
    reason = "shared with other benchmarks, which use all of it"
)]
mod site;

use site::*;

fn main() {
    let machine = Machine::look();
    let cores = Cores::divide();
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
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
}
