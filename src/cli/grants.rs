//! `token-broker grants`: which grants nobody needs.

use std::{
    io::{self, Write},
    process::ExitCode,
    time::Duration,
};

use clap::{Args, Subcommand};
use jiff::Timestamp;
use serde::Serialize;

use super::{
    connection::ConnectionArgs,
    duration::long_duration,
    exit::EXIT_CODES,
    operator::{Brief, Desk, OperatorError, ended, moment, text},
    output::Output,
    table::{Column, table},
};
use crate::api::admin::v1::{UnusedGrant, UnusedGrantsRequest};

/// The arguments of `grants`.
#[derive(Debug, Args)]
#[command(arg_required_else_help = true)]
pub struct GrantsArgs {
    #[command(subcommand)]
    command: GrantsCommand,
}

#[derive(Debug, Subcommand)]
enum GrantsCommand {
    /// List grants and credentials that nobody used for a while
    ///
    /// What was never used counts from when this broker first knew of it. With
    /// `[admin] state_file` both are remembered over a restart.
    #[command(after_help = EXIT_CODES)]
    Unused(UnusedArgs),
}

#[derive(Debug, Args)]
struct UnusedArgs {
    /// For how long nobody used them, such as 720h or 30d
    #[arg(long = "for", value_name = "DURATION", default_value = "30d", value_parser = long_duration)]
    idle_for: Duration,
    /// What to print: a table, or JSON
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t = Output::Text)]
    output: Output,
    #[command(flatten)]
    connection: ConnectionArgs,
}

/// What a SPIFFE ID may need is not cut: it is the last column.
const COLUMNS: [Column; 5] = [
    ("DESTINATION", 36),
    ("APPLICATION", 12),
    ("USED", 5),
    ("KNOWN", 5),
    ("CALLERS OR CREDENTIAL", usize::MAX),
];

#[derive(Serialize)]
struct UnusedJson<'a> {
    kind: &'static str,
    destination_id: &'a str,
    application: &'a str,
    caller_pattern: &'a str,
    credential: &'a str,
    last_used_at: Option<String>,
    known_since: Option<String>,
}

/// Runs `grants`.
pub async fn run(args: GrantsArgs) -> ExitCode {
    let GrantsCommand::Unused(args) = args.command;
    ended(unused(args).await)
}

async fn unused(args: UnusedArgs) -> Result<ExitCode, OperatorError> {
    let request = UnusedGrantsRequest {
        idle_for: args.idle_for.try_into().ok(),
    };
    let mut desk = Desk::open(args.connection).await?;
    let answer = desk
        .call(request, async |client, request| {
            client.unused_grants(request).await
        })
        .await?;
    let mut to = io::stdout().lock();
    match args.output {
        Output::Text => to.write_all(lines(&answer.grants, Timestamp::now()).as_bytes())?,
        Output::Json => {
            let json: Vec<_> = answer.grants.iter().map(UnusedJson::from).collect();
            let json = serde_json::json!({ "unused": json });
            writeln!(to, "{json}")?;
        }
    }
    to.flush()?;
    Ok(ExitCode::SUCCESS)
}

fn lines(unused: &[UnusedGrant], now: Timestamp) -> String {
    if unused.is_empty() {
        return "everything was used\n".to_owned();
    }
    let rows: Vec<_> = unused.iter().map(|unused| row(unused, now)).collect();
    table(COLUMNS, &rows)
}

fn row(unused: &UnusedGrant, now: Timestamp) -> [String; 5] {
    let since = |at: &Option<prost_types::Timestamp>| {
        moment(at.as_ref()).map(|at| Brief::since(at, now).to_string())
    };
    let what = if is_credential(unused) {
        &unused.credential
    } else {
        &unused.caller_pattern
    };
    [
        unused.destination_id.clone(),
        unused.application.clone(),
        since(&unused.last_used_at).unwrap_or_else(|| "never".to_owned()),
        since(&unused.known_since).unwrap_or_default(),
        what.clone(),
    ]
}

fn is_credential(unused: &UnusedGrant) -> bool {
    !unused.credential.is_empty()
}

impl<'a> From<&'a UnusedGrant> for UnusedJson<'a> {
    fn from(unused: &'a UnusedGrant) -> Self {
        Self {
            kind: if is_credential(unused) {
                "credential"
            } else {
                "grant"
            },
            destination_id: &unused.destination_id,
            application: &unused.application,
            caller_pattern: &unused.caller_pattern,
            credential: &unused.credential,
            last_used_at: text(unused.last_used_at.as_ref()),
            known_since: text(unused.known_since.as_ref()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grants_and_credentials_stand_in_one_table() {
        const DAY: i64 = 24 * 60 * 60;
        let at = |seconds| Some(prost_types::Timestamp { seconds, nanos: 0 });
        let now = Timestamp::from_second(100 * DAY).unwrap();
        let grant = UnusedGrant {
            destination_id: "orders".to_owned(),
            caller_pattern: "spiffe://corp.example/ns/shop/**".to_owned(),
            application: "shop".to_owned(),
            known_since: at(40 * DAY),
            ..UnusedGrant::default()
        };
        let credential = UnusedGrant {
            credential: "file:depot".to_owned(),
            last_used_at: at(60 * DAY),
            known_since: at(10 * DAY),
            ..UnusedGrant::default()
        };
        assert_eq!(
            lines(&[grant, credential], now),
            "\
DESTINATION  APPLICATION  USED   KNOWN  CALLERS OR CREDENTIAL
orders       shop         never  60d    spiffe://corp.example/ns/shop/**
                          40d    90d    file:depot
"
        );
        assert_eq!(lines(&[], now), "everything was used\n");
    }
}
