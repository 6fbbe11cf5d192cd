//! How a command prints what it was asked for.

use std::io::{self, Write as _};

use clap::ValueEnum;

/// The formats of `--output`.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum Output {
    /// Plain text
    Text,
    /// One JSON object
    Json,
}

/// Writes to standard output at once, so that a reader sees it whole.
pub(super) fn write(shown: &str) -> io::Result<()> {
    let mut to = io::stdout().lock();
    to.write_all(shown.as_bytes())?;
    to.flush()
}
