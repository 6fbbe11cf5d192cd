//! The status page in a real browser. `tests/browser/run` brings the browser.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a panic in a test is its report"
)]

#[path = "../admin/desk.rs"]
#[expect(
    dead_code,
    reason = "shared with the tests of operators, which use all of it"
)]
mod desk;
mod load;
mod many;
mod reader;
mod states;
#[path = "../end_to_end/trial.rs"]
#[expect(
    dead_code,
    reason = "shared with the end-to-end tests, which use all of it"
)]
mod trial;
