//! `token-broker destination`: what an operator does to destinations.

use std::process::ExitCode;

use clap::{Args, Subcommand};

mod act;
mod explain;
mod list;
mod replicas;
mod watch;

use super::{exit::EXIT_CODES, operator::ended};

/// The arguments of `destination`.
#[derive(Debug, Args)]
#[command(arg_required_else_help = true)]
pub struct DestinationArgs {
    #[command(subcommand)]
    command: DestinationCommand,
}

#[derive(Debug, Subcommand)]
enum DestinationCommand {
    /// List all destinations, with what callers would meet now
    ///
    /// NEXT is when the next token is minted or tried again, RUNWAY how long callers
    /// would notice nothing if that failed, USED when somebody asked last.
    ///
    /// With --watch it runs until Ctrl-C, which ends it with 0, and says when the broker does
    /// not answer, answers again, or was started anew.
    #[command(after_help = EXIT_CODES)]
    List(list::ListArgs),
    /// Say whether a caller may have a token, by which rule, and what it would get
    ///
    /// Mints nothing. Ends with 0 when the caller is granted the destination and with
    /// 1 when it is not.
    #[command(after_help = EXIT_CODES)]
    Explain(explain::ExplainArgs),
    /// Mint a new token now; the current one stays until it arrives
    #[command(after_help = EXIT_CODES)]
    Refresh(act::RefreshArgs),
    /// Stop a destination: forget its tokens, refuse its callers, mint nothing
    ///
    /// It lasts until `release`, at this broker and at all that share with it. With
    /// `[admin] state_file` it outlives a restart of the broker.
    #[command(after_help = EXIT_CODES)]
    Quarantine(act::QuarantineArgs),
    /// End a quarantine
    #[command(after_help = EXIT_CODES)]
    Release(act::ReleaseArgs),
}

/// Runs `destination`.
pub async fn run(args: DestinationArgs) -> ExitCode {
    ended(match args.command {
        DestinationCommand::List(args) => list::run(args).await,
        DestinationCommand::Explain(args) => explain::run(args).await,
        DestinationCommand::Refresh(args) => act::refresh(args).await,
        DestinationCommand::Quarantine(args) => act::quarantine(args).await,
        DestinationCommand::Release(args) => act::release(args).await,
    })
}
