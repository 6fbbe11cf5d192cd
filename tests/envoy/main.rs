//! A real Envoy between a service and a destination, with the configurations of
//! `deploy/envoy`.
//!
//! `tests/envoy/run` installs Envoy and runs these tests.

#![cfg(unix)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a panic in a test is its report"
)]

mod credential_injector;
mod destination;
mod ext_authz;
mod gateway;
mod load;
mod proxy;
mod site;
#[path = "../end_to_end/trial.rs"]
#[expect(
    dead_code,
    reason = "shared with the end-to-end tests, which use all of it"
)]
mod trial;
