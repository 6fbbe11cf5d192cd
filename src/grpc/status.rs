//! The one place where an error becomes a gRPC status.
//!
//! Messages are fixed sentences for the developer of the caller; what else is known
//! goes to the log. Unknown and forbidden destinations give the same bytes.

use std::{collections::HashMap, fmt};

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, PreconditionViolation, StatusExt as _};

use crate::{
    api::v1::TokenUnavailable,
    broker::{ActError, CallError, Fault},
    slot::{FailureReason, Refusal},
    telemetry::Span,
};

/// The `domain` of every `ErrorInfo`.
const DOMAIN: &str = "tokenbroker";
/// More than this many bytes of mistakes are not told at once: a status travels in a header,
/// and some clients take no more than eight kilobytes of those.
const MAX_VIOLATIONS: usize = 4 * 1024;

/// The attribute of the code.
const STATUS_CODE: &str = "rpc.response.status_code";

/// A code as OpenTelemetry has it, such as `DEADLINE_EXCEEDED`.
struct Shown(Code);

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, letter) in format!("{:?}", self.0).char_indices() {
            if place > 0 && letter.is_ascii_uppercase() {
                f.write_str("_")?;
            }
            write!(f, "{}", letter.to_ascii_uppercase())?;
        }
        Ok(())
    }
}

/// Notes with what status a call was answered.
pub(super) fn note_status<T>(result: &Result<T, Status>, span: &Span) {
    note_code(
        result.as_ref().map_or_else(Status::code, |_| Code::Ok),
        span,
    );
}

/// Notes with what status this error was answered, or that there was none.
pub(super) fn note_error(error: Option<CallError>, span: &Span) {
    note_code(error.map_or(Code::Ok, code), span);
}

/// Notes the code of that status.
pub(super) fn note_code(code: Code, span: &Span) {
    span.text(STATUS_CODE, Shown(code));
    note_blame(code, span);
}

/// Notes that a call succeeded whose answer says this error, or none.
pub(super) fn note_in_band(error: Option<CallError>, span: &Span) {
    span.text(STATUS_CODE, Shown(Code::Ok));
    if let Some(error) = error {
        note_blame(code(error), span);
    }
}

/// With all other codes a server did what it could (OpenTelemetry's semantic conventions 1.45,
/// "gRPC").
fn note_blame(code: Code, span: &Span) {
    let is_the_brokers = matches!(
        code,
        Code::Unknown
            | Code::DeadlineExceeded
            | Code::Unimplemented
            | Code::Internal
            | Code::Unavailable
            | Code::DataLoss
    );
    if !is_the_brokers {
        span.blames_caller();
    }
}

/// The status that a caller sees.
pub(super) fn status(error: CallError) -> Status {
    let (code, message) = code_and_message(error);
    let mut details = ErrorDetails::with_error_info(error.code(), DOMAIN, HashMap::new());
    if let Some(delay) = error.retry_delay() {
        details.set_retry_info(Some(delay));
    }
    Status::with_error_details(code, message, details)
}

/// The status that an operator sees.
pub(super) fn act_status(error: &ActError) -> Status {
    let (code, message) = match error {
        ActError::Call(error) => return status(*error),
        ActError::NotAdministrator => (
            Code::PermissionDenied,
            "this caller is no administrator: the broker's operator can name it in [admin] allow",
        ),
        ActError::NoSuchDestination => (
            Code::NotFound,
            "no destination has this id or name: list them with `token-broker destination list`",
        ),
        ActError::NoSuchApplication => (
            Code::NotFound,
            "the destination has no such application: list them with `token-broker destination list`",
        ),
        ActError::StoppedAsOne => (
            Code::FailedPrecondition,
            "the destination is stopped with all its applications: release it without naming one, and then stop by name what is to stay stopped",
        ),
        ActError::InvalidCaller => (
            Code::InvalidArgument,
            "caller must be a SPIFFE ID of a workload or a lower-case DNS name",
        ),
        ActError::InvalidIdleFor => (
            Code::InvalidArgument,
            "idle_for must be zero or a positive duration",
        ),
        ActError::ReloadRefused(_) => (
            Code::FailedPrecondition,
            "what was read has mistakes, and what was in force stays: mend them and reload again",
        ),
    };
    let mut details = ErrorDetails::with_error_info(error.code(), DOMAIN, HashMap::new());
    if let ActError::ReloadRefused(faults) = error {
        details.set_precondition_failure(violations(faults));
    }
    Status::with_error_details(code, message, details)
}

/// The mistakes as far as there is room for them, and how many more there are.
fn violations(faults: &[Fault]) -> Vec<PreconditionViolation> {
    let mut room = MAX_VIOLATIONS;
    let fits = |fault: &&Fault| {
        let size = fault.place.len() + fault.message.len();
        let fits = room.checked_sub(size);
        room = fits.unwrap_or(0);
        fits.is_some()
    };
    let mut violations: Vec<_> = faults
        .iter()
        .take_while(fits)
        .map(|fault| PreconditionViolation::new("MISTAKE", &*fault.place, &*fault.message))
        .collect();
    let more = faults.len() - violations.len();
    if more > 0 {
        let message = format!("{more} more: `token-broker config check` tells them all");
        violations.push(PreconditionViolation::new("MISTAKE", "", message));
    }
    violations
}

/// The same, said in-band to a watcher.
pub(super) fn unavailable(error: CallError) -> TokenUnavailable {
    TokenUnavailable {
        reason: error.code().to_owned(),
        retry_delay: error.retry_delay().and_then(|delay| delay.try_into().ok()),
    }
}

fn code(error: CallError) -> Code {
    let (code, _) = code_and_message(error);
    code
}

/// The code, and what the caller's developer can do.
pub(super) fn code_and_message(error: CallError) -> (Code, &'static str) {
    match error {
        CallError::InvalidDestinationId => (
            Code::InvalidArgument,
            "destination_id must be 1 to 128 characters of A-Z a-z 0-9 . _ -",
        ),
        CallError::InvalidMinValidity => (
            Code::InvalidArgument,
            "min_validity must be zero or a positive duration",
        ),
        CallError::CallerUnidentified => (
            Code::Unauthenticated,
            "present a client certificate with exactly one SPIFFE ID, or without URIs and with exactly one DNS name",
        ),
        CallError::NotGranted => (
            Code::PermissionDenied,
            "this caller has no grant for this destination, or there is no such destination: check the id, or ask the broker's operator for a grant",
        ),
        CallError::Unprotected => (
            Code::FailedPrecondition,
            "this destination is public: call it without a token",
        ),
        CallError::Refused(Refusal::Quarantined) => (
            Code::FailedPrecondition,
            "an operator has stopped this destination",
        ),
        CallError::Refused(Refusal::ValidityUnattainable) => (
            Code::FailedPrecondition,
            "min_validity is longer than this destination's tokens live: ask for less",
        ),
        CallError::Refused(Refusal::Failed { reason, .. }) => match reason {
            FailureReason::CredentialMissing => (
                Code::FailedPrecondition,
                "the broker has no credentials for this destination: its operator must add them",
            ),
            FailureReason::CredentialRejected => (
                Code::FailedPrecondition,
                "the destination's token endpoint rejects the broker's credentials: its operator must replace them",
            ),
            FailureReason::Unavailable => (
                Code::Unavailable,
                "the destination's token endpoint cannot be reached, and there is no token that is valid for long enough: try again after the retry delay",
            ),
            FailureReason::Throttled => (
                Code::Unavailable,
                "the destination's token endpoint limits requests, and there is no token that is valid for long enough: try again after the retry delay",
            ),
            FailureReason::Malformed => (
                Code::Unavailable,
                "the destination's token endpoint gave no usable token: try again after the retry delay",
            ),
        },
        CallError::AuditUnavailable { .. } => (
            Code::Unavailable,
            "the broker cannot record who gets a token, so it hands out none: try again after the retry delay",
        ),
        CallError::Overloaded { .. } => (
            Code::ResourceExhausted,
            "the broker has too many calls under way: try again after the retry delay",
        ),
        CallError::CallerRate { .. } => (
            Code::ResourceExhausted,
            "this caller makes too many calls in a second: try again after the retry delay, and keep the token until it expires",
        ),
        CallError::DeadlineExceeded => (
            Code::DeadlineExceeded,
            "the deadline passed before there was a token: allow more time",
        ),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::clock::Instant;

    #[test]
    #[expect(clippy::too_many_lines, reason = "a table")]
    fn every_error_has_its_code_reason_and_retry_delay() {
        let failed = |reason| {
            CallError::Refused(Refusal::Failed {
                reason,
                retry_at: Instant::now(),
            })
        };
        for (error, code, reason, retries) in [
            (
                CallError::InvalidDestinationId,
                Code::InvalidArgument,
                "INVALID_DESTINATION_ID",
                false,
            ),
            (
                CallError::InvalidMinValidity,
                Code::InvalidArgument,
                "INVALID_MIN_VALIDITY",
                false,
            ),
            (
                CallError::CallerUnidentified,
                Code::Unauthenticated,
                "CALLER_UNIDENTIFIED",
                false,
            ),
            (
                CallError::NotGranted,
                Code::PermissionDenied,
                "NOT_GRANTED",
                false,
            ),
            (
                CallError::Unprotected,
                Code::FailedPrecondition,
                "DESTINATION_UNPROTECTED",
                false,
            ),
            (
                CallError::Refused(Refusal::Quarantined),
                Code::FailedPrecondition,
                "DESTINATION_QUARANTINED",
                false,
            ),
            (
                CallError::Refused(Refusal::ValidityUnattainable),
                Code::FailedPrecondition,
                "VALIDITY_UNATTAINABLE",
                false,
            ),
            (
                failed(FailureReason::CredentialMissing),
                Code::FailedPrecondition,
                "CREDENTIAL_MISSING",
                false,
            ),
            (
                failed(FailureReason::CredentialRejected),
                Code::FailedPrecondition,
                "CREDENTIAL_REJECTED",
                false,
            ),
            (
                failed(FailureReason::Unavailable),
                Code::Unavailable,
                "UPSTREAM_UNAVAILABLE",
                true,
            ),
            (
                failed(FailureReason::Throttled),
                Code::Unavailable,
                "UPSTREAM_THROTTLED",
                true,
            ),
            (
                failed(FailureReason::Malformed),
                Code::Unavailable,
                "UPSTREAM_MALFORMED",
                true,
            ),
            (
                CallError::AuditUnavailable {
                    retry_in: Duration::ZERO,
                },
                Code::Unavailable,
                "AUDIT_UNAVAILABLE",
                true,
            ),
            (
                CallError::Overloaded {
                    retry_in: Duration::ZERO,
                },
                Code::ResourceExhausted,
                "OVERLOADED",
                true,
            ),
            (
                CallError::CallerRate {
                    retry_in: Duration::ZERO,
                },
                Code::ResourceExhausted,
                "CALLER_RATE",
                true,
            ),
            (
                CallError::DeadlineExceeded,
                Code::DeadlineExceeded,
                "DEADLINE_EXCEEDED",
                false,
            ),
        ] {
            let status = status(error);
            let details = status.get_error_details();
            let info = details.error_info().unwrap();
            assert_eq!(
                (status.code(), info.reason.as_str(), info.domain.as_str()),
                (code, reason, DOMAIN)
            );
            assert_eq!(details.retry_info().is_some(), retries, "{reason}");
        }
    }

    #[test]
    fn a_code_is_shown_as_open_telemetry_has_it() {
        for (code, shown) in [
            (Code::Ok, "OK"),
            (Code::NotFound, "NOT_FOUND"),
            (Code::DeadlineExceeded, "DEADLINE_EXCEEDED"),
        ] {
            assert_eq!(Shown(code).to_string(), shown);
        }
    }
}
