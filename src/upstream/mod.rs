//! Token endpoints: who mints tokens, and how minting fails.
//!
//! | file | holds |
//! |---|---|
//! | `protocol` | the protocols, and the one way from a protocol to a [`TokenSource`] |
//! | `occtoo`, `occtoo_ingest`, `oauth2` | one request each |
//! | `assertion` | the signed proof of `private_key_jwt` |
//! | `answer`, `decode`, `retry_after` | what a status, a body and a `Retry-After` mean |
//! | `broken` | where an exchange broke |
//! | `rotation` | an application's current secret, and its next one on trial |
//! | `http` | the hardened client; the one file that names reqwest |
//! | `trust`, `body` | which certificates are accepted, and how secrets are written |
//! | `endpoint`, `address` | which URLs and which addresses may be asked |
//! | `setup` | why a source cannot be built |
//! | `standin` | an Occtoo-shaped token endpoint to test against |

use std::time::Duration;

use futures_util::future::BoxFuture;

use crate::{
    slot::{Failure, FailureReason, Retry},
    telemetry::Span,
    token::Minted,
};

mod address;
mod answer;
mod assertion;
mod body;
mod broken;
mod decode;
mod endpoint;
mod http;
mod oauth2;
mod occtoo;
mod occtoo_ingest;
mod protocol;
mod retry_after;
mod rotation;
mod setup;
pub mod standin;
mod trust;

pub use address::AddressRule;
pub use broken::Broken;
pub use endpoint::{Endpoint, InvalidEndpoint};
pub use http::{HttpClient, HttpSettings};
pub use oauth2::{ClientAuthentication, OAuth2Settings};
pub use protocol::{Protocol, source};
pub use rotation::{Minter, Rotation, Trial};
pub use setup::SetupError;

/// Mints tokens for one destination with the credentials of one application.
pub trait TokenSource: Send + Sync {
    /// Asks the token endpoint once for a new token, as a part of this flight.
    fn mint<'a>(&'a self, flight: &'a Span) -> BoxFuture<'a, Result<Minted, FetchError>>;
}

/// Why a token endpoint gave no token. It never repeats what the endpoint sent
/// beyond a status and an error code from a closed list.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FetchError {
    /// The endpoint refused the credentials or the request: an operator must act.
    #[error("the token endpoint rejected the request with status {status}{}", .code.map(|code| format!(" ({code})")).unwrap_or_default())]
    Rejected {
        /// The HTTP status.
        status: u16,
        /// The OAuth error code, if it is one of RFC 6749 §5.2 or RFC 8707 §2.
        code: Option<&'static str>,
    },
    /// The endpoint asks for fewer requests (429).
    #[error("the token endpoint limits the rate of requests")]
    Throttled {
        /// How long it asks to be left alone (RFC 9110 §10.2.3).
        retry_after: Option<Duration>,
    },
    /// The endpoint answered with a status that says nothing about the credentials.
    #[error("the token endpoint answered with status {status}")]
    Status {
        /// The HTTP status.
        status: u16,
        /// How long it asks to be left alone.
        retry_after: Option<Duration>,
    },
    /// The endpoint could not be reached, or the exchange broke off.
    #[error("the token endpoint could not be reached: {0}")]
    Transport(Broken),
    /// The endpoint did not answer in time.
    #[error("the token endpoint did not answer in time")]
    TimedOut,
    /// The endpoint answered with something that is not a token.
    #[error("the token endpoint's answer is not usable: {0}")]
    Malformed(&'static str),
    /// Another replica asked, and this is what it was told. Nobody need ask again before.
    #[error("another replica's flight failed as {}", .reason.code())]
    Elsewhere {
        /// What is wrong.
        reason: FailureReason,
        /// How long the endpoint is to be left alone.
        retry_in: Duration,
        /// How often that was so at that replica, one after the other.
        in_a_row: u32,
    },
    /// There are no credentials to ask with.
    #[error("the credentials for this destination are missing")]
    CredentialMissing,
    /// The code that asks the endpoint panicked.
    #[error("asking the token endpoint failed inside the broker")]
    Panicked,
}

impl FetchError {
    /// What kind of failure it is, for metrics.
    pub fn class(&self) -> &'static str {
        match self {
            Self::Rejected { .. } => "rejected",
            Self::Throttled { .. } => "throttled",
            Self::Status { status, .. } if *status >= 500 => "server_error",
            Self::Status { .. } => "unexpected_status",
            Self::Transport(broken) => broken.class(),
            Self::TimedOut => "timeout",
            Self::Malformed(_) => "malformed",
            Self::Elsewhere { .. } => "elsewhere",
            Self::CredentialMissing => "credential_missing",
            Self::Panicked => "panicked",
        }
    }

    /// How long the host asks to be left alone, if it does.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Throttled { retry_after } | Self::Status { retry_after, .. } => *retry_after,
            _ => None,
        }
    }
}

impl From<&FetchError> for Failure {
    fn from(error: &FetchError) -> Self {
        let reason = match error {
            FetchError::Rejected { .. } => FailureReason::CredentialRejected,
            FetchError::CredentialMissing => FailureReason::CredentialMissing,
            FetchError::Throttled { .. } => FailureReason::Throttled,
            FetchError::Malformed(_) => FailureReason::Malformed,
            FetchError::Elsewhere { reason, .. } => *reason,
            FetchError::Status { .. }
            | FetchError::Transport(_)
            | FetchError::TimedOut
            | FetchError::Panicked => FailureReason::Unavailable,
        };
        let retry = match error {
            FetchError::Elsewhere {
                retry_in, in_a_row, ..
            } => Retry::With {
                wait: *retry_in,
                in_a_row: *in_a_row,
            },
            _ => error.retry_after().map_or(Retry::Alone, Retry::NotBefore),
        };
        Self { reason, retry }
    }
}

#[cfg(test)]
mod fuzz;
