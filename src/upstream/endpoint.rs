//! The URL of a token endpoint.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::Arc,
};

use url::{Host, Url};

use super::address::is_localhost;

/// The URL of a token endpoint (RFC 6749 §3.2): http or https, with a host, without
/// a user, a password or a fragment. It may have a query.
/// A clone shares it: thousands of destinations may have the same.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Endpoint(Arc<Url>);

/// Why a text is not the URL of a token endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidEndpoint {
    /// It is no absolute URL.
    #[error("the token endpoint is not an absolute URL")]
    NotUrl,
    /// It has another scheme than http and https.
    #[error("the token endpoint is neither https nor http")]
    Scheme,
    /// It has a user or a password, which would end up in logs.
    #[error("the token endpoint has a user or a password")]
    UserInfo,
    /// It has a fragment (RFC 6749 §3.2 forbids it).
    #[error("the token endpoint has a fragment")]
    Fragment,
}

impl Endpoint {
    /// Reads a URL.
    ///
    /// # Errors
    /// [`InvalidEndpoint`] names the first thing that is wrong; it never repeats the text.
    pub fn parse(text: &str) -> Result<Self, InvalidEndpoint> {
        let url = Url::parse(text).map_err(|_| InvalidEndpoint::NotUrl)?;
        // An empty user, as in `https://@host`, is lost in parsing, and harmless.
        if !url.username().is_empty() || url.password().is_some() {
            return Err(InvalidEndpoint::UserInfo);
        }
        if url.fragment().is_some() {
            return Err(InvalidEndpoint::Fragment);
        }
        if !matches!(url.scheme(), "http" | "https") {
            return Err(InvalidEndpoint::Scheme);
        }
        Ok(Self(Arc::new(url)))
    }

    /// The URL in its normal form.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }

    /// The host and the port, such as `auth.example:443`: the unit in which upstreams
    /// limit rates.
    pub fn host(&self) -> String {
        let host = self.0.host_str().unwrap_or_default();
        // The scheme is http or https, so a port is always known.
        let port = self.0.port_or_known_default().unwrap_or_default();
        format!("{host}:{port}")
    }

    /// The endpoint with segments appended to its path, each percent-encoded.
    pub(super) fn join(&self, segments: &[&str]) -> Self {
        let mut url = Url::clone(&self.0);
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().extend(segments);
        }
        Self(Arc::new(url))
    }

    /// The address, if the host is one: no resolver will be asked about it.
    pub(crate) fn literal_address(&self) -> Option<IpAddr> {
        match self.0.host()? {
            Host::Ipv4(address) => Some(address.into()),
            Host::Ipv6(address) => Some(address.into()),
            Host::Domain(_) => None,
        }
    }

    /// Whether the connection is not encrypted.
    pub(crate) fn is_plain(&self) -> bool {
        self.0.scheme() == "http"
    }

    /// Whether the host is the machine itself.
    pub(crate) fn is_loopback(&self) -> bool {
        match self.0.host() {
            Some(Host::Domain(name)) => is_localhost(name),
            Some(Host::Ipv4(address)) => Ipv4Addr::is_loopback(&address),
            Some(Host::Ipv6(address)) => Ipv6Addr::is_loopback(&address),
            None => false,
        }
    }

    /// Whether the URL has a query.
    pub(crate) fn has_query(&self) -> bool {
        self.0.query().is_some()
    }

    pub(super) fn url(&self) -> &Url {
        &self.0
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_and_secure_http_urls_are_endpoints() {
        for (text, expected) in [
            ("https://auth.example/oauth2/token", Ok("auth.example:443")),
            ("HTTPS://Auth.Example:8443/t?x=1", Ok("auth.example:8443")),
            ("http://[::1]:80/token", Ok("[::1]:80")),
            ("http://0x7f.1/token", Ok("127.0.0.1:80")),
            ("auth.example/token", Err(InvalidEndpoint::NotUrl)),
            ("", Err(InvalidEndpoint::NotUrl)),
            ("https://", Err(InvalidEndpoint::NotUrl)),
            ("ftp://auth.example/", Err(InvalidEndpoint::Scheme)),
            ("file:///etc/passwd", Err(InvalidEndpoint::Scheme)),
            ("https://u@auth.example/", Err(InvalidEndpoint::UserInfo)),
            ("https://:p@auth.example/", Err(InvalidEndpoint::UserInfo)),
            ("https://auth.example/#f", Err(InvalidEndpoint::Fragment)),
        ] {
            let host = Endpoint::parse(text).map(|endpoint| endpoint.host());
            assert_eq!(host.as_deref(), expected.as_ref().copied(), "{text}");
        }
    }

    #[test]
    fn joined_segments_cannot_leave_the_path() {
        for (base, expected) in [
            ("https://h", "https://h/destinations/a%2Fb/token"),
            ("https://h/", "https://h/destinations/a%2Fb/token"),
            ("https://h/x/", "https://h/x/destinations/a%2Fb/token"),
        ] {
            let joined = Endpoint::parse(base)
                .unwrap()
                .join(&["destinations", "a/b", "token"]);
            assert_eq!(joined.as_str(), expected);
        }
    }
}
