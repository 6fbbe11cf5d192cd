//! The command line: one file a command.
//!
//! Every command ends with 0 when it did what it says, 1 when it failed and 2
//! when it was called wrongly. What it was asked for goes to standard output,
//! everything else to standard error.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

pub mod config;
mod connection;
pub mod dev;
mod duration;
pub mod health;
pub mod serve;
mod signal;
pub mod token;
pub mod upstream;

/// The exit code of a command that was called wrongly, as clap has it.
const USAGE: u8 = 2;

/// Hands out OAuth 2 access tokens to services, so that no service holds a client secret.
#[derive(Debug, Parser)]
#[command(name = "token-broker", version)]
#[command(arg_required_else_help = true, subcommand_required = true)]
#[command(after_help = "Exit codes: 0 done, 1 failed, 2 called wrongly.")]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Try a whole broker on this machine, with nothing to set up
    Dev(dev::DevArgs),
    /// Run the broker
    Serve(serve::ServeArgs),
    /// Check a configuration, or see an example of one
    Config(config::ConfigArgs),
    /// Ask a broker for tokens
    Token(token::TokenArgs),
    /// Exit with 0 when a broker can hand out tokens, for container probes
    Health(health::HealthArgs),
    /// Serve a token endpoint that misbehaves on demand, to test against
    Upstream(upstream::UpstreamArgs),
}

impl Cli {
    /// Does what the command line asks for.
    pub async fn run(self) -> ExitCode {
        match self.command {
            Command::Dev(args) => dev::run(args).await,
            Command::Serve(args) => serve::run(args).await,
            Command::Config(args) => config::run(&args),
            Command::Token(args) => token::run(args).await,
            Command::Health(args) => health::run(args).await,
            Command::Upstream(args) => upstream::run(args).await,
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory as _, error::ErrorKind};

    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_and_argument_has_a_help_text() {
        fn check(command: &clap::Command) {
            assert!(command.get_about().is_some(), "{}", command.get_name());
            for argument in command.get_arguments() {
                assert!(argument.get_help().is_some(), "{argument}");
            }
            command.get_subcommands().for_each(check);
        }
        let mut command = Cli::command();
        command.build();
        check(&command);
    }

    #[test]
    fn wrong_calls_are_usage_errors() {
        for (line, kind) in [
            ("", ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand),
            ("tokens", ErrorKind::InvalidSubcommand),
            ("token", ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand),
            ("token get", ErrorKind::MissingRequiredArgument),
            ("token get orders invoices", ErrorKind::UnknownArgument),
            (
                "token get orders --min-validity 5",
                ErrorKind::ValueValidation,
            ),
            ("token get orders --timeout 0s", ErrorKind::ValueValidation),
            ("token get orders --output xml", ErrorKind::InvalidValue),
            (
                "health --http https://127.0.0.1",
                ErrorKind::ValueValidation,
            ),
        ] {
            let words = ["token-broker"].into_iter().chain(line.split_whitespace());
            let error = Cli::try_parse_from(words).unwrap_err();
            assert_eq!((error.kind(), error.exit_code()), (kind, 2), "{line}");
        }
    }
}
