//! What the port takes from peers that mean no good, or too much of it.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a panic in a test is its report"
)]

mod attacker;
mod floods;
#[path = "../end_to_end/trial.rs"]
#[expect(
    dead_code,
    reason = "shared with the end-to-end tests, which use all of it"
)]
mod trial;
