//! What callers and operators see of a running broker.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a panic in a test is its report"
)]

mod decisions;
#[path = "../front_door/disguise.rs"]
mod disguise;
mod doors;
mod exchange;
mod ext_authz;
mod get_token;
mod identity;
mod sds;
mod series;
mod status_page;
mod tokens;
mod trial;
mod watch_and_report;
mod web;
