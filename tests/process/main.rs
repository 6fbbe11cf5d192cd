//! The broker as a process: what it takes of the machine, how it meets signals, and how
//! it ends. Every test prints the figures that it holds the broker to:
//! `cargo test --release --test process -- --include-ignored --nocapture`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a panic in a test is its report"
)]

#[path = "../front_door/attacker.rs"]
#[expect(dead_code, reason = "shared with the front door's tests")]
mod attacker;
mod audit;
mod broker;
mod descriptors;
#[path = "../front_door/disguise.rs"]
#[expect(dead_code, reason = "shared with the front door's tests")]
mod disguise;
mod gate;
mod idle_connections;
mod latency;
mod long_requests;
mod operating;
mod privacy;
mod readiness;
mod reload;
mod silent_peers;
mod site;
mod stop;
mod succession;
#[path = "../audit/trail.rs"]
#[expect(dead_code, reason = "shared with the tests of the audit trail")]
mod trail;
#[path = "../end_to_end/trial.rs"]
#[expect(
    dead_code,
    reason = "shared with the end-to-end tests, which use all of it"
)]
mod trial;
mod watchers;
