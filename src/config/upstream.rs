//! `[[upstream]]`: the settings that the destinations of one upstream share.

use std::{ops::RangeInclusive, sync::Arc, time::Duration};

use super::{
    endpoint::{base_url, token_url},
    folder::Folder,
    kind::Kind,
    reader::Section,
    unique::Unique,
    values,
};
use crate::{
    token::LifetimeRule,
    upstream::{AddressRule, Endpoint, HttpSettings, OAuth2Settings},
};

/// An upstream: how its endpoints are reached, and how its tokens are read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upstream {
    /// The name that destinations refer to; no other upstream has it.
    pub name: String,
    /// How its endpoints are reached.
    pub http: HttpSettings,
    /// How many exchanges may be under way at once.
    pub concurrency: usize,
    /// How the lifetimes of its tokens are read.
    pub lifetimes: LifetimeRule,
}

/// What could be read of an upstream.
pub(super) struct Draft {
    pub(super) upstream: Arc<Upstream>,
    /// `None` when it is wrong, so that nothing that depends on it is reported.
    pub(super) kind: Option<Kind>,
    pub(super) endpoint: SharedEndpoint,
}

/// The endpoint that the destinations of an upstream share.
pub(super) enum SharedEndpoint {
    None,
    Wrong,
    Right(Endpoint),
}

const DEFAULT_CONCURRENCY: usize = 16;
const DEFAULT_LIFETIMES: LifetimeRule = LifetimeRule {
    default: Duration::from_secs(60 * 60),
    max: Duration::from_secs(24 * 60 * 60),
};

const TIMEOUTS: RangeInclusive<Duration> = Duration::from_millis(10)..=Duration::from_secs(300);
const LIFETIMES: RangeInclusive<Duration> =
    Duration::from_secs(1)..=Duration::from_secs(24 * 60 * 60);
const CONCURRENCY: RangeInclusive<usize> = 1..=1024;

impl Draft {
    /// The upstream that a kind stands for when nothing is written about it.
    pub(super) fn built_in(name: &str, kind: Kind) -> Self {
        Self {
            upstream: Arc::new(Upstream {
                name: name.to_owned(),
                http: HttpSettings::default(),
                concurrency: DEFAULT_CONCURRENCY,
                lifetimes: DEFAULT_LIFETIMES,
            }),
            kind: Some(kind),
            endpoint: SharedEndpoint::of_service(kind),
        }
    }

    /// Reads an upstream; `None` only when it has no name to refer to.
    pub(super) fn read(section: Section<'_>, names: &mut Unique, folder: &Folder) -> Option<Self> {
        let name = section.required("name", "\"occtoo\"", values::line);
        if let Some(name) = name {
            names.take(name, &section, "name");
        }
        let kind = read_kind(&section, name);
        let http = read_http(&section, folder);
        let endpoint = SharedEndpoint::read(&section, kind, &http);
        let concurrency = section.or(
            "concurrency",
            DEFAULT_CONCURRENCY,
            values::number(CONCURRENCY),
        );
        let lifetimes = read_lifetimes(&section);
        section.finish();
        Some(Self {
            upstream: Arc::new(Upstream {
                name: name?.to_owned(),
                http,
                concurrency,
                lifetimes,
            }),
            kind,
            endpoint,
        })
    }
}

impl SharedEndpoint {
    fn read(section: &Section<'_>, kind: Option<Kind>, http: &HttpSettings) -> Self {
        let endpoint = section.optional("endpoint", |value| {
            let text = values::text(value)?;
            match kind {
                Some(Kind::Occtoo) => base_url(text, http),
                _ => token_url(text, http),
            }
        });
        match (endpoint, kind) {
            (Some(endpoint), _) => Self::Right(endpoint),
            (None, Some(kind)) if !section.has("endpoint") => Self::of_service(kind),
            (None, _) => Self::Wrong,
        }
    }

    fn of_service(kind: Kind) -> Self {
        kind.protocol(OAuth2Settings::default())
            .default_endpoint()
            .map_or(Self::None, Self::Right)
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

fn read_http(section: &Section<'_>, folder: &Folder) -> HttpSettings {
    let default = HttpSettings::default();
    let timeout = section.or("timeout", default.total_timeout, values::duration(TIMEOUTS));
    // A short timeout alone is no contradiction.
    let connect_timeout = section.or(
        "connect_timeout",
        default.connect_timeout.min(timeout),
        values::duration(TIMEOUTS),
    );
    if connect_timeout > timeout {
        section.report("connect_timeout", "must not be longer than \"timeout\"");
    }
    let allowed = |key, default| section.or(key, default, values::boolean);
    HttpSettings {
        plain_http: allowed("plain_http", default.plain_http),
        addresses: AddressRule {
            loopback: allowed("allow_loopback", default.addresses.loopback),
            private: allowed("allow_private", default.addresses.private),
        },
        ca_pem: section.optional("ca", |value| folder.certificate_text(value)),
        trace_context: allowed("trace_context", default.trace_context),
        connect_timeout,
        total_timeout: timeout,
    }
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
