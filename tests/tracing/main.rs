//! What a collector gets of the calls and flights of a broker, over OTLP.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a panic in a test is its report"
)]

#[path = "../process/broker.rs"]
#[expect(
    dead_code,
    reason = "shared with the tests of processes, which use all of it"
)]
mod broker;
mod collector;
#[path = "../front_door/disguise.rs"]
mod disguise;
#[path = "../end_to_end/exchange.rs"]
#[expect(
    dead_code,
    reason = "shared with the end-to-end tests, which use all of it"
)]
mod exchange;
mod program;
mod receiver;
#[path = "../process/site.rs"]
mod site;
#[path = "../end_to_end/trial.rs"]
#[expect(
    dead_code,
    reason = "shared with the end-to-end tests, which use all of it"
)]
mod trial;
mod upstream;
mod whole;
