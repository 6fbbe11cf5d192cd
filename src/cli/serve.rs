//! `token-broker serve`: the broker.

use std::{path::PathBuf, process::ExitCode};

use clap::Args;

use super::{exit::failed, signal};
use crate::{app::App, config::Config, telemetry};

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

/// Runs the broker until SIGTERM or SIGINT.
pub async fn run(args: ServeArgs) -> ExitCode {
    let config = match Config::load(&args.config) {
        Ok(config) => config,
        Err(mistakes) => {
            eprintln!("{mistakes}");
            return ExitCode::FAILURE;
        }
    };
    if let Err(error) = telemetry::start(config.telemetry.log_level, config.telemetry.log_format) {
        return failed(error);
    }
    let app = match App::start(&config).await {
        Ok(app) => app,
        Err(error) => return failed(error),
    };
    signal::stop_requested().await;
    app.stop().await;
    ExitCode::SUCCESS
}
