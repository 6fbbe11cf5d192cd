//! A real Prometheus looks at real brokers: what they show is right in both formats, every alert
//! fires when its condition is caused and ends when it is mended, and every query of the
//! dashboard has an answer.
//!
//! `tests/prometheus/run` installs Prometheus and runs these tests.

#![cfg(unix)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a panic in a test is its report"
)]

mod audit;
mod availability;
#[path = "../process/broker.rs"]
#[expect(dead_code, reason = "shared with the tests of processes")]
mod broker;
mod calls;
mod configuration;
mod connections;
mod dashboard;
mod dev;
#[path = "../front_door/disguise.rs"]
#[expect(dead_code, reason = "shared with the front door's tests")]
mod disguise;
#[path = "../shared_cache/fleet.rs"]
#[expect(dead_code, reason = "shared with the tests of replicas")]
mod fleet;
mod formats;
#[path = "../interop/dev.rs"]
#[expect(dead_code, reason = "shared with the programs of others")]
mod newcomer;
mod operator;
mod prometheus;
mod rotation;
mod rules;
#[path = "../shared_cache/server.rs"]
#[expect(dead_code, reason = "shared with the tests of replicas")]
mod server;
mod shared_cache;
#[path = "../process/site.rs"]
mod site;
mod tokens;
#[path = "../end_to_end/trial.rs"]
#[expect(
    dead_code,
    reason = "shared with the end-to-end tests, which use all of it"
)]
mod trial;
#[path = "../shared_cache/vault.rs"]
#[expect(dead_code, reason = "shared with the tests of replicas")]
mod vault;
