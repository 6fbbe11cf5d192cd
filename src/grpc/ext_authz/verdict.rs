//! The one place where an answer becomes what a proxy does with the request.

use envoy_types::pb::{
    envoy::{
        config::core::v3::{
            HeaderValue, HeaderValueOption, header_value_option::HeaderAppendAction,
        },
        service::auth::v3::{
            CheckResponse, DeniedHttpResponse, OkHttpResponse, check_response::HttpResponse,
        },
        r#type::v3::{HttpStatus, StatusCode},
    },
    google::rpc,
};

use crate::{
    broker::CallError, clock::whole_seconds, grpc::status::code_and_message, slot::Refusal,
    token::Token,
};

/// The request goes on with the token, or as it is where it needs none; or it is denied.
///
/// The answer holds the token in plain text, and its `Debug` shows it: it is for the wire
/// only.
pub(in crate::grpc) fn verdict(result: Result<&Token, CallError>) -> CheckResponse {
    let status = match result {
        Ok(token) => return allowed(vec![bearer(token)]),
        Err(CallError::Unprotected) => return allowed(Vec::new()),
        Err(CallError::InvalidDestinationId | CallError::InvalidMinValidity) => {
            StatusCode::BadRequest
        }
        Err(CallError::CallerUnidentified) => StatusCode::Unauthorized,
        Err(CallError::NotGranted) => StatusCode::Forbidden,
        Err(CallError::CallerRate { .. }) => StatusCode::TooManyRequests,
        Err(
            CallError::AuditUnavailable { .. }
            | CallError::Overloaded { .. }
            | CallError::Refused(
                Refusal::Quarantined | Refusal::ValidityUnattainable | Refusal::Failed { .. },
            ),
        ) => StatusCode::ServiceUnavailable,
        Err(CallError::DeadlineExceeded) => StatusCode::GatewayTimeout,
    };
    result
        .err()
        .map_or_else(CheckResponse::default, |error| denied(error, status))
}

fn allowed(headers: Vec<HeaderValueOption>) -> CheckResponse {
    CheckResponse {
        status: Some(rpc::Status::default()),
        http_response: Some(HttpResponse::OkResponse(OkHttpResponse {
            headers,
            ..OkHttpResponse::default()
        })),
        ..CheckResponse::default()
    }
}

fn denied(error: CallError, status: StatusCode) -> CheckResponse {
    let (code, message) = code_and_message(error);
    let mut headers = vec![header("x-token-broker-reason", error.code().to_owned())];
    if let Some(delay) = error.retry_delay() {
        headers.push(header("retry-after", whole_seconds(delay).to_string()));
    }
    CheckResponse {
        status: Some(rpc::Status {
            code: code.into(),
            ..rpc::Status::default()
        }),
        http_response: Some(HttpResponse::DeniedResponse(DeniedHttpResponse {
            status: Some(HttpStatus {
                code: status.into(),
            }),
            headers,
            body: format!("{message}\n"),
        })),
        ..CheckResponse::default()
    }
}

fn bearer(token: &Token) -> HeaderValueOption {
    header(
        "authorization",
        format!("Bearer {}", token.access_token.expose()),
    )
}

/// A header in place of all others of its name, the client's included.
fn header(name: &str, value: String) -> HeaderValueOption {
    HeaderValueOption {
        header: Some(HeaderValue {
            key: name.to_owned(),
            value,
            ..HeaderValue::default()
        }),
        append_action: HeaderAppendAction::OverwriteIfExistsOrAdd.into(),
        ..HeaderValueOption::default()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{clock::Instant, slot::FailureReason};

    /// Status, reason and `retry-after` of a denial.
    fn told(error: CallError) -> (i32, String, Option<String>) {
        let response = verdict(Err(error));
        let Some(HttpResponse::DeniedResponse(denied)) = response.http_response else {
            panic!("{error:?} is no denial");
        };
        assert_ne!(response.status.unwrap().code, 0);
        let header = |name: &str| {
            let headers = denied.headers.iter().filter_map(|set| set.header.as_ref());
            let mut named = headers.filter(|header| header.key == name);
            named.next().map(|header| header.value.clone())
        };
        let reason = header("x-token-broker-reason").unwrap();
        (denied.status.unwrap().code, reason, header("retry-after"))
    }

    #[test]
    fn every_error_has_its_status_reason_and_retry_delay() {
        let failed = |reason, seconds| {
            CallError::Refused(Refusal::Failed {
                reason,
                retry_at: Instant::now() + Duration::from_secs(seconds),
            })
        };
        let retry_in = Duration::from_millis(1200);
        for (error, status, retry_after) in [
            (CallError::InvalidDestinationId, 400, None),
            (CallError::InvalidMinValidity, 400, None),
            (CallError::CallerUnidentified, 401, None),
            (CallError::NotGranted, 403, None),
            (CallError::CallerRate { retry_in }, 429, Some("2")),
            (CallError::AuditUnavailable { retry_in }, 503, Some("2")),
            (CallError::Overloaded { retry_in }, 503, Some("2")),
            (CallError::Refused(Refusal::Quarantined), 503, None),
            (CallError::Refused(Refusal::ValidityUnattainable), 503, None),
            (failed(FailureReason::CredentialMissing, 9), 503, None),
            (failed(FailureReason::CredentialRejected, 9), 503, None),
            (failed(FailureReason::Unavailable, 9), 503, Some("9")),
            (failed(FailureReason::Throttled, 0), 503, Some("1")),
            (failed(FailureReason::Malformed, 9), 503, Some("9")),
            (CallError::DeadlineExceeded, 504, None),
        ] {
            let expected = (
                status,
                error.code().to_owned(),
                retry_after.map(str::to_owned),
            );
            assert_eq!(told(error), expected);
        }
    }

    #[test]
    fn a_request_that_needs_no_token_goes_on_as_it_is() {
        let response = verdict(Err(CallError::Unprotected));
        assert_eq!(response.status.unwrap().code, 0);
        let unchanged = HttpResponse::OkResponse(OkHttpResponse::default());
        assert_eq!(response.http_response, Some(unchanged));
    }
}
