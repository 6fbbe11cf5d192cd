//! How a command ends that did not do what it says.

use std::{fmt::Display, process::ExitCode};

/// What the help of every command says about its end.
pub(super) const EXIT_CODES: &str = "Exit codes: 0 done, 1 failed, 2 called wrongly.";

/// The exit code of a command that was called wrongly, as clap has it.
const USAGE: u8 = 2;

/// Says why the command failed.
pub(super) fn failed(error: impl Display) -> ExitCode {
    eprintln!("error: {error}");
    ExitCode::FAILURE
}

/// Says why the command cannot do anything with how it was called.
pub(super) fn called_wrongly(error: impl Display) -> ExitCode {
    eprintln!("error: {error}");
    ExitCode::from(USAGE)
}
