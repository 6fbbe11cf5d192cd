//! A destination's token, as Occtoo documents it ("Get a destination token").

use std::sync::Arc;

use futures_util::future::{BoxFuture, FutureExt};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::{
    Endpoint, FetchError, HttpClient, SetupError, TokenSource,
    answer::{self, Reading, no_error_code},
    decode::{self, AccessToken, Seconds},
    http::{Request, Target},
};
use crate::{
    credential::{Credential, Proof},
    destination::DestinationId,
    secret::Secret,
    token::Minted,
};

/// The public service.
pub(super) const DEFAULT_ENDPOINT: &str = "https://destinations.occtoo.com";

const READING: Reading = Reading {
    token,
    error_code: no_error_code,
};

/// Mints tokens for one destination with
/// `POST {base}/destinations/{id}/token {"clientId":…,"clientSecret":…}`.
pub(super) struct Occtoo {
    target: Target,
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
        let endpoint = base.join(&["destinations", destination.as_str(), "token"]);
        Ok(Self {
            target: client.target(endpoint)?,
            credential,
        })
    }

    async fn ask(&self) -> Result<Minted, FetchError> {
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
            client_id: &self.credential.client_id,
            client_secret: secret.expose(),
        };
        let request = json_request(&body, body.client_id.len() + body.client_secret.len());
        answer::read(self.target.post(request).await?, &READING).await
    }
}

impl TokenSource for Occtoo {
    fn mint(&self) -> BoxFuture<'_, Result<Minted, FetchError>> {
        self.ask().boxed()
    }
}

/// The secret of an application, which must have one.
pub(super) fn client_secret(credential: &Credential) -> Result<&Secret, SetupError> {
    match &credential.proof {
        Proof::ClientSecret(secret) => Ok(secret),
        Proof::PrivateKey { .. } => Err(SetupError::SecretNeeded),
    }
}

/// A request with a JSON body that holds `texts` bytes of text beside its keys.
pub(super) fn json_request(body: &impl Serialize, texts: usize) -> Request {
    // Allocated once: a buffer that grows leaves copies of the secret behind. A byte becomes
    // six at most (`\u0000`).
    let mut json = Zeroizing::new(Vec::with_capacity(64 + 6 * texts));
    // Writing strings to memory cannot fail.
    let written = serde_json::to_writer(&mut *json, body);
    debug_assert!(written.is_ok());
    Request {
        content_type: "application/json",
        authorization: None,
        body: json,
    }
}

fn token(body: &[u8]) -> Result<Minted, FetchError> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Answer {
        access_token: AccessToken,
        token_type: Option<String>,
        expires_in: Option<Seconds>,
    }
    let answer: Answer = decode::json(body)?;
    decode::minted(
        answer.access_token,
        answer.token_type.as_deref(),
        answer.expires_in,
    )
}
