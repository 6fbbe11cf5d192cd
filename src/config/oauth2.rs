//! What an OAuth 2 token endpoint is asked for.

use toml::de::DeValue;
use url::Url;

use super::{reader::Section, suggestion::quoted, values};

/// What an OAuth 2 token endpoint is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OAuth2 {
    /// How the client authenticates.
    pub client_authentication: ClientAuthentication,
    /// The `scope` parameter (RFC 6749 §3.3).
    pub scope: Option<String>,
    /// The `audience` parameter.
    pub audience: Option<String>,
    /// The `resource` parameters (RFC 8707 §2).
    pub resource: Vec<String>,
    /// Further form parameters, in file order, none of them with a reserved name.
    pub parameters: Vec<(String, String)>,
}

/// How a client authenticates to an OAuth 2 token endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ClientAuthentication {
    /// HTTP Basic (RFC 6749 §2.3.1).
    ClientSecretBasic,
    /// The secret in the form (RFC 6749 §2.3.1).
    ClientSecretPost,
    /// A signed assertion (RFC 7523 §2.2).
    PrivateKeyJwt,
}

const CLIENT_AUTHENTICATIONS: [(&str, ClientAuthentication); 3] = [
    (
        "client_secret_basic",
        ClientAuthentication::ClientSecretBasic,
    ),
    ("client_secret_post", ClientAuthentication::ClientSecretPost),
    ("private_key_jwt", ClientAuthentication::PrivateKeyJwt),
];

/// The parameters that the broker sends itself.
const RESERVED: [&str; 8] = [
    "audience",
    "client_assertion",
    "client_assertion_type",
    "client_id",
    "client_secret",
    "grant_type",
    "resource",
    "scope",
];

impl OAuth2 {
    /// The keys of a destination that mean something to OAuth 2 endpoints only.
    pub(super) const KEYS: [&str; 6] = [
        "endpoint",
        "client_authentication",
        "scope",
        "audience",
        "resource",
        "parameters",
    ];

    pub(super) fn read(section: &Section<'_>) -> Self {
        let owned = |key| section.optional(key, values::line).map(str::to_owned);
        Self {
            client_authentication: section.or(
                "client_authentication",
                ClientAuthentication::ClientSecretBasic,
                values::choice(&CLIENT_AUTHENTICATIONS),
            ),
            scope: owned("scope"),
            audience: owned("audience"),
            resource: section.one_or_list("resource", resource),
            parameters: parameters(section),
        }
    }
}

impl ClientAuthentication {
    /// The registered name (RFC 7591 §2, RFC 8414 §2).
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ClientSecretBasic => "client_secret_basic",
            Self::ClientSecretPost => "client_secret_post",
            Self::PrivateKeyJwt => "private_key_jwt",
        }
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
        let problem = if RESERVED.contains(&name) {
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
