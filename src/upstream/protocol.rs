//! The protocols, and the one way from a protocol to a source of tokens.

use std::sync::Arc;

use super::{
    ClientAuthentication, Endpoint, HttpClient, OAuth2Settings, SetupError, TokenSource,
    oauth2::OAuth2,
    occtoo::{self, Occtoo},
    occtoo_ingest::{self, OcctooIngest},
};
use crate::{credential::Credential, destination::DestinationId};

/// How a token endpoint is spoken to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// Tokens of Occtoo destinations; the endpoint is the base URL, to which
    /// `/destinations/{id}/token` is appended.
    Occtoo,
    /// Tokens of Occtoo data providers; the endpoint is the whole URL.
    OcctooIngest,
    /// The client credentials grant (RFC 6749 §4.4); the endpoint is the whole URL.
    OAuth2(Arc<OAuth2Settings>),
}

impl Protocol {
    /// The name that stands in a [`TokenKey`](crate::destination::TokenKey).
    pub fn name(&self) -> &'static str {
        match self {
            Self::Occtoo => "occtoo",
            Self::OcctooIngest => "occtoo-ingest",
            Self::OAuth2(settings) => match settings.client_authentication {
                ClientAuthentication::SecretBasic => "oauth2/client_secret_basic",
                ClientAuthentication::SecretPost => "oauth2/client_secret_post",
                ClientAuthentication::PrivateKeyJwt => "oauth2/private_key_jwt",
            },
        }
    }

    /// The documented endpoint of the public service; that of OAuth 2 can be anybody's.
    pub fn default_endpoint(&self) -> Option<Endpoint> {
        let url = match self {
            Self::Occtoo => occtoo::DEFAULT_ENDPOINT,
            Self::OcctooIngest => occtoo_ingest::DEFAULT_ENDPOINT,
            Self::OAuth2(_) => return None,
        };
        Endpoint::parse(url).ok()
    }
}

/// Builds the source of one destination's tokens.
///
/// # Errors
/// [`SetupError`] when the endpoint must not be asked or the proof does not fit.
pub fn source(
    protocol: &Protocol,
    client: &HttpClient,
    endpoint: &Endpoint,
    destination: &DestinationId,
    credential: Arc<Credential>,
) -> Result<Arc<dyn TokenSource>, SetupError> {
    Ok(match protocol {
        Protocol::Occtoo => Arc::new(Occtoo::new(client, endpoint, destination, credential)?),
        Protocol::OcctooIngest => Arc::new(OcctooIngest::new(client, endpoint, credential)?),
        Protocol::OAuth2(settings) => {
            let settings = Arc::clone(settings);
            Arc::new(OAuth2::new(client, endpoint, settings, credential)?)
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        credential::{CredentialRef, Proof},
        secret::Secret,
        upstream::HttpSettings,
    };

    fn credential(proof: Proof) -> Arc<Credential> {
        Arc::new(Credential::new(
            &CredentialRef::File("shop".to_owned()),
            "shop".to_owned(),
            proof,
        ))
    }

    fn every_protocol() -> Vec<Protocol> {
        let oauth2 = ClientAuthentication::ALL.map(|client_authentication| {
            Protocol::OAuth2(Arc::new(OAuth2Settings {
                client_authentication,
                ..OAuth2Settings::default()
            }))
        });
        let mut all = vec![Protocol::Occtoo, Protocol::OcctooIngest];
        all.extend(oauth2);
        all
    }

    #[test]
    fn every_protocol_has_its_own_name() {
        let mut names: Vec<_> = every_protocol().iter().map(Protocol::name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), 5);
    }

    #[test]
    fn public_services_have_an_endpoint() {
        for protocol in every_protocol() {
            let anybodys = matches!(protocol, Protocol::OAuth2(_));
            let default = protocol.default_endpoint();
            assert_eq!(default.is_none(), anybodys, "{protocol:?}");
        }
    }

    #[test]
    fn a_proof_that_does_not_fit_is_refused() {
        let client = HttpClient::new(&HttpSettings::default()).unwrap();
        let endpoint = Endpoint::parse("https://auth.example/").unwrap();
        let destination = DestinationId::parse("d").unwrap();
        for protocol in every_protocol() {
            let wants_key = protocol.name().ends_with("private_key_jwt");
            let secret = || Secret::new("canary".to_owned());
            let (proof, expected) = if wants_key {
                (Proof::ClientSecret(secret()), SetupError::PrivateKeyNeeded)
            } else {
                let key = Proof::PrivateKey {
                    pem: secret(),
                    key_id: None,
                };
                (key, SetupError::SecretNeeded)
            };
            let refused = source(
                &protocol,
                &client,
                &endpoint,
                &destination,
                credential(proof),
            );
            assert_eq!(refused.err(), Some(expected), "{protocol:?}");
        }
    }

    #[test]
    fn a_destination_that_means_another_path_is_refused() {
        let client = HttpClient::new(&HttpSettings::default()).unwrap();
        let endpoint = Endpoint::parse("https://destinations.example").unwrap();
        for id in [".", ".."] {
            let refused = source(
                &Protocol::Occtoo,
                &client,
                &endpoint,
                &DestinationId::parse(id).unwrap(),
                credential(Proof::ClientSecret(Secret::new("canary".to_owned()))),
            );
            assert_eq!(refused.err(), Some(SetupError::DestinationId));
        }
    }
}
