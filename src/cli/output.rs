//! How a command prints what it was asked for.

use clap::ValueEnum;

/// The formats of `--output`.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum Output {
    /// Plain text
    Text,
    /// One JSON object
    Json,
}
