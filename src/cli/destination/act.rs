//! `destination refresh`, `quarantine` and `release`.

use std::{
    io::{self, Write as _},
    process::ExitCode,
};

use clap::Args;

use crate::{
    api::admin::v1::{QuarantineRequest, RefreshRequest, Refreshed, ReleaseRequest, Replicas},
    cli::{
        connection::ConnectionArgs,
        operator::{Desk, OperatorError, moment},
    },
};

/// Which destination, and which of its applications.
#[derive(Debug, Args)]
struct TargetArgs {
    /// The id, or the configured name, of the destination
    destination: String,
    /// One of its applications; all of them without
    #[arg(long, value_name = "NAME")]
    application: Option<String>,
}

#[derive(Debug, Args)]
pub(super) struct RefreshArgs {
    #[command(flatten)]
    target: TargetArgs,
    #[command(flatten)]
    connection: ConnectionArgs,
}

#[derive(Debug, Args)]
pub(super) struct QuarantineArgs {
    #[command(flatten)]
    target: TargetArgs,
    /// Why, for whoever finds it stopped
    #[arg(long, value_name = "TEXT")]
    comment: String,
    #[command(flatten)]
    connection: ConnectionArgs,
}

#[derive(Debug, Args)]
pub(super) struct ReleaseArgs {
    #[command(flatten)]
    target: TargetArgs,
    #[command(flatten)]
    connection: ConnectionArgs,
}

pub(super) async fn refresh(args: RefreshArgs) -> Result<ExitCode, OperatorError> {
    let request = RefreshRequest {
        destination_id: args.target.destination,
        application: args.target.application.unwrap_or_default(),
    };
    let mut desk = Desk::open(args.connection).await?;
    let answer = desk
        .call(request, async |client, request| {
            client.refresh(request).await
        })
        .await?;
    let mut failed = false;
    for Refreshed {
        application,
        token_id,
        expires_at,
        reason,
    } in answer.refreshed
    {
        if reason.is_empty() {
            let until = moment(expires_at.as_ref());
            let until = until.map_or_else(String::new, |at| format!(", expires {at}"));
            writeln!(io::stdout(), "{application}: token {token_id}{until}")?;
        } else {
            failed = true;
            eprintln!("{application}: {reason}");
        }
    }
    Ok(if failed {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

pub(super) async fn quarantine(args: QuarantineArgs) -> Result<ExitCode, OperatorError> {
    let TargetArgs {
        destination,
        application,
    } = args.target;
    let request = QuarantineRequest {
        destination_id: destination.clone(),
        comment: args.comment,
        application: application.unwrap_or_default(),
    };
    let mut desk = Desk::open(args.connection).await?;
    let answer = desk
        .call(request, async |client, request| {
            client.quarantine(request).await
        })
        .await?;
    say("stopped", &destination, &answer.applications)?;
    if !answer.kept {
        eprintln!("a restart ends this: there is no [admin] state_file, or it cannot be written");
    }
    say_where(answer.replicas(), "stop it as well")?;
    Ok(ExitCode::SUCCESS)
}

pub(super) async fn release(args: ReleaseArgs) -> Result<ExitCode, OperatorError> {
    let TargetArgs {
        destination,
        application,
    } = args.target;
    let request = ReleaseRequest {
        destination_id: destination.clone(),
        application: application.unwrap_or_default(),
    };
    let mut desk = Desk::open(args.connection).await?;
    let answer = desk
        .call(request, async |client, request| {
            client.release(request).await
        })
        .await?;
    if answer.applications.is_empty() && answer.all {
        writeln!(io::stdout(), "released: {destination}")?;
    } else if answer.applications.is_empty() {
        writeln!(io::stdout(), "nothing of {destination} was stopped here")?;
    } else {
        say("released", &destination, &answer.applications)?;
    }
    if !answer.kept {
        eprintln!(
            "the state file cannot be written: what it says is stopped, a restart stops again"
        );
    }
    say_where(answer.replicas(), "release what they stopped")?;
    Ok(ExitCode::SUCCESS)
}

fn say(what: &str, destination: &str, applications: &[String]) -> io::Result<()> {
    let applications = applications.join(", ");
    writeln!(io::stdout(), "{what}: {destination} ({applications})")
}

/// Says where else it counts, if replicas share anything: it is known that they can
/// hear of it, and not whether they did.
fn say_where(replicas: Replicas, others: &str) -> io::Result<()> {
    match replicas {
        Replicas::Unspecified | Replicas::None => {}
        Replicas::Told => writeln!(
            io::stdout(),
            "the shared cache has it: replicas that reach it {others}"
        )?,
        Replicas::NotToldYet => eprintln!(
            "the shared cache did not take it: other replicas cannot hear of it before it does"
        ),
    }
    Ok(())
}
