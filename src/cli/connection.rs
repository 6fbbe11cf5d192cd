//! The arguments of every command that talks to a broker.

use std::{path::PathBuf, time::Duration};

use clap::Args;

use super::duration::timeout;
use crate::client::Settings;

/// Where the broker is, and what to prove oneself with.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Connection")]
pub(super) struct ConnectionArgs {
    /// The broker's URL: its scheme, host and port
    #[arg(
        long,
        value_name = "https://HOST:PORT",
        env = "TOKEN_BROKER_ENDPOINT",
        hide_env_values = true
    )]
    endpoint: Option<String>,
    /// A PEM file of the authorities that issue the broker's certificate
    #[arg(
        long,
        value_name = "FILE",
        env = "TOKEN_BROKER_CA",
        hide_env_values = true
    )]
    ca: Option<PathBuf>,
    /// A PEM file of the certificate that says who you are
    #[arg(
        long,
        value_name = "FILE",
        env = "TOKEN_BROKER_CERT",
        hide_env_values = true
    )]
    cert: Option<PathBuf>,
    /// A PEM file of the private key to that certificate
    #[arg(
        long,
        value_name = "FILE",
        env = "TOKEN_BROKER_KEY",
        hide_env_values = true
    )]
    key: Option<PathBuf>,
    /// How long one call may take, connecting included
    #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = timeout)]
    pub(super) timeout: Duration,
}

/// Neither the command line nor the environment says how to connect.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "how to connect is not known: give {}; `token-broker dev` writes a file that sets these variables",
    .0.join(", ")
)]
pub(super) struct Missing(Vec<&'static str>);

impl ConnectionArgs {
    /// The settings, if they are complete.
    ///
    /// # Errors
    /// [`Missing`] names all that were not given.
    pub(super) fn settings(self) -> Result<Settings, Missing> {
        match self {
            Self {
                endpoint: Some(endpoint),
                ca: Some(ca),
                cert: Some(cert),
                key: Some(key),
                ..
            } => Ok(Settings {
                endpoint,
                ca,
                cert,
                key,
            }),
            incomplete => Err(incomplete.missing()),
        }
    }

    fn missing(&self) -> Missing {
        let given = [
            (
                self.endpoint.is_some(),
                "--endpoint (or TOKEN_BROKER_ENDPOINT)",
            ),
            (self.ca.is_some(), "--ca (or TOKEN_BROKER_CA)"),
            (self.cert.is_some(), "--cert (or TOKEN_BROKER_CERT)"),
            (self.key.is_some(), "--key (or TOKEN_BROKER_KEY)"),
        ];
        let missing = given.into_iter().filter(|(given, _)| !given);
        Missing(missing.map(|(_, name)| name).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_missing_settings_are_named_at_once() {
        let args = ConnectionArgs {
            endpoint: Some("https://broker.example".to_owned()),
            ca: None,
            cert: Some("cert.pem".into()),
            key: None,
            timeout: Duration::from_secs(5),
        };
        assert_eq!(
            args.settings().unwrap_err().to_string(),
            "how to connect is not known: give --ca (or TOKEN_BROKER_CA), --key (or \
             TOKEN_BROKER_KEY); `token-broker dev` writes a file that sets these variables"
        );
    }
}
