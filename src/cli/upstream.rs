//! `token-broker upstream`: a token endpoint to test against.

use std::{
    io::{self, Write},
    net::SocketAddr,
    path::PathBuf,
    process::ExitCode,
    time::Duration,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use clap::Args;

use super::{duration::duration, exit::failed, signal::Signals};
use crate::{
    secret::Secret,
    upstream::standin::{Behaviour, Expiry, Fault, Standin, StandinSettings},
};

/// The arguments of `upstream`.
#[derive(Args, Clone, Debug)]
pub struct UpstreamArgs {
    /// Where to listen; port 0 takes any free port
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:0")]
    pub listen: SocketAddr,

    /// Accept only this application (repeatable); its secret is drawn and printed
    #[arg(long, value_name = "DESTINATION:CLIENT_ID", value_parser = application)]
    pub application: Vec<Application>,

    /// Take the secret of all applications from this file instead of drawing them
    #[arg(long, value_name = "FILE", requires = "application")]
    pub secret_file: Option<PathBuf>,

    /// Let every answer take this long, such as 500ms
    #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "0s")]
    pub delay: Duration,

    /// Let tokens live this long
    #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "60m")]
    pub lifetime: Duration,

    /// Declare this JSON as the lifetime, such as 0, -1, '"3600"' or 1e30; or `missing`
    #[arg(long, value_name = "JSON", allow_hyphen_values = true)]
    pub lie_expiry: Option<String>,

    /// Let the fault (status 503 if none is chosen) hit only this share of requests
    #[arg(long, value_name = "0..1", value_parser = share)]
    pub fail_rate: Option<f64>,

    /// Seed the choice of requests that the fault hits
    #[arg(long, value_name = "NUMBER", default_value_t = 0)]
    pub seed: u64,

    /// Send this Retry-After with the status (429 if none is chosen): seconds, or an HTTP date
    #[arg(long, value_name = "VALUE", conflicts_with_all = ["redirect", "truncate", "reset", "silent", "endless", "garbage", "gzip"])]
    pub retry_after: Option<String>,

    /// What goes wrong.
    #[command(flatten)]
    pub fault: FaultArgs,
}

/// A registered application, as `destination:client_id`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Application {
    /// The destination.
    pub destination: String,
    /// The client id, which may hold colons.
    pub client_id: String,
}

/// The faults, of which one can be chosen.
#[derive(Args, Clone, Debug, Default)]
#[group(multiple = false)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a flag of the command line"
)]
pub struct FaultArgs {
    /// Answer with this status
    #[arg(long, value_name = "STATUS", value_parser = clap::value_parser!(u16).range(200..=599))]
    pub status: Option<u16>,

    /// Answer with a redirect (307) to this URL
    #[arg(long, value_name = "URL")]
    pub redirect: Option<String>,

    /// Send half of an answer, then close the connection
    #[arg(long)]
    pub truncate: bool,

    /// Reset the connection
    #[arg(long)]
    pub reset: bool,

    /// Never answer
    #[arg(long)]
    pub silent: bool,

    /// Send a body that never ends
    #[arg(long)]
    pub endless: bool,

    /// Answer with a page of HTML
    #[arg(long)]
    pub garbage: bool,

    /// Answer with a body that says it is compressed
    #[arg(long)]
    pub gzip: bool,
}

/// Why the stand-in does not serve.
#[derive(Debug, thiserror::Error)]
pub enum UpstreamCommandError {
    /// The address cannot be listened on.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// The file with the secret cannot be read.
    #[error("cannot read the secret from {}: {source}", .path.display())]
    SecretFile {
        /// The file.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// Standard output is out of order.
    #[error("cannot write to standard output: {0}")]
    Output(#[from] io::Error),
}

/// Runs `upstream` until it is interrupted.
pub async fn run(args: UpstreamArgs) -> ExitCode {
    let signals = Signals::listen();
    match start(&args, &mut io::stdout()).await {
        Ok(standin) => {
            // There is nothing to read anew.
            signals.stop_requested(|| ()).await;
            standin.shutdown().await;
            ExitCode::SUCCESS
        }
        Err(error) => failed(error),
    }
}

/// Starts the stand-in, and prints first its URL and then the secrets it drew.
async fn start(args: &UpstreamArgs, out: &mut impl Write) -> Result<Standin, UpstreamCommandError> {
    let secret = match &args.secret_file {
        Some(path) => Some(read_secret(path.clone()).await?),
        None => None,
    };
    let settings = StandinSettings {
        behaviour: args.behaviour(),
        accept_any: args.application.is_empty(),
        seed: args.seed,
    };
    let address = args.listen;
    let standin = Standin::start(address, settings)
        .await
        .map_err(|source| UpstreamCommandError::Listen { address, source })?;
    writeln!(out, "{}", standin.base_url())?;
    for Application {
        destination,
        client_id,
    } in &args.application
    {
        if let Some(secret) = &secret {
            standin.register(destination, client_id, secret.expose());
            continue;
        }
        // Shown on purpose: nobody could use the application otherwise, and it opens nothing.
        let secret = STANDARD.encode(rand::random::<[u8; 32]>());
        standin.register(destination, client_id, &secret);
        writeln!(out, "{destination} {client_id} {secret}")?;
    }
    out.flush()?;
    Ok(standin)
}

async fn read_secret(path: PathBuf) -> Result<Secret, UpstreamCommandError> {
    match tokio::fs::read_to_string(&path).await {
        // Editors end the last line, and no secret ends with a line break.
        Ok(text) => Ok(Secret::new(text.trim_end_matches(['\r', '\n']).to_owned())),
        Err(source) => Err(UpstreamCommandError::SecretFile { path, source }),
    }
}

impl UpstreamArgs {
    fn behaviour(&self) -> Behaviour {
        Behaviour {
            delay: self.delay,
            lifetime: self.lifetime,
            expiry: match self.lie_expiry.as_deref() {
                None => Expiry::Honest,
                Some("missing") => Expiry::Missing,
                Some(json) => Expiry::Raw(json.to_owned()),
            },
            fault: self.fault(),
            fail_rate: self.fail_rate.unwrap_or(1.0),
            ..Behaviour::default()
        }
    }

    fn fault(&self) -> Option<Fault> {
        let chosen = &self.fault;
        if let Some(to) = chosen.redirect.clone() {
            return Some(Fault::Redirect { status: 307, to });
        }
        let flags = [
            (chosen.truncate, Fault::Truncate),
            (chosen.reset, Fault::Reset),
            (chosen.silent, Fault::Silent),
            (chosen.endless, Fault::Endless),
            (chosen.garbage, Fault::Body(HTML.to_owned())),
            (chosen.gzip, Fault::Gzip),
        ];
        if let Some((_, fault)) = flags.into_iter().find(|(given, _)| *given) {
            return Some(fault);
        }
        let status = match (chosen.status, &self.retry_after, self.fail_rate) {
            (Some(status), _, _) => status,
            (None, Some(_), _) => 429,
            (None, None, Some(_)) => 503,
            (None, None, None) => return None,
        };
        Some(Fault::Status {
            status,
            retry_after: self.retry_after.clone(),
        })
    }
}

/// What a gateway answers when it would rather talk to a person.
const HTML: &str = "<!doctype html><title>Sign in</title><h1>Sign in</h1>";

fn application(text: &str) -> Result<Application, &'static str> {
    match text.split_once(':') {
        Some((destination, client_id)) if !destination.is_empty() && !client_id.is_empty() => {
            Ok(Application {
                destination: destination.to_owned(),
                client_id: client_id.to_owned(),
            })
        }
        _ => Err("expected DESTINATION:CLIENT_ID"),
    }
}

fn share(text: &str) -> Result<f64, &'static str> {
    text.parse()
        .ok()
        .filter(|share| (0.0..=1.0).contains(share))
        .ok_or("expected a number from 0 to 1")
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::{CommandFactory as _, Parser};

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: UpstreamArgs,
    }

    fn parse(line: &str) -> Result<UpstreamArgs, clap::Error> {
        let words = std::iter::once("upstream").chain(line.split_whitespace());
        Line::try_parse_from(words).map(|line| line.args)
    }

    fn status(status: u16, retry_after: Option<&str>) -> Fault {
        let retry_after = retry_after.map(str::to_owned);
        Fault::Status {
            status,
            retry_after,
        }
    }

    #[test]
    fn flags_become_behaviour() {
        Line::command().debug_assert();
        assert_eq!(parse("").unwrap().behaviour(), Behaviour::default());
        let behaviour = parse("--delay 500ms --lifetime 2m --lie-expiry -1 --fail-rate 0.1")
            .unwrap()
            .behaviour();
        assert_eq!(behaviour.delay, Duration::from_millis(500));
        assert_eq!(behaviour.lifetime, Duration::from_secs(120));
        assert_eq!(behaviour.expiry, Expiry::Raw("-1".to_owned()));
        for (line, expected) in [
            ("--fail-rate 0.1", status(503, None)),
            ("--status 500", status(500, None)),
            ("--retry-after 30", status(429, Some("30"))),
            ("--status 503 --retry-after 30", status(503, Some("30"))),
            ("--truncate --fail-rate 0.5", Fault::Truncate),
            ("--reset", Fault::Reset),
            ("--silent", Fault::Silent),
            ("--endless", Fault::Endless),
            ("--garbage", Fault::Body(HTML.to_owned())),
            ("--gzip", Fault::Gzip),
            (
                "--redirect http://x/",
                Fault::Redirect {
                    status: 307,
                    to: "http://x/".to_owned(),
                },
            ),
        ] {
            let fault = parse(line).unwrap().behaviour().fault;
            assert_eq!(fault, Some(expected), "{line}");
        }
    }

    #[test]
    fn flags_that_contradict_or_lack_a_unit_are_mistakes() {
        for line in [
            "--silent --reset",
            "--status 500 --truncate",
            "--silent --retry-after 3",
            "--delay 5",
            "--delay -5s",
            "--fail-rate 2",
            "--fail-rate NaN",
            "--status 99",
            "--application shop",
            "--application :shop",
            "--secret-file x",
        ] {
            assert!(parse(line).is_err(), "{line}");
        }
    }

    #[tokio::test]
    async fn the_url_is_printed_first_and_drawn_secrets_after_it() {
        let mut printed = Vec::new();
        let args = parse("--application d:shop --application d:cms").unwrap();
        let standin = start(&args, &mut printed).await.unwrap();
        let printed = String::from_utf8(printed).unwrap();
        let lines: Vec<_> = printed.lines().collect();
        assert_eq!(lines[0], standin.base_url());
        assert!(lines[1].starts_with("d shop ") && lines[2].starts_with("d cms "));
        assert_eq!(lines.len(), 3);
        standin.shutdown().await;
    }

    #[tokio::test]
    async fn a_secret_from_a_file_is_not_printed() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "canary\n").unwrap();
        let mut args = parse("--application d:shop").unwrap();
        args.secret_file = Some(file.path().to_owned());
        let mut printed = Vec::new();
        let standin = start(&args, &mut printed).await.unwrap();
        assert_eq!(printed, format!("{}\n", standin.base_url()).into_bytes());
        args.secret_file = Some("/nonexistent/secret".into());
        let failed = start(&args, &mut Vec::new()).await;
        assert!(matches!(
            failed,
            Err(UpstreamCommandError::SecretFile { .. })
        ));
    }
}
