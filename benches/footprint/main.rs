//! What the broker takes of the machine: memory, and the time until it is ready.
//!
//! `cargo bench --bench footprint` measures everything, `-- idle warm connections watchers start
//! growth` some of it. The figures also go to `target/bench/footprint.json`. It needs 10,200 file
//! descriptors, and half a gigabyte for its own side of the connections.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a panic in a benchmark is its report"
)]

#[path = "../wire/connection.rs"]
mod connection;
mod growth;
#[path = "../wire/http2.rs"]
mod http2;
mod memory;
mod report;
#[path = "../site/mod.rs"]
#[expect(
    dead_code,
    unused_imports,
    reason = "shared with the benchmark that calls"
)]
mod site;
mod start;
#[path = "../wire/talk.rs"]
mod talk;
#[path = "../wire/tls.rs"]
#[expect(dead_code, reason = "shared with the benchmark that calls")]
mod tls;

use std::env;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use self::{
    report::Report,
    site::{Cores, Machine},
};

/// One for each connection, here and in the broker, and some.
const DESCRIPTORS: u64 = 10_200;

fn main() {
    let words: Vec<_> = env::args()
        .skip(1)
        .filter(|word| word != "--bench")
        .collect();
    let asked = |section: &str| words.is_empty() || words.iter().any(|word| word == section);
    rustls::crypto::aws_lc_rs::default_provider()
        .install_default()
        .unwrap();
    allow_descriptors();
    let mut report = Report::new(Machine::look());
    let cores = Cores::divide();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        if asked("idle") {
            memory::idle(&cores, &mut report).await;
        }
        if asked("warm") {
            memory::warm(&cores, &mut report).await;
        }
        if asked("connections") {
            memory::connections(&cores, &mut report).await;
        }
        if asked("watchers") {
            memory::watchers(&cores, &mut report).await;
        }
        if asked("start") {
            start::measure(&cores, &mut report).await;
        }
        if asked("growth") {
            growth::measure(&cores, &mut report).await;
        }
    });
    report.write();
}

/// The broker inherits what is allowed here.
fn allow_descriptors() {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current.is_some_and(|current| current < DESCRIPTORS) {
        let current = maximum.map_or(DESCRIPTORS, |maximum| maximum.min(DESCRIPTORS));
        let raised = Rlimit {
            current: Some(current),
            maximum,
        };
        setrlimit(Resource::Nofile, raised).unwrap();
    }
}
