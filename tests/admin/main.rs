//! What an operator can do to a running broker, end to end.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a panic in a test is its report"
)]

mod access;
mod audit;
mod commands;
mod desk;
mod explain;
mod list;
mod quarantine;
mod refresh;
mod reload;
mod sealed;
mod state_file;
#[path = "../end_to_end/trial.rs"]
#[expect(
    dead_code,
    reason = "shared with the end-to-end tests, which use all of it"
)]
mod trial;
mod unused;
mod warnings;
mod watch;
