//! Replicas of the broker that share through a real Redis server.
//!
//! `tests/shared_cache/run` installs Redis and runs these tests.

#![cfg(unix)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a panic in a test is its report"
)]

#[path = "../process/broker.rs"]
#[expect(dead_code, reason = "shared with the tests of processes")]
mod broker;
mod cold_keys;
mod fleet;
mod latency;
mod line;
mod load;
mod outages;
mod presence;
mod refusals;
mod rotation;
mod schedule;
mod secrecy;
mod server;
#[path = "../process/site.rs"]
mod site;
mod strangers;
mod succession;
mod tampering;
#[path = "../end_to_end/trial.rs"]
#[expect(
    dead_code,
    reason = "shared with the end-to-end tests, which use all of it"
)]
mod trial;
mod vault;
