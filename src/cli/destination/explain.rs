//! `destination explain`.

use std::{
    io::{self, Write},
    process::ExitCode,
};

use clap::Args;
use serde::Serialize;

use crate::{
    api::admin::v1::{ExplainRequest, ExplainResponse},
    cli::{
        connection::ConnectionArgs,
        operator::{Desk, OperatorError},
        output::Output,
    },
};

#[derive(Debug, Args)]
pub(super) struct ExplainArgs {
    /// The id, or the configured name, of the destination
    destination: String,
    /// The SPIFFE ID or DNS name of the caller in question
    #[arg(long, value_name = "ID")]
    caller: String,
    /// What to print: a few lines, or JSON
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t = Output::Text)]
    output: Output,
    #[command(flatten)]
    connection: ConnectionArgs,
}

#[derive(Serialize)]
struct ExplanationJson<'a> {
    granted: bool,
    rule: &'a str,
    application: &'a str,
    cache_decision: &'a str,
}

pub(super) async fn run(args: ExplainArgs) -> Result<ExitCode, OperatorError> {
    let request = ExplainRequest {
        caller: args.caller,
        destination_id: args.destination,
    };
    let mut desk = Desk::open(args.connection).await?;
    let answer = desk
        .call(request, async |client, request| {
            client.explain(request).await
        })
        .await?;
    print(&answer, args.output, io::stdout().lock())?;
    Ok(if answer.granted {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn print(answer: &ExplainResponse, output: Output, mut to: impl Write) -> io::Result<()> {
    let ExplainResponse {
        granted,
        rule,
        application,
        cache_decision,
    } = answer;
    match output {
        Output::Text => {
            let verdict = if *granted { "granted" } else { "not granted" };
            writeln!(to, "{verdict}: {rule}")?;
            writeln!(to, "the broker {cache_decision}")?;
        }
        Output::Json => {
            let json = ExplanationJson {
                granted: *granted,
                rule,
                application,
                cache_decision,
            };
            serde_json::to_writer(&mut to, &json).map_err(io::Error::from)?;
            writeln!(to)?;
        }
    }
    to.flush()
}
