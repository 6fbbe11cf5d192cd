//! Minting once, and what came of it.

use std::{fmt, sync::Arc, time::Duration};

use jiff::SignedDuration;
use serde_json::{Value, json};

use super::{CommandError, users::Target};
use crate::{
    config::Protected,
    credential::Credential,
    telemetry::Span,
    token::BornExpired,
    upstream::{self, FetchError, HttpClient, SetupError},
};

/// What a token endpoint said to a secret.
pub(super) struct Verdict<'a> {
    target: Target<'a>,
    outcome: Result<Duration, Objection>,
}

/// Why there is no token.
#[derive(Debug, thiserror::Error)]
enum Objection {
    #[error(transparent)]
    Setup(#[from] SetupError),
    #[error(transparent)]
    Fetch(#[from] FetchError),
    #[error(transparent)]
    Lifetime(#[from] BornExpired),
}

impl<'a> Verdict<'a> {
    /// Mints a token, which is forgotten at once.
    pub(super) async fn of(target: Target<'a>, credential: &Arc<Credential>) -> Self {
        let outcome = mint(target, Arc::clone(credential)).await;
        Self { target, outcome }
    }

    pub(super) fn is_good(&self) -> bool {
        self.outcome.is_ok()
    }

    /// A verdict that stores nothing if it is bad.
    pub(super) fn accepted(self) -> Result<Self, CommandError> {
        if self.is_good() {
            return Ok(self);
        }
        Err(CommandError::Rejected(self.to_string()))
    }

    pub(super) fn json(&self) -> Value {
        let mut json = json!({
            "destination": self.target.destination.id.as_str(),
            "host": self.target.protected.endpoint.host(),
            "ok": self.is_good(),
        });
        let mut add = |key: &str, value: Value| json[key] = value;
        match &self.outcome {
            Ok(lifetime) => add("lifetime_seconds", lifetime.as_secs().into()),
            Err(objection) => {
                add("error", objection.to_string().into());
                if let Objection::Fetch(FetchError::Rejected { status, code }) = objection {
                    add("status", (*status).into());
                    add("code", (*code).into());
                }
            }
        }
        json
    }
}

impl fmt::Display for Verdict<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let host = self.target.protected.endpoint.host();
        write!(f, "{} ({host}): ", self.target)?;
        match &self.outcome {
            Ok(lifetime) => {
                f.write_str("minted a token that lives for ")?;
                match SignedDuration::try_from(*lifetime) {
                    Ok(lifetime) => write!(f, "{lifetime:#}"),
                    Err(_) => write!(f, "{lifetime:?}"),
                }
            }
            Err(objection) => write!(f, "{objection}"),
        }
    }
}

async fn mint(target: Target<'_>, credential: Arc<Credential>) -> Result<Duration, Objection> {
    let Protected {
        upstream,
        protocol,
        endpoint,
        ..
    } = target.protected;
    let client = HttpClient::new(&upstream.http)?;
    let id = &target.destination.id;
    let source = upstream::source(protocol, &client, endpoint, id, credential)?;
    let minted = source.mint(&Span::none()).await?;
    Ok(upstream.lifetimes.apply(minted.expires_in)?)
}
