//! The sealed store: a broker that reads it, whatever becomes of it, and the commands that
//! keep it.

#![cfg(unix)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a panic in a test is its report"
)]

mod bad_stores;
#[path = "../process/broker.rs"]
#[expect(dead_code, reason = "shared with the tests of the process")]
mod broker;
mod commands;
#[path = "../front_door/counters.rs"]
#[expect(dead_code, reason = "shared with the front door's tests")]
mod counters;
mod cuts;
mod damage;
#[path = "../front_door/disguise.rs"]
#[expect(dead_code, reason = "shared with the front door's tests")]
mod disguise;
#[path = "../front_door/files.rs"]
#[expect(dead_code, reason = "shared with the front door's tests")]
mod files;
#[path = "../front_door/line.rs"]
#[expect(dead_code, reason = "shared with the front door's tests")]
mod line;
mod rotation;
mod secrecy;
#[path = "../process/site.rs"]
#[expect(dead_code, reason = "shared with the tests of the process")]
mod site;
#[path = "../front_door/steady.rs"]
mod steady;
mod store;
#[path = "../end_to_end/trial.rs"]
#[expect(
    dead_code,
    reason = "shared with the end-to-end tests, which use all of it"
)]
mod trial;
