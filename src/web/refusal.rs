//! The one place where an error becomes an answer without gRPC: a status, a code of
//! RFC 6749 §5.2 or RFC 8707 §2, and a fixed sentence.

use axum::{
    http::{
        HeaderName, HeaderValue, StatusCode,
        header::{CACHE_CONTROL, CONTENT_TYPE, PRAGMA, RETRY_AFTER, WWW_AUTHENTICATE},
    },
    response::{IntoResponse as _, Response},
};
use serde::Serialize;

use super::form;
use crate::{
    broker::CallError,
    clock::whole_seconds,
    slot::{FailureReason, Refusal as SlotRefusal},
};

/// Tells programs why, in the words that gRPC's callers get.
const REASON: HeaderName = HeaderName::from_static("x-token-broker-reason");
/// A 401 must name a scheme (RFC 9110 §11.6.1). None is registered for certificates; this
/// tells a person what is missing.
const CHALLENGE: HeaderValue = HeaderValue::from_static("ClientCertificate");

/// What every answer is.
pub(super) const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// Why a call gets no token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// It is not a request of this protocol.
    Request(Fault),
    /// The broker has none for it.
    Call(CallError),
}

/// What is wrong with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    ContentType,
    Malformed,
    TooLarge,
    TooSlow,
    Torn,
    Repeated,
    TooMany,
    GrantTypeMissing,
    GrantTypeUnsupported,
    DestinationMissing,
    SeveralDestinations,
}

impl From<Fault> for Refusal {
    fn from(fault: Fault) -> Self {
        Self::Request(fault)
    }
}

impl From<CallError> for Refusal {
    fn from(error: CallError) -> Self {
        Self::Call(error)
    }
}

impl From<form::Malformed> for Refusal {
    fn from(_: form::Malformed) -> Self {
        Fault::Malformed.into()
    }
}

/// RFC 6749 §5.2.
#[derive(Serialize)]
struct OAuth2Error {
    error: &'static str,
    error_description: &'static str,
}

/// Occtoo documents no error bodies. Its clients look at the status.
#[derive(Serialize)]
struct OcctooError {
    reason: &'static str,
    message: &'static str,
}

impl Refusal {
    /// The reason code that callers, logs and metrics see.
    pub(super) fn code(&self) -> &'static str {
        match self {
            Self::Request(_) => "INVALID_REQUEST",
            Self::Call(error) => error.code(),
        }
    }

    /// As OAuth 2's clients understand it.
    pub(super) fn into_oauth2(self) -> Response {
        let (status, error, error_description) = self.status_error_and_message();
        self.answer(
            status,
            &OAuth2Error {
                error,
                error_description,
            },
        )
    }

    /// As Occtoo's clients understand it: to them a 400 is a mistake in the request, and
    /// not a missing grant.
    pub(super) fn into_occtoo(self) -> Response {
        let (status, _, message) = self.status_error_and_message();
        let status = match self {
            Self::Call(CallError::NotGranted) => StatusCode::FORBIDDEN,
            _ => status,
        };
        let reason = self.code();
        self.answer(status, &OcctooError { reason, message })
    }

    fn answer(self, status: StatusCode, body: &impl Serialize) -> Response {
        let mut answer = json(status, body);
        let headers = answer.headers_mut();
        headers.insert(REASON, HeaderValue::from_static(self.code()));
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(WWW_AUTHENTICATE, CHALLENGE);
        }
        if let Self::Call(error) = self
            && let Some(delay) = error.retry_delay()
        {
            headers.insert(RETRY_AFTER, whole_seconds(delay).into());
        }
        answer
    }

    fn status_error_and_message(self) -> (StatusCode, &'static str, &'static str) {
        let error = match self {
            Self::Request(fault) => return fault.status_error_and_message(),
            Self::Call(error) => error,
        };
        match error {
            CallError::InvalidDestinationId => (
                StatusCode::BAD_REQUEST,
                "invalid_target",
                "a destination is 1 to 128 characters of A-Z a-z 0-9 . _ -",
            ),
            // No call of these doors asks for one.
            CallError::InvalidMinValidity => (
                StatusCode::BAD_REQUEST,
                "invalid_request",
                "min_validity must be zero or a positive duration",
            ),
            CallError::CallerUnidentified => (
                StatusCode::UNAUTHORIZED,
                "invalid_client",
                "present a client certificate with exactly one SPIFFE ID, or without URIs and with exactly one DNS name",
            ),
            CallError::NotGranted => (
                StatusCode::BAD_REQUEST,
                "invalid_target",
                "this caller has no grant for this destination, or there is no such destination: check the id, or ask the broker's operator for a grant",
            ),
            CallError::Unprotected => (
                StatusCode::BAD_REQUEST,
                "invalid_target",
                "this destination is public: call it without a token",
            ),
            CallError::Refused(SlotRefusal::Quarantined) => (
                StatusCode::SERVICE_UNAVAILABLE,
                "server_error",
                "an operator has stopped this destination",
            ),
            // No call of these doors asks for one.
            CallError::Refused(SlotRefusal::ValidityUnattainable) => (
                StatusCode::BAD_REQUEST,
                "invalid_request",
                "min_validity is longer than this destination's tokens live: ask for less",
            ),
            CallError::Refused(SlotRefusal::Failed { reason, .. }) => match reason {
                FailureReason::CredentialMissing => (
                    StatusCode::SERVICE_UNAVAILABLE,
                    "server_error",
                    "the broker has no credentials for this destination: its operator must add them",
                ),
                FailureReason::CredentialRejected => (
                    StatusCode::SERVICE_UNAVAILABLE,
                    "server_error",
                    "the destination's token endpoint rejects the broker's credentials: its operator must replace them",
                ),
                FailureReason::Unavailable => (
                    StatusCode::SERVICE_UNAVAILABLE,
                    "temporarily_unavailable",
                    "the destination's token endpoint cannot be reached, and there is no token that is valid for long enough: try again later",
                ),
                FailureReason::Throttled => (
                    StatusCode::SERVICE_UNAVAILABLE,
                    "temporarily_unavailable",
                    "the destination's token endpoint limits requests, and there is no token that is valid for long enough: try again later",
                ),
                FailureReason::Malformed => (
                    StatusCode::SERVICE_UNAVAILABLE,
                    "temporarily_unavailable",
                    "the destination's token endpoint gave no usable token: try again later",
                ),
            },
            CallError::AuditUnavailable { .. } => (
                StatusCode::SERVICE_UNAVAILABLE,
                "temporarily_unavailable",
                "the broker cannot record who gets a token, so it hands out none: try again later",
            ),
            CallError::Overloaded { .. } => (
                StatusCode::SERVICE_UNAVAILABLE,
                "temporarily_unavailable",
                "the broker has too many calls under way: try again later",
            ),
            CallError::CallerRate { .. } => (
                StatusCode::TOO_MANY_REQUESTS,
                "temporarily_unavailable",
                "this caller makes too many calls in a second: try again later, and keep the token until it expires",
            ),
            CallError::DeadlineExceeded => (
                StatusCode::GATEWAY_TIMEOUT,
                "temporarily_unavailable",
                "there was no token in the time that a call may take: try again",
            ),
        }
    }
}

impl Fault {
    fn status_error_and_message(self) -> (StatusCode, &'static str, &'static str) {
        let (status, message) = match self {
            Self::ContentType => (
                StatusCode::BAD_REQUEST,
                "the body must be application/x-www-form-urlencoded, and say so",
            ),
            Self::Malformed => (
                StatusCode::BAD_REQUEST,
                "the parameters are not encoded as application/x-www-form-urlencoded in UTF-8",
            ),
            Self::TooLarge => (
                StatusCode::PAYLOAD_TOO_LARGE,
                "the body is longer than 8 KiB",
            ),
            Self::TooSlow => (
                StatusCode::REQUEST_TIMEOUT,
                "the body did not come in the time that a call may take",
            ),
            Self::Torn => (StatusCode::BAD_REQUEST, "the body has no end"),
            Self::Repeated => (
                StatusCode::BAD_REQUEST,
                "a parameter may be given once only",
            ),
            Self::TooMany => (StatusCode::BAD_REQUEST, "there are more than 32 parameters"),
            Self::GrantTypeMissing => (
                StatusCode::BAD_REQUEST,
                "grant_type is missing: it must be client_credentials",
            ),
            Self::GrantTypeUnsupported => {
                return (
                    StatusCode::BAD_REQUEST,
                    "unsupported_grant_type",
                    "the only grant_type here is client_credentials",
                );
            }
            Self::DestinationMissing => (
                StatusCode::BAD_REQUEST,
                "name the destination, by its id or name, in audience or resource",
            ),
            Self::SeveralDestinations => {
                return (
                    StatusCode::BAD_REQUEST,
                    "invalid_target",
                    "audience and resource name more than one destination, or one of them is repeated: ask for one token at a time",
                );
            }
        };
        (status, "invalid_request", message)
    }
}

/// An answer that is not to be kept by anybody on the way.
pub(super) fn json(status: StatusCode, body: &impl Serialize) -> Response {
    let Ok(body) = serde_json::to_vec(body) else {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    };
    let mut answer = (status, body).into_response();
    answer.headers_mut().insert(CONTENT_TYPE, JSON);
    not_to_be_kept(&mut answer);
    answer
}

/// RFC 6749 §5.1.
pub(super) fn not_to_be_kept(answer: &mut Response) {
    let headers = answer.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(PRAGMA, HeaderValue::from_static("no-cache"));
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::clock::Instant;

    /// All that a refusal comes to: status for OAuth 2 and for Occtoo, error, seconds.
    type Row = (u16, u16, &'static str, Option<u64>);

    fn row(refusal: Refusal) -> Row {
        let (_, error, description) = refusal.status_error_and_message();
        // RFC 6749 §5.2: no quotes, no backslashes, nothing outside of ASCII.
        let allowed = |c: char| matches!(c, ' '..='!' | '#'..='[' | ']'..='~');
        assert!(description.chars().all(allowed), "{description}");
        let (oauth2, occtoo) = (refusal.into_oauth2(), refusal.into_occtoo());
        for answer in [&oauth2, &occtoo] {
            let header = |name: HeaderName| answer.headers().get(name);
            assert_eq!(header(REASON).unwrap(), refusal.code());
            assert_eq!(header(CACHE_CONTROL).unwrap(), "no-store");
            let challenged = header(WWW_AUTHENTICATE).is_some();
            assert_eq!(challenged, answer.status() == StatusCode::UNAUTHORIZED);
        }
        let retry = |answer: &Response| {
            let retry = answer.headers().get(RETRY_AFTER)?.to_str().unwrap();
            Some(retry.parse().unwrap())
        };
        assert_eq!(retry(&oauth2), retry(&occtoo));
        let retry = retry(&oauth2);
        let statuses = (oauth2.status().as_u16(), occtoo.status().as_u16());
        (statuses.0, statuses.1, error, retry)
    }

    #[tokio::test(start_paused = true)]
    async fn every_error_has_its_status_code_and_delay() {
        let failed = |reason| {
            CallError::Refused(SlotRefusal::Failed {
                reason,
                retry_at: Instant::now() + Duration::from_millis(2_500),
            })
        };
        let retry_in = Duration::from_millis(20);
        let unavailable = "temporarily_unavailable";
        for (error, expected) in [
            (
                CallError::InvalidDestinationId,
                (400, 400, "invalid_target", None),
            ),
            (
                CallError::InvalidMinValidity,
                (400, 400, "invalid_request", None),
            ),
            (
                CallError::CallerUnidentified,
                (401, 401, "invalid_client", None),
            ),
            (CallError::NotGranted, (400, 403, "invalid_target", None)),
            (CallError::Unprotected, (400, 400, "invalid_target", None)),
            (
                CallError::Refused(SlotRefusal::Quarantined),
                (503, 503, "server_error", None),
            ),
            (
                CallError::Refused(SlotRefusal::ValidityUnattainable),
                (400, 400, "invalid_request", None),
            ),
            (
                failed(FailureReason::CredentialMissing),
                (503, 503, "server_error", None),
            ),
            (
                failed(FailureReason::CredentialRejected),
                (503, 503, "server_error", None),
            ),
            (
                failed(FailureReason::Unavailable),
                (503, 503, unavailable, Some(3)),
            ),
            (
                failed(FailureReason::Throttled),
                (503, 503, unavailable, Some(3)),
            ),
            (
                failed(FailureReason::Malformed),
                (503, 503, unavailable, Some(3)),
            ),
            (
                CallError::AuditUnavailable { retry_in },
                (503, 503, unavailable, Some(1)),
            ),
            (
                CallError::Overloaded { retry_in },
                (503, 503, unavailable, Some(1)),
            ),
            (
                CallError::CallerRate { retry_in },
                (429, 429, unavailable, Some(1)),
            ),
            (CallError::DeadlineExceeded, (504, 504, unavailable, None)),
        ] {
            assert_eq!(row(error.into()), expected, "{error:?}");
        }
        for (fault, status, error) in [
            (Fault::ContentType, 400, "invalid_request"),
            (Fault::Malformed, 400, "invalid_request"),
            (Fault::TooLarge, 413, "invalid_request"),
            (Fault::TooSlow, 408, "invalid_request"),
            (Fault::Torn, 400, "invalid_request"),
            (Fault::Repeated, 400, "invalid_request"),
            (Fault::TooMany, 400, "invalid_request"),
            (Fault::GrantTypeMissing, 400, "invalid_request"),
            (Fault::GrantTypeUnsupported, 400, "unsupported_grant_type"),
            (Fault::DestinationMissing, 400, "invalid_request"),
            (Fault::SeveralDestinations, 400, "invalid_target"),
        ] {
            assert_eq!(
                row(fault.into()),
                (status, status, error, None),
                "{fault:?}"
            );
        }
    }
}
