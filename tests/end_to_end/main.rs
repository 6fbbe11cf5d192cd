//! What callers and operators see of a running broker.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a panic in a test is its report"
)]

mod doors;
mod get_token;
mod identity;
mod tokens;
mod trial;
mod watch_and_report;
