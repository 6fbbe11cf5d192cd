//! The token state machine.

use std::time::Duration;

/// Why minting failed, as far as callers and the back-off are concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failure {
    /// What is wrong.
    pub reason: FailureReason,
    /// How long the upstream asked to be left alone.
    pub retry_after: Option<Duration>,
}

/// What is wrong with minting.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FailureReason {
    /// There are no credentials.
    CredentialMissing,
    /// The upstream refuses the credentials.
    CredentialRejected,
    /// The upstream cannot be reached or is out of order.
    Unavailable,
    /// The upstream limits the rate of requests.
    Throttled,
    /// The upstream's answer is not a usable token.
    Malformed,
}
