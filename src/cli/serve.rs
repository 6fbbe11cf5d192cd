//! `token-broker serve`: the broker.

use std::{path::PathBuf, process::ExitCode};

use clap::Args;

use super::{exit::failed, signal::Signals};
use crate::{app::App, config::Reading, process, telemetry};

/// The arguments of `serve`.
#[derive(Debug, Args)]
pub struct ServeArgs {
    /// The configuration file; `token-broker config example` prints one
    #[arg(
        long,
        value_name = "FILE",
        env = "TOKEN_BROKER_CONFIG",
        hide_env_values = true
    )]
    config: PathBuf,
}

/// Runs the broker until SIGTERM or SIGINT. SIGHUP makes it read its configuration anew.
pub async fn run(args: ServeArgs) -> ExitCode {
    process::keep_memory_private();
    let reading = Reading::of(&args.config);
    let telemetry = match &reading.config {
        Ok(config) => &config.telemetry,
        Err(mistakes) => {
            eprintln!("{mistakes}");
            return ExitCode::FAILURE;
        }
    };
    if let Err(error) = telemetry::start(telemetry.log_level, telemetry.log_format) {
        return failed(error);
    }
    // Before anybody can know that it runs: a signal must not be the end of it by default.
    let signals = Signals::listen();
    let app = match App::start_with(&args.config, reading).await {
        Ok(app) => app,
        Err(error) => return failed(error),
    };
    signals.stop_requested(|| app.reload()).await;
    app.stop().await;
    ExitCode::SUCCESS
}
