//! `[[upstream]]`: the settings that the destinations of one upstream share.

use std::time::Duration;

use crate::token::LifetimeRule;

/// An upstream: a protocol, and how its endpoints are reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upstream {
    /// The name that destinations refer to.
    pub name: String,
    /// The protocol of its token endpoints.
    pub kind: Kind,
    /// The only root certificates to trust, in PEM; otherwise those of the web.
    pub ca: Option<Vec<u8>>,
    /// Whether `http://` endpoints on loopback are spoken to.
    pub plain_http: bool,
    /// Whether an endpoint may be at a loopback address.
    pub allow_loopback: bool,
    /// Whether an endpoint may be at a private address.
    pub allow_private: bool,
    /// How long connecting may take, the TLS handshake included.
    pub connect_timeout: Duration,
    /// How long one exchange may take as a whole.
    pub timeout: Duration,
    /// How many exchanges may be under way at once.
    pub concurrency: usize,
    /// How the lifetimes of its tokens are read.
    pub lifetimes: LifetimeRule,
}

/// The protocol of a token endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// An Occtoo destination's token.
    Occtoo,
    /// An Occtoo data provider's token.
    OcctooIngest,
    /// The client credentials grant (RFC 6749 §4.4).
    OAuth2,
}
