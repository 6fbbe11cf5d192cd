//! `token-broker credential`: keeps the sealed store.
//!
//! | file | holds |
//! |---|---|
//! | `init`, `set`, `rotate`, `list`, `verify`, `remove` | one command each |
//! | `site` | the configuration and the store that a command works on |
//! | `source` | where a secret comes from: a pipe, a file or a prompt |
//! | `users` | who uses a credential |
//! | `verdict` | minting once, and what came of it |
//! | `discreet` | arguments that may be secrets, which are not repeated |
//! | `error` | why a command failed |

mod discreet;
mod error;
mod init;
mod list;
mod remove;
mod rotate;
mod set;
mod site;
mod source;
mod users;
mod verdict;
mod verify;

use std::process::ExitCode;

use super::exit::{EXIT_CODES, called_wrongly, failed};
use crate::process;

pub(super) use discreet::refusal;
use error::CommandError;

/// The arguments of `credential`.
#[derive(Debug, clap::Args)]
#[command(arg_required_else_help = true)]
pub struct CredentialArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Make a key and an empty store, where the configuration wants them
    ///
    /// Prints the public key, to which others can encrypt. A key that is there already is
    /// kept, and a store that is there already is left alone.
    #[command(after_help = EXIT_CODES)]
    Init(init::InitArgs),
    /// Store a new credential, once it has minted a token
    ///
    /// The secret is read from standard input when that is no terminal, from a file, or
    /// typed when asked for. It is never an argument.
    #[command(after_help = EXIT_CODES)]
    Set(set::SetArgs),
    /// Replace a secret in two steps, without a call that fails
    ///
    /// Without --finish and --abort the new secret is stored beside the current one. Brokers
    /// try it first, and fall back to the current one if it is rejected.
    #[command(after_help = EXIT_CODES)]
    Rotate(rotate::RotateArgs),
    /// Show what is stored, and who uses it; never a secret
    #[command(after_help = EXIT_CODES)]
    List(list::ListArgs),
    /// Mint a token with each secret, and say what came of it
    #[command(after_help = EXIT_CODES)]
    Verify(verify::VerifyArgs),
    /// Forget a credential
    #[command(after_help = EXIT_CODES)]
    Remove(remove::RemoveArgs),
}

/// Runs `credential`.
pub async fn run(args: CredentialArgs) -> ExitCode {
    process::keep_memory_private();
    let done = match args.command {
        Command::Init(args) => init::run(&args),
        Command::Set(args) => set::run(args).await,
        Command::Rotate(args) => rotate::run(args).await,
        Command::List(args) => list::run(&args),
        Command::Verify(args) => verify::run(args).await,
        Command::Remove(args) => remove::run(&args),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        // Each verdict was shown already.
        Err(CommandError::Unverified) => ExitCode::FAILURE,
        Err(CommandError::Config(mistakes)) => {
            eprintln!("{mistakes}");
            ExitCode::FAILURE
        }
        Err(CommandError::Usage(advice)) => called_wrongly(advice),
        Err(error) => failed(error),
    }
}
