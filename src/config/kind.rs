//! The kinds of upstreams, as the file names them.

use std::sync::Arc;

use crate::upstream::{OAuth2Settings, Protocol};

/// The protocol of an upstream, before a destination says what it asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Occtoo,
    OcctooIngest,
    OAuth2,
}

impl Kind {
    pub(super) const ALL: [(&str, Self); 3] = [
        ("occtoo", Self::Occtoo),
        ("occtoo-ingest", Self::OcctooIngest),
        ("oauth2", Self::OAuth2),
    ];

    /// The kind of that name.
    pub(super) fn parse(name: &str) -> Option<Self> {
        let found = Self::ALL.into_iter().find(|(known, _)| *known == name);
        found.map(|(_, kind)| kind)
    }

    /// The protocol; the settings only count for OAuth 2.
    pub(super) fn protocol(self, oauth2: OAuth2Settings) -> Protocol {
        match self {
            Self::Occtoo => Protocol::Occtoo,
            Self::OcctooIngest => Protocol::OcctooIngest,
            Self::OAuth2 => Protocol::OAuth2(Arc::new(oauth2)),
        }
    }
}
