//! `token-broker token`: the client, for people and scripts.

use std::{
    io::{self, Write},
    process::ExitCode,
};

use clap::{Args, Subcommand};
use jiff::Timestamp;
use serde::Serialize;
use tokio::time::Instant;

use super::{
    connection::ConnectionArgs,
    duration::duration,
    exit::{EXIT_CODES, called_wrongly, failed},
    output::Output,
};
use crate::{
    api::v1::{GetTokenRequest, GetTokenResponse, token_broker_client::TokenBrokerClient},
    client::{self, ConnectError, Refusal, Settings},
    secret::Secret,
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
    #[command(after_help = EXIT_CODES)]
    Get(GetArgs),
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
enum GetError {
    #[error(transparent)]
    Connect(#[from] ConnectError),
    #[error("{0}")]
    Refused(Refusal),
    #[error("the broker's answer lacks {0}; is it of the same version?")]
    Incomplete(&'static str),
    #[error("cannot write the token: {0}")]
    Write(#[from] io::Error),
}

/// Runs `token`.
pub async fn run(args: TokenArgs) -> ExitCode {
    let TokenCommand::Get(args) = args.command;
    let deadline = Instant::now() + args.connection.timeout;
    let settings = match args.connection.settings() {
        Ok(settings) => settings,
        Err(missing) => return called_wrongly(missing),
    };
    let request = GetTokenRequest {
        destination_id: args.destination,
        min_validity: args.min_validity,
    };
    match get(&settings, request, args.output, deadline).await {
        Ok(()) => ExitCode::SUCCESS,
        // No error of ours, but the broker's answer: its reason code comes first, for scripts.
        Err(GetError::Refused(refusal)) => {
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
) -> Result<(), GetError> {
    let channel = settings.connect(deadline).await?;
    let reply = TokenBrokerClient::new(channel)
        .get_token(client::request(request, deadline))
        .await
        .map_err(|status| GetError::Refused(Refusal::from(&status)))?;
    Reply::try_from(reply.into_inner())?.print(output, io::stdout().lock())
}

/// A complete answer, in the types of the output.
struct Reply {
    access_token: Secret,
    token_type: String,
    expires_at: Timestamp,
    expires_in: i64,
    token_id: String,
}

/// The JSON output.
#[derive(Serialize)]
struct ReplyJson<'a> {
    access_token: &'a str,
    token_type: &'a str,
    expires_at: String,
    expires_in: i64,
    token_id: &'a str,
}

impl TryFrom<GetTokenResponse> for Reply {
    type Error = GetError;

    fn try_from(response: GetTokenResponse) -> Result<Self, GetError> {
        let access_token = Secret::new(response.access_token);
        if access_token.expose().is_empty() {
            return Err(GetError::Incomplete("access_token"));
        }
        // Whole seconds, rounded down, so that nobody trusts the token for too long.
        let expires_at = response
            .expires_at
            .and_then(|at| Timestamp::from_second(at.seconds).ok())
            .ok_or(GetError::Incomplete("expires_at"))?;
        let expires_in = response
            .expires_in
            .ok_or(GetError::Incomplete("expires_in"))?;
        Ok(Self {
            access_token,
            token_type: response.token_type,
            expires_at,
            expires_in: expires_in.seconds,
            token_id: response.token_id,
        })
    }
}

impl Reply {
    fn print(&self, output: Output, mut to: impl Write) -> Result<(), GetError> {
        match output {
            Output::Text => writeln!(to, "{}", self.access_token.expose())?,
            Output::Json => {
                let json = ReplyJson {
                    access_token: self.access_token.expose(),
                    token_type: &self.token_type,
                    expires_at: self.expires_at.to_string(),
                    expires_in: self.expires_in,
                    token_id: &self.token_id,
                };
                serde_json::to_writer(&mut to, &json).map_err(io::Error::from)?;
                writeln!(to)?;
            }
        }
        Ok(to.flush()?)
    }
}

fn validity(text: &str) -> Result<prost_types::Duration, &'static str> {
    duration(text)?
        .try_into()
        .map_err(|_| "no token lives so long")
}

#[cfg(test)]
mod tests {
    use super::*;

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
        let reply = Reply::try_from(response()).unwrap();
        reply.print(output, &mut bytes).unwrap();
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

    #[test]
    fn an_incomplete_answer_is_a_failure() {
        for (response, lacks) in [
            (
                GetTokenResponse {
                    access_token: String::new(),
                    ..response()
                },
                "access_token",
            ),
            (
                GetTokenResponse {
                    expires_at: None,
                    ..response()
                },
                "expires_at",
            ),
            (
                GetTokenResponse {
                    expires_in: None,
                    ..response()
                },
                "expires_in",
            ),
        ] {
            let error = Reply::try_from(response).err().unwrap().to_string();
            assert!(error.contains(lacks) && !error.contains("eyJ"), "{error}");
        }
    }
}
