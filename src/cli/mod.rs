//! The command line: one file a command.
//!
//! Every command ends with 0 when it did what it says, 1 when it failed and 2
//! when it was called wrongly. What it was asked for goes to standard output,
//! everything else to standard error.

use std::{ffi::OsString, process::ExitCode};

use clap::{Parser, Subcommand};

pub mod audit;
pub mod config;
mod connection;
pub mod credential;
pub mod destination;
pub mod dev;
mod duration;
mod exit;
pub mod grants;
pub mod health;
mod operator;
mod output;
pub mod reload;
mod screen;
pub mod serve;
mod signal;
mod table;
pub mod token;
pub mod upstream;

use self::exit::{EXIT_CODES, called_wrongly};

/// Hands out OAuth 2 access tokens to services, so that no service holds a client secret.
#[derive(Debug, Parser)]
#[command(name = "token-broker", version)]
#[command(arg_required_else_help = true, subcommand_required = true)]
#[command(after_help = EXIT_CODES)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Try a whole broker on this machine, with nothing to set up
    #[command(after_help = EXIT_CODES)]
    Dev(dev::DevArgs),
    /// Run the broker
    #[command(after_help = EXIT_CODES)]
    Serve(serve::ServeArgs),
    /// Check a configuration, or see an example of one
    #[command(after_help = EXIT_CODES)]
    Config(config::ConfigArgs),
    /// Read audit files back
    #[command(after_help = EXIT_CODES)]
    Audit(audit::AuditArgs),
    /// Keep the credentials of applications in a sealed store
    #[command(after_help = EXIT_CODES)]
    Credential(credential::CredentialArgs),
    /// Ask a broker for tokens
    #[command(after_help = EXIT_CODES)]
    Token(token::TokenArgs),
    /// Look at a broker's destinations, refresh them, or stop them
    #[command(after_help = EXIT_CODES)]
    Destination(destination::DestinationArgs),
    /// Find grants and credentials that nobody uses
    #[command(after_help = EXIT_CODES)]
    Grants(grants::GrantsArgs),
    /// Have a broker read its configuration, credentials and certificates again
    ///
    /// Prints what changed, one line each. With a mistake in any of it nothing changes,
    /// and every mistake is printed.
    #[command(after_help = EXIT_CODES)]
    Reload(reload::ReloadArgs),
    /// Exit with 0 when a broker can hand out tokens, for container probes
    #[command(after_help = EXIT_CODES)]
    Health(health::HealthArgs),
    /// Serve a token endpoint that misbehaves on demand, to test against
    ///
    /// Prints its base URL, then serves until Ctrl-C. Paths:
    /// `/destinations/{id}/token`, `/dataProviders/tokens` and `/oauth2/token`.
    /// Any client id and secret is accepted unless applications are named.
    /// Its tokens are worthless and spell for whom they were minted.
    #[command(after_help = EXIT_CODES)]
    Upstream(upstream::UpstreamArgs),
}

impl Cli {
    /// Reads a command line, the name of the program included.
    ///
    /// # Errors
    /// The exit code, once it was said what is wrong, or help was shown.
    pub fn read(arguments: impl IntoIterator<Item = OsString>) -> Result<Self, ExitCode> {
        let arguments: Vec<_> = arguments.into_iter().collect();
        Self::try_parse_from(&arguments).map_err(|error| {
            if let Some(refusal) = credential::refusal(&arguments, &error) {
                return called_wrongly(refusal);
            }
            // Where nobody reads what is wrong, the exit code still says so.
            let _ = error.print();
            ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(1))
        })
    }

    /// Does what the command line asks for.
    pub async fn run(self) -> ExitCode {
        match self.command {
            Command::Dev(args) => dev::run(args).await,
            Command::Serve(args) => serve::run(args).await,
            Command::Config(args) => config::run(args),
            Command::Audit(args) => audit::run(args),
            Command::Credential(args) => credential::run(args).await,
            Command::Token(args) => token::run(args).await,
            Command::Destination(args) => destination::run(args).await,
            Command::Grants(args) => grants::run(args).await,
            Command::Reload(args) => reload::run(args).await,
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
    fn every_command_says_what_it_does_takes_and_ends_with() {
        fn check(command: &clap::Command) {
            if command.get_name() == "help" {
                return;
            }
            assert!(command.get_about().is_some(), "{}", command.get_name());
            let end = command.get_after_help().map(ToString::to_string);
            assert_eq!(end.as_deref(), Some(EXIT_CODES), "{}", command.get_name());
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
            ("audit verify", ErrorKind::MissingRequiredArgument),
            ("token get orders --timeout 0s", ErrorKind::ValueValidation),
            ("token get orders --output xml", ErrorKind::InvalidValue),
            (
                "destination explain orders",
                ErrorKind::MissingRequiredArgument,
            ),
            (
                "destination quarantine orders",
                ErrorKind::MissingRequiredArgument,
            ),
            ("destination list orders", ErrorKind::UnknownArgument),
            ("grants unused --for 30", ErrorKind::ValueValidation),
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
