//! A data provider's token, as Occtoo's ingest service gives it.

use std::sync::Arc;

use futures_util::future::{BoxFuture, FutureExt};
use serde::{Deserialize, Serialize};

use super::{
    Endpoint, FetchError, HttpClient, SetupError, TokenSource,
    answer::{self, Reading, no_error_code},
    body,
    decode::{self, Object},
    http::{Request, Target},
    occtoo::Answer,
    setup::client_secret,
};
use crate::{credential::Credential, telemetry::Span, token::Minted};

/// The public service.
pub(super) const DEFAULT_ENDPOINT: &str = "https://ingest.occtoo.com/dataProviders/tokens";

pub(super) const READING: Reading = Reading {
    token,
    error_code: no_error_code,
};

/// Mints tokens for one data provider with `POST {endpoint} {"id":…,"secret":…}`.
pub(super) struct OcctooIngest {
    target: Target,
    credential: Arc<Credential>,
}

impl OcctooIngest {
    /// A source of tokens for the data provider that the credential names.
    pub(super) fn new(
        client: &HttpClient,
        endpoint: &Endpoint,
        credential: Arc<Credential>,
    ) -> Result<Self, SetupError> {
        client_secret(&credential)?;
        Ok(Self {
            target: client.target(endpoint.clone())?,
            credential,
        })
    }

    async fn ask(&self, flight: &Span) -> Result<Minted, FetchError> {
        #[derive(Serialize)]
        struct Body<'a> {
            id: &'a str,
            secret: &'a str,
        }
        let Ok(secret) = client_secret(&self.credential) else {
            return Err(FetchError::CredentialMissing);
        };
        let body = Body {
            id: self.credential.client_id(),
            secret: secret.expose(),
        };
        let texts = body.id.len() + body.secret.len();
        let request = Request {
            content_type: body::JSON,
            authorization: None,
            body: body::json(&body, texts),
        };
        answer::ask(&self.target, request, &READING, flight).await
    }
}

impl TokenSource for OcctooIngest {
    fn mint<'a>(&'a self, flight: &'a Span) -> BoxFuture<'a, Result<Minted, FetchError>> {
        self.ask(flight).boxed()
    }
}

fn token(body: &[u8]) -> Result<Minted, FetchError> {
    #[derive(Deserialize)]
    struct Envelope {
        result: Option<Object<Answer>>,
    }
    let envelope: Envelope = decode::json(body)?;
    // The service reports its own errors with a success status and no result.
    let Object(answer) = envelope
        .result
        .ok_or(FetchError::Malformed("it has no result"))?;
    answer.minted()
}
