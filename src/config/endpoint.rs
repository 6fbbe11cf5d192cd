//! The URL of a token endpoint, or the base URL from which it is made.

use crate::upstream::{AddressRule, Endpoint, HttpSettings, InvalidEndpoint};

/// The URL of a token endpoint; it may have a query (RFC 6749 §3.2).
pub(super) fn token_url(text: &str, http: &HttpSettings) -> Result<Endpoint, String> {
    let endpoint = Endpoint::parse(text).map_err(|invalid| advice(invalid).to_owned())?;
    match objection(&endpoint, http) {
        None => Ok(endpoint),
        Some(objection) => Err(objection.to_owned()),
    }
}

/// A base URL; slashes at its end mean nothing.
pub(super) fn base_url(text: &str, http: &HttpSettings) -> Result<Endpoint, String> {
    let endpoint = token_url(text, http)?;
    if endpoint.has_query() {
        return Err("must be a base URL without a query".to_owned());
    }
    let base = endpoint.as_str().trim_end_matches('/');
    Endpoint::parse(base).map_err(|invalid| advice(invalid).to_owned())
}

fn advice(invalid: InvalidEndpoint) -> &'static str {
    match invalid {
        InvalidEndpoint::NotUrl => "must be a URL such as \"https://auth.example/oauth2/token\"",
        InvalidEndpoint::UserInfo => {
            "must not hold a user or a password: credentials are never in this file"
        }
        InvalidEndpoint::Fragment => "must not have a fragment (#)",
        InvalidEndpoint::Scheme => "must begin with https://",
    }
}

/// Why an endpoint would never be asked, as far as its URL shows; where a name leads is
/// judged whenever it is resolved.
fn objection(endpoint: &Endpoint, http: &HttpSettings) -> Option<&'static str> {
    if endpoint.is_plain() {
        if !endpoint.is_loopback() {
            return Some("must begin with https://: without TLS only loopback is spoken to");
        }
        if !http.plain_http {
            return Some("must begin with https://, unless its [[upstream]] has plain_http = true");
        }
    }
    let permitted = |rule: AddressRule| match endpoint.literal_address() {
        Some(address) => rule.permits(address),
        None => rule.loopback || !endpoint.is_loopback(),
    };
    let rule = http.addresses;
    let (loopback, private) = (true, true);
    if permitted(rule) {
        None
    } else if permitted(AddressRule { loopback, ..rule }) {
        Some("is on loopback: write allow_loopback = true in its [[upstream]]")
    } else if permitted(AddressRule { private, ..rule }) {
        Some("is at a private address: write allow_private = true in its [[upstream]]")
    } else {
        Some("is at an address where no token endpoint can be")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strict() -> HttpSettings {
        HttpSettings::default()
    }

    fn open() -> HttpSettings {
        HttpSettings {
            plain_http: true,
            addresses: AddressRule {
                loopback: true,
                private: true,
            },
            ..strict()
        }
    }

    #[test]
    fn only_https_to_public_hosts_unless_allowed() {
        for (text, by_default, when_allowed) in [
            ("https://auth.example/token", true, true),
            ("https://auth.example/token?tenant=1", true, true),
            ("https://9.9.9.9/token", true, true),
            ("https://127.0.0.1:8443/token", false, true),
            ("https://[::1]/token", false, true),
            ("https://[::ffff:127.0.0.1]/token", false, true),
            ("https://localhost/token", false, true),
            ("https://localhost./token", false, true),
            ("https://a.localhost/token", false, true),
            ("http://127.0.0.1:8080/token", false, true),
            ("http://localhost/token", false, true),
            ("https://10.0.0.1/token", false, true),
            ("https://192.168.1.1/token", false, true),
            ("https://[fd00::1]/token", false, true),
            ("http://10.0.0.1/token", false, false),
            ("http://auth.example/token", false, false),
            ("http://0x7f000001/token", false, true),
            ("https://0.0.0.0/token", false, false),
            ("https://169.254.169.254/token", false, false),
            ("https://168.63.129.16/token", false, false),
            ("https://100.64.0.1/token", false, true),
            ("https://203.0.113.1/token", false, false),
            ("https://[64:ff9b::7f00:1]/token", false, true),
            ("https://[64:ff9b::a9fe:a9fe]/token", false, false),
            ("http://a.localhost/token", false, true),
            ("https://[fe80::1]/token", false, false),
            ("https://user@auth.example/token", false, false),
            ("https://user:pass@auth.example/token", false, false),
            ("https://auth.example/token#x", false, false),
            ("ftp://auth.example/token", false, false),
            ("auth.example/token", false, false),
            ("file:///etc/passwd", false, false),
            ("data:x", false, false),
            ("", false, false),
        ] {
            assert_eq!(token_url(text, &strict()).is_ok(), by_default, "{text}");
            assert_eq!(token_url(text, &open()).is_ok(), when_allowed, "{text}");
        }
    }

    #[test]
    fn a_base_url_has_no_slash_at_its_end_and_no_query() {
        for (text, expected) in [
            (
                "https://destinations.example",
                Some("https://destinations.example"),
            ),
            (
                "https://destinations.example/",
                Some("https://destinations.example"),
            ),
            (
                "https://destinations.example/a//",
                Some("https://destinations.example/a"),
            ),
            ("https://destinations.example/?a", None),
        ] {
            let expected = expected.map(|expected| Endpoint::parse(expected).unwrap());
            assert_eq!(base_url(text, &strict()).ok(), expected, "{text}");
        }
    }
}
