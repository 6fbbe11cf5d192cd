//! What the port takes from peers that mean no good, or too much of it.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a panic in a test is its report"
)]

mod attacker;
mod certificates;
mod counters;
mod disguise;
mod drain;
mod events;
#[path = "../end_to_end/exchange.rs"]
mod exchange;
mod files;
mod floods;
mod http1;
mod limits;
mod line;
mod pki;
mod reload;
mod revocation;
mod steady;
#[path = "../end_to_end/trial.rs"]
mod trial;
