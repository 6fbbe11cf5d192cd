//! The keys of a destination that say what an OAuth 2 token endpoint is asked for.

use std::sync::Arc;

use toml::de::DeValue;
use url::Url;

use super::{reader::Section, suggestion::quoted, values};
use crate::{
    destination::AskedFor,
    upstream::{ClientAuthentication, OAuth2Settings},
};

/// The keys of a destination that mean something to OAuth 2 endpoints only.
pub(super) const KEYS: [&str; 6] = [
    "endpoint",
    "client_authentication",
    "scope",
    "audience",
    "resource",
    "parameters",
];

pub(super) fn read(section: &Section<'_>) -> OAuth2Settings {
    let owned = |key| section.optional(key, values::line).map(str::to_owned);
    OAuth2Settings {
        client_authentication: section.or(
            "client_authentication",
            ClientAuthentication::default(),
            values::choice(&ClientAuthentication::ALL.map(|known| (known.as_str(), known))),
        ),
        asked: Arc::new(AskedFor {
            scope: owned("scope"),
            audience: owned("audience"),
            resource: section.one_or_list("resource", resource),
            parameters: parameters(section),
        }),
    }
}

fn resource(value: &DeValue<'_>) -> Result<String, String> {
    let text = values::line(value)?;
    // RFC 8707 §2: an absolute URI without a fragment.
    match Url::parse(text) {
        Ok(url) if url.fragment().is_none() => Ok(text.to_owned()),
        _ => Err("must be an absolute URI without a fragment (RFC 8707)".to_owned()),
    }
}

fn parameters(section: &Section<'_>) -> Vec<(String, String)> {
    let mut parameters = Vec::new();
    for (name, value, at) in section.texts("parameters") {
        let problem = if OAuth2Settings::RESERVED.contains(&name) {
            "is a parameter that the broker sends itself: remove it"
        } else if name.is_empty() || name.chars().any(char::is_control) {
            "is no name of a parameter"
        } else {
            parameters.push((name.to_owned(), value.to_owned()));
            continue;
        };
        let message = format!("{} {problem}", quoted(name));
        section.findings().report(&at, message);
    }
    parameters
}
