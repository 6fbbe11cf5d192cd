//! The URL of a token endpoint, or the base URL from which it is made.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use url::{Host, Url};

/// Where an upstream's endpoints may be.
#[derive(Clone, Copy)]
pub(super) struct Reach {
    pub(super) plain_http: bool,
    pub(super) allow_loopback: bool,
    pub(super) allow_private: bool,
}

/// What an address is good for.
#[derive(PartialEq)]
enum Scope {
    Public,
    Loopback,
    Private,
    /// Nobody's, everybody's, or the local link's, where clouds keep their metadata.
    Unusable,
}

/// The URL of a token endpoint; it may have a query (RFC 6749 §3.2).
pub(super) fn token_url(text: &str, reach: Reach) -> Result<String, String> {
    parse(text, reach).map(Into::into)
}

/// A base URL, without a slash at the end.
pub(super) fn base_url(text: &str, reach: Reach) -> Result<String, String> {
    let url = parse(text, reach)?;
    if url.query().is_some() {
        return Err("must be a base URL without a query".to_owned());
    }
    Ok(url.as_str().trim_end_matches('/').to_owned())
}

fn parse(text: &str, reach: Reach) -> Result<Url, String> {
    let no_url = || "must be a URL such as \"https://auth.example/oauth2/token\"".to_owned();
    let url = Url::parse(text).map_err(|_| no_url())?;
    let host = url.host().ok_or_else(no_url)?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err(
            "must not hold a user or a password: credentials are never in this file".to_owned(),
        );
    }
    if url.fragment().is_some() {
        return Err("must not have a fragment (#)".to_owned());
    }
    let scope = scope(&host);
    match url.scheme() {
        "http" if scope != Scope::Loopback => {
            return Err(
                "must begin with https://: without TLS only loopback is spoken to".to_owned(),
            );
        }
        "http" if !reach.plain_http => {
            return Err(
                "must begin with https://, unless its [[upstream]] has plain_http = true"
                    .to_owned(),
            );
        }
        "http" | "https" => {}
        _ => return Err("must begin with https://".to_owned()),
    }
    match scope {
        Scope::Loopback if !reach.allow_loopback => {
            Err("is on loopback: write allow_loopback = true in its [[upstream]]".to_owned())
        }
        Scope::Private if !reach.allow_private => Err(
            "is at a private address: write allow_private = true in its [[upstream]]".to_owned(),
        ),
        Scope::Unusable => Err("is at an address where no token endpoint can be".to_owned()),
        _ => Ok(url),
    }
}

// Only what the text itself shows; where a name leads is checked whenever it is resolved.
fn scope(host: &Host<&str>) -> Scope {
    match *host {
        Host::Domain(name) if is_localhost(name) => Scope::Loopback,
        Host::Domain(_) => Scope::Public,
        Host::Ipv4(address) => scope_v4(address),
        Host::Ipv6(address) => match address.to_canonical() {
            IpAddr::V4(address) => scope_v4(address),
            IpAddr::V6(address) => scope_v6(address),
        },
    }
}

fn is_localhost(name: &str) -> bool {
    let name = name.strip_suffix('.').unwrap_or(name);
    name == "localhost" || name.ends_with(".localhost")
}

fn scope_v4(address: Ipv4Addr) -> Scope {
    if address.is_loopback() {
        Scope::Loopback
    } else if address.is_private() {
        Scope::Private
    } else if address.is_unspecified()
        || address.is_link_local()
        || address.is_broadcast()
        || address.is_multicast()
    {
        Scope::Unusable
    } else {
        Scope::Public
    }
}

fn scope_v6(address: Ipv6Addr) -> Scope {
    if address.is_loopback() {
        Scope::Loopback
    } else if address.is_unique_local() {
        Scope::Private
    } else if address.is_unspecified() || address.is_unicast_link_local() || address.is_multicast()
    {
        Scope::Unusable
    } else {
        Scope::Public
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STRICT: Reach = Reach {
        plain_http: false,
        allow_loopback: false,
        allow_private: false,
    };
    const OPEN: Reach = Reach {
        plain_http: true,
        allow_loopback: true,
        allow_private: true,
    };

    #[test]
    fn only_https_to_public_hosts_unless_allowed() {
        for (text, strict, open) in [
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
            assert_eq!(token_url(text, STRICT).is_ok(), strict, "{text}");
            assert_eq!(token_url(text, OPEN).is_ok(), open, "{text}");
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
            assert_eq!(base_url(text, STRICT).ok().as_deref(), expected, "{text}");
        }
    }
}
