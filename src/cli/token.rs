//! `token-broker token`: the client, for people and scripts.

mod watch;

use std::{
    env,
    io::{self, Write},
    process::ExitCode,
};

use clap::{Args, Subcommand};
use serde::Serialize;
use tokio::time::Instant;

use super::{
    connection::ConnectionArgs,
    duration::duration,
    exit::{EXIT_CODES, called_wrongly, failed},
    output::Output,
};
use crate::{
    api::v1::{GetTokenRequest, token_broker_client::TokenBrokerClient},
    client::{self, BearerToken, ConnectError, Incomplete, Refusal, Settings},
    trace_context::TraceContext,
};

/// The arguments of `token`.
#[derive(Debug, Args)]
#[command(arg_required_else_help = true)]
pub struct TokenArgs {
    #[command(subcommand)]
    command: TokenCommand,
}

#[derive(Debug, Subcommand)]
enum TokenCommand {
    /// Get a token that is valid now
    ///
    /// Prints the token alone, so that a script can write
    /// `curl -H "Authorization: Bearer $(token-broker token get DESTINATION)" …`.
    /// A failure is one line on standard error: a reason code, what to do about
    /// it, and when to try again if that can help.
    ///
    /// The call is a part of the trace that the variable TRACEPARENT names, if it is set.
    #[command(after_help = EXIT_CODES)]
    Get(GetArgs),
    /// Print a token, and each successor as soon as there is one, until Ctrl-C
    ///
    /// Prints one token a line. Whenever there is none, or the broker cannot be
    /// reached, one line on standard error says so, and the watch goes on. It
    /// ends by itself only where somebody has to act first.
    #[command(after_help = EXIT_CODES)]
    Watch(watch::WatchArgs),
}

#[derive(Debug, Args)]
struct GetArgs {
    /// The id, or the configured name, of the destination
    destination: String,
    /// How long the token must still live, such as 5m
    #[arg(long, value_name = "DURATION", value_parser = validity)]
    min_validity: Option<prost_types::Duration>,
    /// What to print: the token alone, or JSON with its type, its id and its expiry too
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t = Output::Text)]
    output: Output,
    #[command(flatten)]
    connection: ConnectionArgs,
}

/// Why there is nothing to print.
#[derive(Debug, thiserror::Error)]
enum TokenError {
    #[error(transparent)]
    Connect(#[from] ConnectError),
    #[error("{0}")]
    Refused(Refusal),
    #[error(transparent)]
    Incomplete(#[from] Incomplete),
    #[error("cannot write the token: {0}")]
    Write(#[from] io::Error),
}

/// Runs `token`.
pub async fn run(args: TokenArgs) -> ExitCode {
    let ended = match args.command {
        TokenCommand::Get(args) => {
            let deadline = Instant::now() + args.connection.timeout;
            let settings = match args.connection.settings() {
                Ok(settings) => settings,
                Err(missing) => return called_wrongly(missing),
            };
            let request = GetTokenRequest {
                destination_id: args.destination,
                min_validity: args.min_validity,
            };
            get(&settings, request, args.output, deadline).await
        }
        TokenCommand::Watch(args) => match args.begin() {
            Ok(watch) => watch.run().await,
            Err(missing) => return called_wrongly(missing),
        },
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        // No error of ours, but the broker's answer: its reason code comes first, for scripts.
        Err(TokenError::Refused(refusal)) => {
            eprintln!("{refusal}");
            ExitCode::FAILURE
        }
        Err(error) => failed(error),
    }
}

async fn get(
    settings: &Settings,
    request: GetTokenRequest,
    output: Output,
    deadline: Instant,
) -> Result<(), TokenError> {
    let channel = settings.connect(deadline).await?;
    let mut request = client::request(request, deadline);
    if let Some(parent) = trace_context().and_then(|context| context.to_string().parse().ok()) {
        request.metadata_mut().insert("traceparent", parent);
    }
    let reply = TokenBrokerClient::new(channel)
        .get_token(request)
        .await
        .map_err(|status| TokenError::Refused(Refusal::from(&status)))?;
    let token = BearerToken::read(reply.into_inner(), Instant::now())?;
    print(&token, output, io::stdout().lock())
}

/// The trace that the call goes on with, if whoever started this program names one.
fn trace_context() -> Option<TraceContext> {
    let named = env::var("TRACEPARENT").ok()?;
    TraceContext::parse(named.as_bytes())
}

/// The JSON output.
#[derive(Serialize)]
struct TokenJson<'a> {
    access_token: &'a str,
    token_type: &'a str,
    expires_at: String,
    expires_in: u64,
    token_id: &'a str,
}

/// Prints one token on one line.
fn print(token: &BearerToken, output: Output, mut to: impl Write) -> Result<(), TokenError> {
    match output {
        Output::Text => writeln!(to, "{}", token.access_token.expose())?,
        Output::Json => {
            let json = TokenJson {
                access_token: token.access_token.expose(),
                token_type: &token.token_type,
                expires_at: token.expires_at.to_string(),
                // Whole seconds, rounded down, so that nobody trusts the token for too long.
                expires_in: token.expires_in.as_secs(),
                token_id: &token.id,
            };
            serde_json::to_writer(&mut to, &json).map_err(io::Error::from)?;
            writeln!(to)?;
        }
    }
    Ok(to.flush()?)
}

fn validity(text: &str) -> Result<prost_types::Duration, &'static str> {
    duration(text)?
        .try_into()
        .map_err(|_| "no token lives so long")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::v1::GetTokenResponse;

    fn response() -> GetTokenResponse {
        GetTokenResponse {
            access_token: "eyJ.a.b".to_owned(),
            token_type: "Bearer".to_owned(),
            expires_at: Some(prost_types::Timestamp {
                seconds: 1_800_000_000,
                nanos: 999_999_999,
            }),
            expires_in: Some(prost_types::Duration {
                seconds: 3599,
                nanos: 999_999_999,
            }),
            token_id: "0f".repeat(16),
        }
    }

    fn printed(output: Output) -> String {
        let mut bytes = Vec::new();
        let token = BearerToken::read(response(), Instant::now()).unwrap();
        print(&token, output, &mut bytes).unwrap();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn text_is_the_token_alone() {
        assert_eq!(printed(Output::Text), "eyJ.a.b\n");
    }

    #[test]
    fn json_names_the_expiry_in_whole_seconds_rounded_down() {
        assert_eq!(
            printed(Output::Json),
            concat!(
                r#"{"access_token":"eyJ.a.b","token_type":"Bearer","#,
                r#""expires_at":"2027-01-15T08:00:00Z","expires_in":3599,"#,
                r#""token_id":"0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f"}"#,
                "\n"
            )
        );
    }
}
