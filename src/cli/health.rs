//! `token-broker health`: a probe for containers that have no shell.

use std::{process::ExitCode, time::Duration};

use bytes::Bytes;
use clap::Args;
use http::{Request, StatusCode, header::HOST};
use http_body_util::{BodyExt as _, Collected, Empty, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::{net::TcpStream, time::timeout as within};
use url::Url;

use super::{duration::timeout, exit::failed};

/// No answer of the broker is longer; what listens there may be something else.
const MAX_BODY: usize = 64 * 1024;

/// The arguments of `health`.
#[derive(Debug, Args)]
pub struct HealthArgs {
    /// The broker's plain HTTP address for health and metrics
    #[arg(
        long,
        value_name = "URL",
        env = "TOKEN_BROKER_HTTP",
        hide_env_values = true,
        default_value = "http://127.0.0.1:9464",
        value_parser = plain_http
    )]
    http: Url,
    /// Only ask whether the process is alive, not whether it can hand out tokens
    #[arg(long)]
    live: bool,
    /// How long the command may take
    #[arg(long, value_name = "DURATION", default_value = "2s", value_parser = timeout)]
    timeout: Duration,
}

/// Runs `health`.
pub async fn run(args: HealthArgs) -> ExitCode {
    let path = if args.live { "/healthz" } else { "/readyz" };
    let answer = within(args.timeout, ask(&args.http, path))
        .await
        .unwrap_or(Err(ProbeError::TimedOut));
    match answer {
        Ok((StatusCode::OK, line)) => {
            println!("{line}");
            ExitCode::SUCCESS
        }
        // No error of ours, but the broker's answer.
        Ok((status, line)) => {
            eprintln!("{}: {line}", status.as_u16());
            ExitCode::FAILURE
        }
        Err(error) => failed(format_args!("cannot ask {}: {error}", args.http)),
    }
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
enum ProbeError {
    #[error("{0}")]
    Connect(std::io::Error),
    #[error("what listens there speaks no HTTP/1.1")]
    Http,
    #[error("no answer in time")]
    TimedOut,
}

/// The status, and the first line of the body.
async fn ask(base: &Url, path: &str) -> Result<(StatusCode, String), ProbeError> {
    let authority = base.authority();
    let port = base.port_or_known_default().unwrap_or_default();
    let address = format!("{}:{port}", base.host_str().unwrap_or_default());
    let stream = TcpStream::connect(address)
        .await
        .map_err(ProbeError::Connect)?;

    let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|_| ProbeError::Http)?;
    let request = Request::get(path)
        .header(HOST, authority)
        .body(Empty::<Bytes>::new())
        .map_err(|_| ProbeError::Http)?;
    let exchange = async move {
        let response = sender.send_request(request).await?;
        let status = response.status();
        let body = Limited::new(response.into_body(), MAX_BODY).collect().await;
        let body = body.map(Collected::to_bytes).unwrap_or_default();
        Ok::<_, hyper::Error>((status, first_line(&body)))
    };
    // The connection ends once the exchange has dropped its sender.
    let (answer, _) = tokio::join!(exchange, connection);
    answer.map_err(|_| ProbeError::Http)
}

fn first_line(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body);
    text.lines().next().unwrap_or_default().to_owned()
}

fn plain_http(text: &str) -> Result<Url, &'static str> {
    Url::parse(text)
        .ok()
        .filter(|url| url.scheme() == "http" && url.has_host())
        .ok_or("give a URL such as http://127.0.0.1:9464; health is served without TLS")
}
