//! A destination's token, as Occtoo documents it ("Get a destination token").

use std::sync::Arc;

use futures_util::future::{BoxFuture, FutureExt};
use serde::{Deserialize, Serialize};

use super::{
    Endpoint, FetchError, HttpClient, SetupError, TokenSource,
    answer::{self, Reading, no_error_code},
    body,
    decode::{self, AccessToken, Seconds},
    http::{Request, Target},
    setup::client_secret,
};
use crate::{credential::Credential, destination::DestinationId, telemetry::Span, token::Minted};

/// The public service.
pub(super) const DEFAULT_ENDPOINT: &str = "https://destinations.occtoo.com";

pub(super) const READING: Reading = Reading {
    token,
    error_code: no_error_code,
};

/// Mints tokens for one destination with
/// `POST {base}/destinations/{id}/token {"clientId":…,"clientSecret":…}`.
pub(super) struct Occtoo {
    base: Target,
    destination: DestinationId,
    credential: Arc<Credential>,
}

impl Occtoo {
    /// A source of tokens for a destination below a base URL.
    pub(super) fn new(
        client: &HttpClient,
        base: &Endpoint,
        destination: &DestinationId,
        credential: Arc<Credential>,
    ) -> Result<Self, SetupError> {
        // A URL cannot hold these as segments: they mean another path.
        if matches!(destination.as_str(), "." | "..") {
            return Err(SetupError::DestinationId);
        }
        client_secret(&credential)?;
        Ok(Self {
            base: client.target(base.clone())?,
            destination: destination.clone(),
            credential,
        })
    }

    async fn ask(&self, flight: &Span) -> Result<Minted, FetchError> {
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct Body<'a> {
            client_id: &'a str,
            client_secret: &'a str,
        }
        let Ok(secret) = client_secret(&self.credential) else {
            return Err(FetchError::CredentialMissing);
        };
        let body = Body {
            client_id: self.credential.client_id(),
            client_secret: secret.expose(),
        };
        let texts = body.client_id.len() + body.client_secret.len();
        let request = Request {
            content_type: body::JSON,
            authorization: None,
            body: body::json(&body, texts),
        };
        // Put together for each request: all destinations share what is kept of it.
        let target = self
            .base
            .below(&["destinations", self.destination.as_str(), "token"]);
        answer::ask(&target, request, &READING, flight).await
    }
}

impl TokenSource for Occtoo {
    fn mint<'a>(&'a self, flight: &'a Span) -> BoxFuture<'a, Result<Minted, FetchError>> {
        self.ask(flight).boxed()
    }
}

/// A token as Occtoo's services spell it.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Answer {
    access_token: AccessToken,
    token_type: Option<String>,
    expires_in: Option<Seconds>,
}

impl Answer {
    pub(super) fn minted(self) -> Result<Minted, FetchError> {
        decode::minted(
            self.access_token,
            self.token_type.as_deref(),
            self.expires_in,
        )
    }
}

fn token(body: &[u8]) -> Result<Minted, FetchError> {
    decode::json::<Answer>(body)?.minted()
}
