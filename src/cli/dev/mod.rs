//! `token-broker dev`: a whole broker on this machine, with nothing to set up.

mod authority;
mod folder;

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::{Path, PathBuf},
    process::ExitCode,
    time::{Duration, Instant},
};

use clap::Args;
use tracing::Level;

pub use self::authority::{Authority, Signed};
use self::folder::{Folder, PROTECTED, Registered, UNPROTECTED, WRONG_SECRET, typed};
use super::{exit::failed, signal::Signals};
use crate::{
    api::v1::{GetTokenRequest, GetTokenResponse, token_broker_client::TokenBrokerClient},
    app::{App, StartError},
    client::{self, ConnectError, Refusal, Settings},
    config::LogFormat,
    process,
    secret::Secret,
    telemetry,
    upstream::standin::{Standin, StandinSettings},
};

/// How many calls the cached latency is the median of.
const CACHED_CALLS: usize = 101;
/// The first call has this long, connecting included.
const FIRST_CALL: Duration = Duration::from_secs(10);

/// The arguments of `dev`.
#[derive(Debug, Args)]
pub struct DevArgs {
    /// Where to write certificates, credentials and the configuration; kept afterwards
    ///
    /// Without it a folder among the system's temporary files is used and removed.
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Where to listen; port 0 takes any free port
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// The least severe events that are logged
    #[arg(long, value_name = "LEVEL", default_value = "warn")]
    log_level: Level,
}

/// Why a trial does not start.
#[derive(Debug, thiserror::Error)]
pub(super) enum DevError {
    #[error("cannot write {}: {source}", .path.display())]
    Write { path: PathBuf, source: io::Error },
    #[error("{} is not empty and was not written by `dev`: choose another --dir", .0.display())]
    Occupied(PathBuf),
    #[error("cannot make certificates: {0}")]
    Certificates(#[from] rcgen::Error),
    #[error("cannot start the embedded upstream: {0}")]
    Upstream(io::Error),
    #[error(transparent)]
    Start(#[from] StartError),
    #[error(transparent)]
    Connect(#[from] ConnectError),
    #[error("the first call was refused: {0}")]
    Refused(Refusal),
}

impl DevError {
    fn write(path: &Path, source: io::Error) -> Self {
        Self::Write {
            path: path.to_owned(),
            source,
        }
    }
}

/// Runs `dev` until it is interrupted.
pub async fn run(args: DevArgs) -> ExitCode {
    if let Err(error) = telemetry::start(args.log_level, LogFormat::Auto) {
        return failed(error);
    }
    match trial(args).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failed(error),
    }
}

async fn trial(args: DevArgs) -> Result<(), DevError> {
    process::keep_memory_private();
    let folder = Folder::create(args.dir)?;
    folder.write_certificates(args.listen)?;
    let upstream = upstream(&folder).await?;
    let config = folder.write_config(args.listen, &upstream.base_url())?;
    let app = App::start(&config).await?;

    let endpoint = format!("https://{}", reachable(app.address()));
    let http = app
        .http_address()
        .map_or_else(String::new, |http| format!("http://{http}"));
    folder.write_env(&endpoint, &http)?;
    let settings = Settings {
        endpoint: endpoint.clone(),
        ca: folder.path("ca.pem"),
        cert: folder.path("client.pem"),
        key: folder.path("client.key"),
    };
    let first = FirstCalls::make(&settings).await?;
    let signals = Signals::listen();

    println!("token-broker {} is running.\n", env!("CARGO_PKG_VERSION"));
    println!("  gRPC over mutual TLS   {endpoint}");
    println!("  status page, metrics   {http}");
    println!("  upstream (embedded)    {}", upstream.base_url());
    println!("  files                  {}\n", folder.path("").display());
    first.print(upstream.calls());
    print_next_steps(&folder);

    signals.stop_requested(|| app.reload()).await;
    app.stop().await;
    upstream.shutdown().await;
    Ok(())
}

/// The embedded token endpoint, which knows one sample's secret and not the other's.
async fn upstream(folder: &Folder) -> Result<Standin, DevError> {
    let loopback = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let upstream = Standin::start(loopback, StandinSettings::default())
        .await
        .map_err(DevError::Upstream)?;
    for sample in [PROTECTED, WRONG_SECRET] {
        let Registered { client_id, secret } = Registered::random();
        upstream.register(sample.id, &client_id, secret.expose());
        let wrong = Registered::random().secret;
        let written = if sample.id == WRONG_SECRET.id {
            wrong
        } else {
            secret
        };
        folder.write_credential(&sample, &client_id, &written)?;
    }
    Ok(upstream)
}

/// The address to connect to for an address that is listened on.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

/// The facts of the first calls.
struct FirstCalls {
    token_id: String,
    expires_in: Duration,
    characters: usize,
    cold: Duration,
    cached: Duration,
}

impl FirstCalls {
    /// Asks as any other client would, first with an empty cache and then with a full one.
    async fn make(settings: &Settings) -> Result<Self, DevError> {
        let deadline = tokio::time::Instant::now() + FIRST_CALL;
        let mut client = TokenBrokerClient::new(settings.connect(deadline).await?);
        let mut call = async || {
            let request = GetTokenRequest {
                destination_id: PROTECTED.name.to_owned(),
                min_validity: None,
            };
            let started = Instant::now();
            let reply = client
                .get_token(client::request(request, deadline))
                .await
                .map_err(|status| DevError::Refused(Refusal::from(&status)))?;
            Ok::<_, DevError>((reply.into_inner(), started.elapsed()))
        };
        let (reply, cold) = call().await?;
        let mut cached = Vec::with_capacity(CACHED_CALLS);
        for _ in 0..CACHED_CALLS {
            let (_, took) = call().await?;
            cached.push(took);
        }
        cached.sort_unstable();
        let GetTokenResponse {
            access_token,
            token_id,
            expires_in,
            ..
        } = reply;
        Ok(Self {
            token_id,
            expires_in: expires_in
                .and_then(|left| left.try_into().ok())
                .unwrap_or_default(),
            characters: Secret::new(access_token).expose().chars().count(),
            cold,
            cached: cached[CACHED_CALLS / 2],
        })
    }

    fn print(&self, upstream_calls: u64) {
        // To the nearest minute: a few milliseconds of its hour are gone already.
        let minutes = (self.expires_in.as_secs() + 30) / 60;
        let millis = |took: Duration| took.as_secs_f64() * 1000.0;
        println!("A first GetToken over mutual TLS:\n");
        println!("  destination     {} ({})", PROTECTED.name, PROTECTED.id);
        println!(
            "  token           Bearer, {} characters, id {}",
            self.characters, self.token_id
        );
        println!("  lives for       {minutes} minutes");
        println!(
            "  latency         {:.2} ms cold, {:.2} ms cached (median of {CACHED_CALLS})",
            millis(self.cold),
            millis(self.cached)
        );
        println!("  upstream calls  {upstream_calls}\n");
    }
}

fn print_next_steps(folder: &Folder) {
    let broker =
        std::env::current_exe().map_or_else(|_| "token-broker".to_owned(), |path| typed(&path));
    let env = folder::quoted(&folder.path("env").display().to_string());
    let audit = folder::quoted(&folder.path("audit.jsonl").display().to_string());
    println!("Type next, in another terminal:\n");
    println!("  . {env}");
    for (command, comment) in [
        (format!("token get {}", PROTECTED.name), "the token alone"),
        (
            format!("token get {} --output json", PROTECTED.name),
            "and all that is known of it",
        ),
        (
            format!("token get {}", UNPROTECTED.name),
            "refused: it needs no token",
        ),
        (
            format!("token get {}", WRONG_SECRET.name),
            "refused: an operator must act",
        ),
        (
            "destination list".to_owned(),
            "what the broker holds, for its operators",
        ),
        (
            format!("audit verify --open {audit}"),
            "that who got which token is on record",
        ),
        ("health".to_owned(), "for container probes"),
    ] {
        println!("  {:<64} # {comment}", format!("{broker} {command}"));
    }
    println!("\nCtrl-C ends it.");
}
