//! What an answer means: by its status alone, and for OAuth 2 by its error code.

use std::time::Duration;

use serde::Deserialize;

use super::{
    FetchError,
    decode::Object,
    http::{Reply, Request, Target},
};
use crate::{
    slot::{Failure, FailureReason},
    telemetry::{End, Span},
    token::Minted,
};

/// What a protocol reads in bodies.
pub(super) struct Reading {
    /// Reads a token in the body of a success.
    pub token: fn(&[u8]) -> Result<Minted, FetchError>,
    /// Reads an error code in the body of a rejection.
    pub error_code: fn(&[u8]) -> Option<ErrorCode>,
}

/// An `error` from a closed list: RFC 6749 §5.2, RFC 8707 §2, and two of RFC 6749
/// §4.1.2.1 that some token endpoints send as well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ErrorCode {
    /// The request or the credentials are wrong.
    Refusal(&'static str),
    /// The endpoint itself is out of order, whatever the status says.
    OutOfOrder,
}

/// Asks an endpoint once, and reads its answer to its end.
pub(super) async fn ask(
    target: &Target,
    request: Request,
    reading: &Reading,
    flight: &Span,
) -> Result<Minted, FetchError> {
    let span = target.span(flight);
    // Whoever waits in vain drops this before it can say so.
    span.ends(End::Badly(FailureReason::Unavailable.code()));
    let result = match target.post(request, &span).await {
        Ok(reply) => read(reply, reading).await,
        Err(error) => Err(error),
    };
    span.end(match &result {
        Ok(_) => End::Well("ok"),
        Err(error) => End::Badly(Failure::from(error).reason.code()),
    });
    result
}

/// Reads an answer to its end.
async fn read(reply: Reply, reading: &Reading) -> Result<Minted, FetchError> {
    let (status, retry_after) = (reply.status, reply.retry_after);
    match Verdict::of(status) {
        Verdict::Success => (reading.token)(&reply.body().await?),
        Verdict::Throttled => Err(FetchError::Throttled { retry_after }),
        Verdict::Transient => Err(FetchError::Status {
            status,
            retry_after,
        }),
        Verdict::Rejected => Err(match reply.body().await {
            Ok(body) => rejection(status, retry_after, (reading.error_code)(&body)),
            Err(FetchError::Malformed(_)) => rejection(status, retry_after, None),
            // A rejection stops the retries, so it counts only when it arrived whole.
            Err(broken) => broken,
        }),
    }
}

/// No code is read in a rejection: its status says all.
pub(super) fn no_error_code(_body: &[u8]) -> Option<ErrorCode> {
    None
}

/// The `error` of an OAuth 2 error answer (RFC 6749 §5.2), if it is a known one.
pub(super) fn oauth_error_code(body: &[u8]) -> Option<ErrorCode> {
    #[derive(Deserialize)]
    struct Body {
        error: String,
    }
    let Object(Body { error }) = serde_json::from_slice(body).ok()?;
    // Only these fixed texts go on: the endpoint's own text may hold anything.
    Some(match error.as_str() {
        "invalid_request" => ErrorCode::Refusal("invalid_request"),
        "invalid_client" => ErrorCode::Refusal("invalid_client"),
        "invalid_grant" => ErrorCode::Refusal("invalid_grant"),
        "unauthorized_client" => ErrorCode::Refusal("unauthorized_client"),
        "unsupported_grant_type" => ErrorCode::Refusal("unsupported_grant_type"),
        "invalid_scope" => ErrorCode::Refusal("invalid_scope"),
        "invalid_target" => ErrorCode::Refusal("invalid_target"),
        "temporarily_unavailable" | "server_error" => ErrorCode::OutOfOrder,
        _ => return None,
    })
}

/// What a status says by itself. Transient is the default; the rejections are a short
/// list, because a rejection stops the retries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Success,
    Rejected,
    Throttled,
    Transient,
}

impl Verdict {
    fn of(status: u16) -> Self {
        match status {
            200..=299 => Self::Success,
            400 | 401 | 403 | 404 => Self::Rejected,
            429 => Self::Throttled,
            _ => Self::Transient,
        }
    }
}

fn rejection(status: u16, retry_after: Option<Duration>, code: Option<ErrorCode>) -> FetchError {
    match code {
        Some(ErrorCode::OutOfOrder) => FetchError::Status {
            status,
            retry_after,
        },
        Some(ErrorCode::Refusal(code)) => FetchError::Rejected {
            status,
            code: Some(code),
        },
        None => FetchError::Rejected { status, code: None },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_status_has_one_verdict() {
        for status in 100..=999 {
            let expected = match status {
                400 | 401 | 403 | 404 => Verdict::Rejected,
                429 => Verdict::Throttled,
                _ if status / 100 == 2 => Verdict::Success,
                _ => Verdict::Transient,
            };
            assert_eq!(Verdict::of(status), expected, "{status}");
        }
    }

    #[test]
    fn only_listed_error_codes_are_read() {
        for known in [
            "invalid_request",
            "invalid_client",
            "invalid_grant",
            "unauthorized_client",
            "unsupported_grant_type",
            "invalid_scope",
            "invalid_target",
        ] {
            let body = format!(r#"{{"error":"{known}","error_description":"canary"}}"#);
            assert_eq!(
                oauth_error_code(body.as_bytes()),
                Some(ErrorCode::Refusal(known))
            );
        }
        for known in ["temporarily_unavailable", "server_error"] {
            let body = format!(r#"{{"error":"{known}"}}"#);
            assert_eq!(
                oauth_error_code(body.as_bytes()),
                Some(ErrorCode::OutOfOrder)
            );
        }
        for unknown in [
            "",
            "{}",
            "<html>",
            r#"["invalid_client"]"#,
            r#"{"error":null}"#,
            r#"{"error":7}"#,
            r#"{"error":"canary"}"#,
            r#"{"error":"invalid_client "}"#,
            r#"{"error":{"error":"invalid_client"}}"#,
        ] {
            assert_eq!(oauth_error_code(unknown.as_bytes()), None, "{unknown}");
        }
    }
}
