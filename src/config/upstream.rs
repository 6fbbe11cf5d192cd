//! `[[upstream]]`: the settings that the destinations of one upstream share.

use std::{ops::RangeInclusive, time::Duration};

use super::{
    endpoint::{Reach, base_url, token_url},
    folder::Folder,
    reader::Section,
    unique::Unique,
    values,
};
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

/// What could be read of an upstream.
pub(super) struct Draft {
    pub(super) upstream: Upstream,
    /// `None` when it is wrong, so that nothing that depends on it is reported.
    pub(super) kind: Option<Kind>,
    pub(super) endpoint: Endpoint,
}

/// The endpoint that the destinations of an upstream share.
pub(super) enum Endpoint {
    None,
    Wrong,
    Right(String),
}

const DEFAULT_CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(5);
const DEFAULT_CONCURRENCY: usize = 16;
const DEFAULT_LIFETIMES: LifetimeRule = LifetimeRule {
    default: Duration::from_secs(60 * 60),
    max: Duration::from_secs(24 * 60 * 60),
};

const TIMEOUTS: RangeInclusive<Duration> = Duration::from_millis(10)..=Duration::from_secs(300);
const LIFETIMES: RangeInclusive<Duration> =
    Duration::from_secs(1)..=Duration::from_secs(30 * 24 * 60 * 60);
const CONCURRENCY: RangeInclusive<usize> = 1..=1024;

impl Kind {
    pub(super) const ALL: [(&str, Self); 3] = [
        ("occtoo", Self::Occtoo),
        ("occtoo-ingest", Self::OcctooIngest),
        ("oauth2", Self::OAuth2),
    ];

    /// The kind of that name.
    pub fn parse(name: &str) -> Option<Self> {
        let found = Self::ALL.into_iter().find(|(known, _)| *known == name);
        found.map(|(_, kind)| kind)
    }

    /// The name, as the configuration writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Occtoo => "occtoo",
            Self::OcctooIngest => "occtoo-ingest",
            Self::OAuth2 => "oauth2",
        }
    }

    /// The documented address of the service; an OAuth 2 endpoint can be anybody's.
    pub(super) fn default_endpoint(self) -> Endpoint {
        match self {
            Self::Occtoo => Endpoint::Right("https://destinations.occtoo.com".to_owned()),
            Self::OcctooIngest => {
                Endpoint::Right("https://ingest.occtoo.com/dataProviders/tokens".to_owned())
            }
            Self::OAuth2 => Endpoint::None,
        }
    }
}

impl Draft {
    /// The upstream that a kind stands for when nothing is written about it.
    pub(super) fn built_in(kind: Kind) -> Self {
        Self {
            upstream: Upstream {
                name: kind.as_str().to_owned(),
                kind,
                ca: None,
                plain_http: false,
                allow_loopback: false,
                allow_private: false,
                connect_timeout: DEFAULT_CONNECT_TIMEOUT,
                timeout: DEFAULT_TIMEOUT,
                concurrency: DEFAULT_CONCURRENCY,
                lifetimes: DEFAULT_LIFETIMES,
            },
            kind: Some(kind),
            endpoint: kind.default_endpoint(),
        }
    }

    /// Reads an upstream; `None` only when it has no name to refer to.
    pub(super) fn read(section: Section<'_>, names: &mut Unique, folder: &Folder) -> Option<Self> {
        let name = section.required("name", "\"occtoo\"", values::line);
        if let Some(name) = name {
            names.take(name, &section, "name");
        }
        let kind = read_kind(&section, name);
        let reach = Reach {
            plain_http: section.or("plain_http", false, values::boolean),
            allow_loopback: section.or("allow_loopback", false, values::boolean),
            allow_private: section.or("allow_private", false, values::boolean),
        };
        let endpoint = section.optional("endpoint", |value| {
            let text = values::text(value)?;
            match kind {
                Some(Kind::Occtoo) => base_url(text, reach),
                _ => token_url(text, reach),
            }
        });
        let endpoint = match (endpoint, kind) {
            (Some(endpoint), _) => Endpoint::Right(endpoint),
            (None, Some(kind)) if !section.has("endpoint") => kind.default_endpoint(),
            (None, _) => Endpoint::Wrong,
        };
        let ca = section.optional("ca", |value| folder.certificate_text(value));
        let (connect_timeout, timeout) = read_timeouts(&section);
        let concurrency = section.or(
            "concurrency",
            DEFAULT_CONCURRENCY,
            values::number(CONCURRENCY),
        );
        let lifetimes = read_lifetimes(&section);
        section.finish();
        Some(Self {
            upstream: Upstream {
                name: name?.to_owned(),
                kind: kind.unwrap_or(Kind::OAuth2),
                ca,
                plain_http: reach.plain_http,
                allow_loopback: reach.allow_loopback,
                allow_private: reach.allow_private,
                connect_timeout,
                timeout,
                concurrency,
                lifetimes,
            },
            kind,
            endpoint,
        })
    }

    pub(super) fn reach(&self) -> Reach {
        Reach {
            plain_http: self.upstream.plain_http,
            allow_loopback: self.upstream.allow_loopback,
            allow_private: self.upstream.allow_private,
        }
    }
}

fn read_kind(section: &Section<'_>, name: Option<&str>) -> Option<Kind> {
    if section.has("kind") {
        return section.optional("kind", values::choice(&Kind::ALL));
    }
    let kind = name.and_then(Kind::parse);
    // Without a name that one is missing, and it may well say the kind.
    if kind.is_none() && name.is_some() {
        section.report_missing("kind", "\"occtoo\", \"occtoo-ingest\" or \"oauth2\"");
    }
    kind
}

fn read_timeouts(section: &Section<'_>) -> (Duration, Duration) {
    let timeout = section.or("timeout", DEFAULT_TIMEOUT, values::duration(TIMEOUTS));
    // A short timeout alone is no contradiction.
    let default = DEFAULT_CONNECT_TIMEOUT.min(timeout);
    let connect_timeout = section.or("connect_timeout", default, values::duration(TIMEOUTS));
    if connect_timeout > timeout {
        section.report("connect_timeout", "must not be longer than \"timeout\"");
    }
    (connect_timeout, timeout)
}

fn read_lifetimes(section: &Section<'_>) -> LifetimeRule {
    let max = section.or(
        "max_lifetime",
        DEFAULT_LIFETIMES.max,
        values::duration(LIFETIMES),
    );
    let default = DEFAULT_LIFETIMES.default.min(max);
    let default = section.or("default_lifetime", default, values::duration(LIFETIMES));
    if default > max {
        section.report(
            "default_lifetime",
            "must not be longer than \"max_lifetime\"",
        );
    }
    LifetimeRule { default, max }
}
