//! The `token-broker` command.

use std::process::ExitCode;

use token_broker::{cli::Cli, telemetry};

fn main() -> ExitCode {
    telemetry::hide_panic_payloads();
    let cli = match Cli::read(std::env::args_os()) {
        Ok(cli) => cli,
        Err(code) => return code,
    };
    // The process has one TLS provider; a second call could only install the same again.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();

    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("error: cannot start the runtime: {error}");
            return ExitCode::FAILURE;
        }
    };
    let code = runtime.block_on(cli.run());
    // Dropping the runtime would wait for a name lookup that hangs, past every timeout.
    runtime.shutdown_background();
    code
}
