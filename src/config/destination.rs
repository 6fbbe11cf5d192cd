//! `[[destination]]`: what callers ask for, and who may.

use std::sync::Arc;

use crate::{
    credential::Credential,
    destination::{ApplicationName, DestinationId},
    policy::CallerPattern,
};

/// A destination.
#[derive(Clone, Debug)]
pub struct Destination {
    /// Its id, which is unique among all ids and names.
    pub id: DestinationId,
    /// A second name, equally unique.
    pub name: Option<DestinationId>,
    /// Whether its tokens are minted before anybody asks.
    pub warm: bool,
    /// Whether it wants a token, and how one is minted.
    pub protection: Protection,
    /// Who may have its tokens, in file order; the first that matches decides.
    pub grants: Vec<Grant>,
}

/// Whether a destination wants a token.
#[derive(Clone, Debug)]
pub enum Protection {
    /// It is public and has no credentials.
    Unprotected,
    /// It wants a token.
    Protected {
        /// The place of its upstream in [`Config::upstreams`](super::Config::upstreams).
        upstream: usize,
        /// For Occtoo destinations the base URL, without a slash at the end; otherwise
        /// the URL of the token endpoint.
        endpoint: String,
        /// What an OAuth 2 endpoint is asked for; present exactly for that kind.
        oauth2: Option<OAuth2>,
        /// The applications registered for it; at least one.
        applications: Vec<Application>,
    },
}

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

/// An application that is registered for a destination.
#[derive(Clone, Debug)]
pub struct Application {
    /// Its name, unique within the destination.
    pub name: ApplicationName,
    /// Its credential, already read.
    pub credential: Arc<Credential>,
}

/// These callers may have a token of this application.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// Who is meant; never empty.
    pub callers: Vec<CallerPattern>,
    /// One of the destination's applications; `None` exactly when it is unprotected.
    pub application: Option<ApplicationName>,
}
