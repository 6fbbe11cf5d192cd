//! What is asked of the benchmark.

use std::{path::PathBuf, time::Duration};

use clap::{Parser, ValueEnum};
use serde::Serialize;

/// The broker beside a bare tonic service
#[derive(Clone, Debug, Parser, Serialize)]
#[command(name = "wire")]
pub(crate) struct Options {
    /// Fewer and shorter rounds: about forty seconds in all
    #[arg(long)]
    quick: bool,
    /// Only these parts
    #[arg(long, value_enum)]
    only: Vec<Part>,
    /// Rounds that count; one more comes before them
    #[arg(long)]
    rounds: Option<usize>,
    /// How long a round is, for each server, in seconds: at most 5, since who waits for its
    /// turn answers no pings
    #[arg(long, value_parser = seconds)]
    seconds: Option<f64>,
    /// Connections to each server
    #[arg(long, default_value_t = 8)]
    pub(crate) connections: usize,
    /// Calls under way on each connection at full load
    #[arg(long, default_value_t = 16)]
    pub(crate) streams: usize,
    /// Another broker to be measured beside this one, such as one of before a change
    #[arg(long, value_name = "PROGRAM")]
    pub(crate) beside: Option<PathBuf>,
    /// What cargo says to every benchmark
    #[arg(long, hide = true)]
    #[serde(skip)]
    bench: bool,
}

/// A part of the benchmark.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Part {
    /// As many calls as there can be
    Throughput,
    /// How long calls take at half of that
    Latency,
    /// Full handshakes
    Handshakes,
    /// Throughput with few and with many grants
    Grants,
    /// Tokens that are not at hand
    Cold,
}

impl Options {
    pub(crate) fn wants(&self, part: Part) -> bool {
        self.only.is_empty() || self.only.contains(&part)
    }

    /// The number of each round. Number 0 does not count.
    pub(crate) fn rounds(&self) -> impl Iterator<Item = usize> + use<> {
        0..=self.rounds.unwrap_or(if self.quick { 3 } else { 5 })
    }

    /// How long a server has in a round.
    pub(crate) fn round(&self) -> Duration {
        let seconds = self.seconds.unwrap_or(if self.quick { 0.5 } else { 2.0 });
        Duration::from_secs_f64(seconds)
    }

    /// How many tokens are asked for one by one.
    pub(crate) fn cold_tokens(&self) -> usize {
        if self.quick { 50 } else { 300 }
    }
}

fn seconds(text: &str) -> Result<f64, String> {
    let seconds = text.parse().ok();
    let seconds = seconds.filter(|seconds| (0.1..=5.0).contains(seconds));
    seconds.ok_or_else(|| "must be from 0.1 to 5".to_owned())
}
