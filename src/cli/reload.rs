//! `token-broker reload`: has a broker read everything again.

use std::{
    io::{self, Write as _},
    process::ExitCode,
};

use clap::Args;

use super::{
    connection::ConnectionArgs,
    operator::{Desk, OperatorError, ended},
};
use crate::api::admin::v1::ReloadRequest;

/// The arguments of `reload`.
#[derive(Debug, Args)]
pub struct ReloadArgs {
    #[command(flatten)]
    connection: ConnectionArgs,
}

/// Runs `reload`.
pub async fn run(args: ReloadArgs) -> ExitCode {
    ended(reload(args).await)
}

async fn reload(args: ReloadArgs) -> Result<ExitCode, OperatorError> {
    let mut desk = Desk::open(args.connection).await?;
    let answer = desk
        .call(ReloadRequest {}, async |client, request| {
            client.reload(request).await
        })
        .await?;
    let mut to = io::stdout().lock();
    for change in &answer.changes {
        writeln!(to, "{change}")?;
    }
    if answer.changes.is_empty() {
        writeln!(to, "nothing has changed")?;
    }
    Ok(ExitCode::SUCCESS)
}
