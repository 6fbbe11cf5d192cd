//! What OAuth 2 clients may look up about the token endpoint (RFC 8414).

use std::net::Ipv6Addr;

use axum::{
    extract::Request,
    http::{StatusCode, header::HOST},
    response::{IntoResponse as _, Response},
};
use serde::Serialize;

use super::{
    oauth2, peer,
    refusal::{Refusal, json},
};
use crate::broker::CallError;

pub(super) const PATH: &str = "/.well-known/oauth-authorization-server";

/// RFC 8414 §2. The authority is the one that the caller has asked, which its TLS has
/// verified already: the broker may be known by several names.
#[derive(Serialize)]
struct Metadata {
    issuer: String,
    token_endpoint: String,
    grant_types_supported: [&'static str; 1],
    response_types_supported: [&'static str; 0],
    /// The certificate is what counts (RFC 8705 §2.1). The others are for clients that
    /// insist on sending something, or on sending nothing.
    token_endpoint_auth_methods_supported: [&'static str; 4],
}

pub(super) async fn metadata(request: Request) -> Response {
    let Some(peer) = peer(&request) else {
        return Refusal::from(CallError::CallerUnidentified).into_oauth2();
    };
    let _call = match peer.call() {
        Ok(call) => call,
        Err(overload) => return Refusal::from(CallError::from(overload)).into_oauth2(),
    };
    let Some(authority) = authority(&request) else {
        return StatusCode::BAD_REQUEST.into_response();
    };
    let issuer = format!("https://{authority}");
    json(
        StatusCode::OK,
        &Metadata {
            token_endpoint: format!("{issuer}{}", oauth2::PATH),
            issuer,
            grant_types_supported: ["client_credentials"],
            response_types_supported: [],
            token_endpoint_auth_methods_supported: [
                "tls_client_auth",
                "none",
                "client_secret_basic",
                "client_secret_post",
            ],
        },
    )
}

/// Whom the caller believes to be asking.
fn authority(request: &Request) -> Option<&str> {
    let text = match request.uri().authority() {
        Some(authority) => authority.as_str(),
        None => request.headers().get(HOST)?.to_str().ok()?,
    };
    is_host_and_port(text).then_some(text)
}

/// Whether a text is a host, and perhaps a port, and nothing else.
fn is_host_and_port(text: &str) -> bool {
    /// The longest name (RFC 1035 §2.3.4).
    const LONGEST: usize = 255;
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (text, None),
    };
    let is_port = port.is_none_or(|port| {
        port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok()
    });
    let bracketed = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'));
    let is_host = match bracketed {
        Some(address) => address.parse::<Ipv6Addr>().is_ok(),
        None => {
            (1..=LONGEST).contains(&host.len())
                && host
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.'))
        }
    };
    is_host && is_port
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_host_and_a_port_are_an_authority() {
        for text in [
            "broker",
            "broker.example:7443",
            "127.0.0.1:1",
            "[::1]",
            "[::1]:7443",
        ] {
            assert!(is_host_and_port(text), "{text}");
        }
        for text in [
            "",
            ":7443",
            "broker:",
            "broker:70000",
            "broker:+1",
            "broker:1:2",
            "user@broker",
            "broker/path",
            "broker\"",
            "broker ",
            "::1",
            "[::1",
            "[nonsense]:1",
            "bröker",
        ] {
            assert!(!is_host_and_port(text), "{text}");
        }
    }
}
