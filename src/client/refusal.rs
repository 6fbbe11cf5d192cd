//! Why a broker gave no token, in one line.

use std::{error::Error as _, fmt, time::Duration};

use tonic::{Code, Status, TimeoutExpired};
use tonic_types::{ErrorDetails, StatusExt as _};

use super::explain::{causes, explain_break};
use crate::clock::whole_seconds;

/// What a broker answers instead of a result, or what kept its answer away.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The reason of `google.rpc.ErrorInfo`, or else the name of the gRPC code.
    pub reason: String,
    /// What the caller can do about it.
    pub message: String,
    /// When trying again can help, if it can.
    pub retry_in: Option<Duration>,
    /// Whether nothing helps but somebody who acts: the caller's developer, or an operator.
    pub needs_action: bool,
    /// Every mistake in what was to be read, each with its place.
    pub mistakes: Vec<String>,
}

impl std::error::Error for Refusal {}

impl From<&Status> for Refusal {
    fn from(status: &Status) -> Self {
        // Tonic's client reports its own deadline as a cancelled call.
        let gave_up = status
            .source()
            .is_some_and(|error| causes(error).any(<dyn std::error::Error>::is::<TimeoutExpired>));
        if gave_up || status.code() == Code::DeadlineExceeded {
            return Self::too_late();
        }
        // Only a failure on this side has a source: an answer comes without.
        if let Some(error) = status.source() {
            return Self::unavailable(&explain_break(error));
        }
        let details = status.get_error_details();
        let reason = details.error_info().map(|info| info.reason.as_str());
        Self {
            reason: reason.unwrap_or(code_name(status.code())).to_owned(),
            message: status.message().to_owned(),
            retry_in: details.retry_info().and_then(|info| info.retry_delay),
            needs_action: needs_action(status.code()),
            mistakes: mistakes(&details),
        }
    }
}

impl Refusal {
    /// The broker could not be asked, or did not answer to the end.
    pub(super) fn unavailable(message: &str) -> Self {
        Self::passing("UNAVAILABLE", message)
    }

    /// There was no answer in time.
    pub(super) fn too_late() -> Self {
        Self::passing("DEADLINE_EXCEEDED", "the broker did not answer in time")
    }

    fn passing(reason: &str, message: &str) -> Self {
        Self {
            reason: reason.to_owned(),
            message: message.to_owned(),
            retry_in: None,
            needs_action: false,
            mistakes: Vec::new(),
        }
    }
}

fn mistakes(details: &ErrorDetails) -> Vec<String> {
    let failure = details.precondition_failure();
    let violations = failure.iter().flat_map(|failure| &failure.violations);
    let mistakes = violations.map(|violation| match violation.subject.as_str() {
        "" => violation.description.clone(),
        place => format!("{place}: {}", violation.description),
    });
    mistakes.collect()
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.reason, self.message)?;
        if let Some(delay) = self.retry_in {
            write!(f, " (retry in {}s)", whole_seconds(delay))?;
        }
        Ok(())
    }
}

/// Whether a call with this code fails for as long as nobody acts (gRPC, "Status codes").
fn needs_action(code: Code) -> bool {
    matches!(
        code,
        Code::InvalidArgument
            | Code::NotFound
            | Code::PermissionDenied
            | Code::FailedPrecondition
            | Code::OutOfRange
            | Code::Unimplemented
            | Code::Unauthenticated
    )
}

/// The name that the gRPC specification gives a code.
fn code_name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_one_line_with_its_reason_and_a_delay_rounded_up() {
        let info = || ErrorDetails::with_error_info("UPSTREAM_THROTTLED", "tokenbroker", []);
        let retry = |millis| Some(Duration::from_millis(millis));
        let with = |details| Status::with_error_details(Code::Unavailable, "wait", details);
        let mut both = info();
        both.set_retry_info(retry(29_001));
        for (status, line) in [
            (with(both), "UPSTREAM_THROTTLED: wait (retry in 30s)"),
            (with(info()), "UPSTREAM_THROTTLED: wait"),
            (
                with(ErrorDetails::with_retry_info(retry(0))),
                "UNAVAILABLE: wait (retry in 0s)",
            ),
            (Status::permission_denied("no"), "PERMISSION_DENIED: no"),
            (Status::cancelled("stopped"), "CANCELLED: stopped"),
            (
                Status::deadline_exceeded("late"),
                "DEADLINE_EXCEEDED: the broker did not answer in time",
            ),
            (
                Status::from_error(Box::new(TimeoutExpired(()))),
                "DEADLINE_EXCEEDED: the broker did not answer in time",
            ),
        ] {
            assert_eq!(Refusal::from(&status).to_string(), line);
        }
    }
}
