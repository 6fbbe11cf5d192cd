//! The broker beside a bare tonic service, and beside redis where it is installed: the same
//! questions and answers, over the same TLS, on the same core, in turn.
//!
//! ```text
//! cargo bench --bench wire               # about three minutes
//! cargo bench --bench wire -- --quick    # about forty seconds
//! cargo bench --bench wire -- --only throughput --rounds 30   # long enough for a profiler
//! cargo bench --bench wire -- --beside /tmp/before            # and another broker
//! ```
//!
//! The broker has everything on: a policy of 200 destinations for 200 callers, an audit
//! trail in a file, metrics. The bare service answers what it was given at its start, of the
//! same length, in tonic's own transport with its default settings. Each is a process of its
//! own. Where there are two cores, all servers have the one, and the load has the other.
//! Every answer is compared with what is expected, and the first wrong one ends the benchmark.
//!
//! The table says how busy servers and load were. A load that is busy all the time measures
//! itself. A server that is not has lost its core to others: on a machine with other work only
//! the processor time of a call can be compared.
//!
//! Each figure is the median of its rounds, with the least and the greatest of them; ratios
//! are of the same round. The first round is not counted. All of it is written to
//! `target/bench/wire.json`, too.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a panic in a benchmark is its report"
)]

mod bare;
mod cold;
mod connection;
mod contender;
mod grants;
mod handshakes;
mod http2;
mod latency;
mod load;
mod options;
mod redis;
mod report;
mod resp;
#[path = "../site/mod.rs"]
#[allow(
    dead_code,
    reason = "shared with other benchmarks, which use all of it"
)]
mod site;
mod stage;
mod table;
mod talk;
mod throughput;
mod tls;

use std::{env, io, process::ExitCode};

use clap::Parser as _;

use self::{
    options::{Options, Part},
    report::Report,
    site::{Cores, Machine},
    stage::Stage,
};

fn main() -> ExitCode {
    // One provider for whoever asks for none: tonic, on both sides.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let mut arguments = env::args_os().skip(1);
    if arguments.next().is_some_and(|it| it == bare::COMMAND) {
        bare::serve(arguments.next().unwrap_or_default().as_ref());
        return ExitCode::SUCCESS;
    }
    let mut report = Report::new(Machine::look(), Options::parse());
    let done = measure(&mut report, &Cores::divide()).and_then(|()| report.write());
    match done {
        Ok(file) => {
            println!("\nThe same as JSON: {}", file.display());
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn measure(report: &mut Report, cores: &Cores) -> io::Result<()> {
    let options = report.options.clone();
    report.begin(cores);
    let runtime = tokio::runtime::Runtime::new()?;
    let stage = Stage::set(&runtime, cores, &options);
    if options.wants(Part::Throughput) || options.wants(Part::Latency) {
        let mut contenders = stage.contenders(&options, cores)?;
        let full = throughput::measure(&mut contenders, &options)?;
        report.add(full.table);
        if options.wants(Part::Latency) {
            report.add(latency::measure(&mut contenders, &full.rates, &options)?);
        }
    }
    if options.wants(Part::Handshakes) {
        report.add(handshakes::measure(&stage, &options)?);
    }
    drop(stage);
    if options.wants(Part::Grants) {
        report.add(grants::measure(&runtime, cores, &options)?);
    }
    if options.wants(Part::Cold) {
        report.add(cold::alone(&runtime, cores, &options)?);
        report.add(cold::crowd(&runtime, cores)?);
    }
    Ok(())
}
