//! Replies that hold a token. Each is built once, in memory that is wiped.

use axum::{
    body::{Body, Bytes},
    http::header::CONTENT_TYPE,
    response::Response,
};
use zeroize::Zeroizing;

use super::refusal::{JSON, not_to_be_kept};
use crate::{clock::Instant, token::Token};

/// RFC 6749 §5.1.
pub(super) fn oauth2(token: &Token) -> Response {
    let parts = [
        r#"{"access_token":""#,
        token.access_token.expose(),
        r#"","token_type":"Bearer","expires_in":"#,
        &expires_in(token),
        "}",
    ];
    reply(&parts)
}

/// As Occtoo's endpoint replies: flat, and in camel case.
pub(super) fn occtoo(token: &Token) -> Response {
    let parts = [
        r#"{"accessToken":""#,
        token.access_token.expose(),
        r#"","expiresIn":"#,
        &expires_in(token),
        "}",
    ];
    reply(&parts)
}

/// In whole seconds, so that a caller believes it for less time rather than for more.
fn expires_in(token: &Token) -> String {
    let end = token.expires_at().instant;
    let left = end.saturating_duration_since(Instant::now());
    left.as_secs().to_string()
}

/// The parts as they are: a token needs no escaping, since only the characters of
/// RFC 6750 §2.1 are taken from an upstream.
fn reply(parts: &[&str]) -> Response {
    let length = parts.iter().map(|part| part.len()).sum();
    let mut json = Zeroizing::new(Vec::with_capacity(length));
    for part in parts {
        json.extend_from_slice(part.as_bytes());
    }
    let mut response = Response::new(Body::from(Bytes::from_owner(json)));
    response.headers_mut().insert(CONTENT_TYPE, JSON);
    not_to_be_kept(&mut response);
    response
}
