//! Why a call got no token.

use std::time::Duration;

use crate::{
    admission::Overload,
    audit::{self, AuditUnavailable},
    clock::Instant,
    slot::Refusal,
};

/// No caller is told to come back sooner.
const LEAST_RETRY_DELAY: Duration = Duration::from_millis(100);

/// Why a call got no token. The doors translate it; none of them adds to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// The destination id is not 1 to 128 characters of its alphabet.
    #[error("the destination id is not valid")]
    InvalidDestinationId,
    /// The wanted validity is negative or not a duration.
    #[error("the wanted validity is not valid")]
    InvalidMinValidity,
    /// The client certificate does not name exactly one caller.
    #[error("the certificate names no caller")]
    CallerUnidentified,
    /// No grant, or no such destination.
    #[error("not granted")]
    NotGranted,
    /// The destination needs no token.
    #[error("the destination is public")]
    Unprotected,
    /// The cache has no token for the caller.
    #[error("refused")]
    Refused(Refusal),
    /// No audit sink has accepted the record of the token.
    #[error("the token cannot be recorded")]
    AuditUnavailable {
        /// After what time trying again can help.
        retry_in: Duration,
    },
    /// Too many calls are under way.
    #[error("too many calls are under way")]
    Overloaded {
        /// After what time trying again can help.
        retry_in: Duration,
    },
    /// The caller makes too many calls in a second.
    #[error("the caller makes too many calls")]
    CallerRate {
        /// After what time trying again can help.
        retry_in: Duration,
    },
    /// The caller's deadline passed first.
    #[error("the deadline passed")]
    DeadlineExceeded,
}

impl CallError {
    /// The reason code that callers, logs and metrics see.
    pub fn code(&self) -> &'static str {
        match self {
            Self::InvalidDestinationId => "INVALID_DESTINATION_ID",
            Self::InvalidMinValidity => "INVALID_MIN_VALIDITY",
            Self::CallerUnidentified => "CALLER_UNIDENTIFIED",
            Self::NotGranted => "NOT_GRANTED",
            Self::Unprotected => "DESTINATION_UNPROTECTED",
            Self::Refused(Refusal::Quarantined) => "DESTINATION_QUARANTINED",
            Self::Refused(Refusal::ValidityUnattainable) => "VALIDITY_UNATTAINABLE",
            Self::Refused(Refusal::Failed { reason, .. }) => reason.code(),
            Self::AuditUnavailable { .. } => "AUDIT_UNAVAILABLE",
            Self::Overloaded { .. } => "OVERLOADED",
            Self::CallerRate { .. } => "CALLER_RATE",
            Self::DeadlineExceeded => "DEADLINE_EXCEEDED",
        }
    }

    /// How long until trying again can help, if it can.
    pub fn retry_delay(&self) -> Option<Duration> {
        match self {
            Self::Refused(Refusal::Failed { reason, retry_at }) if !reason.needs_an_operator() => {
                let left = retry_at.saturating_duration_since(Instant::now());
                Some(left.max(LEAST_RETRY_DELAY))
            }
            Self::AuditUnavailable { retry_in }
            | Self::Overloaded { retry_in }
            | Self::CallerRate { retry_in } => Some((*retry_in).max(LEAST_RETRY_DELAY)),
            _ => None,
        }
    }
}

impl From<AuditUnavailable> for CallError {
    fn from(_: AuditUnavailable) -> Self {
        Self::AuditUnavailable {
            retry_in: audit::RETRY,
        }
    }
}

impl From<Overload> for CallError {
    fn from(overload: Overload) -> Self {
        match overload {
            Overload::Busy(retry_in) => Self::Overloaded { retry_in },
            Overload::TooFast(retry_in) => Self::CallerRate { retry_in },
        }
    }
}
