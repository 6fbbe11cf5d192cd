//! What one call costs between its decoded request and the bytes of its reply, without sockets.
//!
//! - `cargo bench --bench core` says how long it takes, with policies of 10 to 100,000 grants.
//!   The figures also go to `target/bench/core.json`.
//! - `tests/speed/run` counts its instructions and allocations, and compares them with
//!   `benches/core/counts.json`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a panic in a benchmark is its report"
)]

mod callgrind;
mod counts;
mod gate;
mod part;
mod site;
mod timing;

use std::{env, process::ExitCode};

fn main() -> ExitCode {
    // Cargo says what it runs.
    let words: Vec<_> = env::args()
        .skip(1)
        .filter(|word| word != "--bench")
        .collect();
    let words: Vec<_> = words.iter().map(String::as_str).collect();
    match *words {
        [] => timing::run(),
        ["gate"] => return gate::check(),
        ["gate", "--update"] => gate::update(),
        ["gate", "--spread"] => gate::spread(),
        ["counted"] => callgrind::counted(),
        _ => {
            eprintln!("benches/core takes nothing, or gate [--update | --spread]");
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}
