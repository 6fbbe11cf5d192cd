//! The client credentials grant (RFC 6749 §4.4).

use std::{sync::Arc, time::SystemTime};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use futures_util::future::{BoxFuture, FutureExt};
use http::HeaderValue;
use serde::Deserialize;
use zeroize::Zeroizing;

use super::{
    Endpoint, FetchError, HttpClient, SetupError, TokenSource,
    answer::{self, Reading, oauth_error_code},
    assertion::{self, AssertionSigner},
    body,
    decode::{self, AccessToken, Seconds},
    http::{Request, Target},
    setup::client_secret,
};
use crate::{credential::Credential, destination::AskedFor, telemetry::Span, token::Minted};

pub(super) const READING: Reading = Reading {
    token,
    error_code: oauth_error_code,
};

/// How the broker authenticates to an OAuth 2 token endpoint; the names are those of
/// the IANA registry "OAuth Token Endpoint Authentication Methods".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum ClientAuthentication {
    /// HTTP Basic (RFC 6749 §2.3.1).
    #[default]
    SecretBasic,
    /// The secret in the form (RFC 6749 §2.3.1).
    SecretPost,
    /// A signed assertion (RFC 7523 §2.2).
    PrivateKeyJwt,
}

/// What an OAuth 2 token endpoint is asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OAuth2Settings {
    /// How the broker authenticates.
    pub client_authentication: ClientAuthentication,
    /// Which token is meant.
    pub asked: Arc<AskedFor>,
}

impl OAuth2Settings {
    /// What the grant itself sends, and what no further parameter may say differently.
    pub(crate) const RESERVED: [&str; 8] = [
        "grant_type",
        "client_id",
        "client_secret",
        "client_assertion",
        "client_assertion_type",
        "scope",
        "audience",
        "resource",
    ];
}

impl ClientAuthentication {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::SecretBasic, Self::SecretPost, Self::PrivateKeyJwt];

    /// The registered name (RFC 7591 §2, RFC 8414 §2).
    pub fn as_str(self) -> &'static str {
        match self {
            Self::SecretBasic => "client_secret_basic",
            Self::SecretPost => "client_secret_post",
            Self::PrivateKeyJwt => "private_key_jwt",
        }
    }

    /// Reads a registered name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|known| known.as_str() == name)
    }
}

/// Mints tokens with the client credentials grant.
pub(super) struct OAuth2 {
    target: Target,
    settings: Arc<OAuth2Settings>,
    credential: Arc<Credential>,
    authentication: Authentication,
}

/// The authentication, as far as it can be prepared.
enum Authentication {
    Basic(HeaderValue),
    Post,
    Assertion(AssertionSigner),
}

impl OAuth2 {
    /// A source of the tokens that the settings describe.
    pub(super) fn new(
        client: &HttpClient,
        endpoint: &Endpoint,
        settings: Arc<OAuth2Settings>,
        credential: Arc<Credential>,
    ) -> Result<Self, SetupError> {
        if let Some((name, _)) = settings
            .asked
            .parameters
            .iter()
            .find(|(name, _)| OAuth2Settings::RESERVED.contains(&name.as_str()))
        {
            return Err(SetupError::ReservedParameter(name.clone()));
        }
        let authentication = match settings.client_authentication {
            ClientAuthentication::SecretBasic => {
                let secret = client_secret(&credential)?;
                Authentication::Basic(basic(credential.client_id(), secret.expose())?)
            }
            ClientAuthentication::SecretPost => {
                client_secret(&credential)?;
                Authentication::Post
            }
            ClientAuthentication::PrivateKeyJwt => {
                Authentication::Assertion(AssertionSigner::new(&credential)?)
            }
        };
        Ok(Self {
            target: client.target(endpoint.clone())?,
            settings,
            credential,
            authentication,
        })
    }

    async fn ask(&self, flight: &Span) -> Result<Minted, FetchError> {
        let request = self.request(SystemTime::now())?;
        answer::ask(&self.target, request, &READING, flight).await
    }

    fn request(&self, now: SystemTime) -> Result<Request, FetchError> {
        let assertion;
        let client_id = &**self.credential.client_id();
        let mut fields = vec![("grant_type", "client_credentials")];
        let mut authorization = None;
        match &self.authentication {
            Authentication::Basic(header) => authorization = Some(header.clone()),
            Authentication::Post => {
                let secret = client_secret(&self.credential)
                    .map_err(|_| FetchError::CredentialMissing)?
                    .expose();
                fields.extend([("client_id", client_id), ("client_secret", secret)]);
            }
            Authentication::Assertion(signer) => {
                assertion = signer.sign(self.target.endpoint().as_str(), now)?;
                fields.extend([
                    ("client_id", client_id),
                    ("client_assertion_type", assertion::TYPE),
                    ("client_assertion", assertion.as_str()),
                ]);
            }
        }
        let asked = &self.settings.asked;
        fields.extend(asked.scope.iter().map(|scope| ("scope", scope.as_str())));
        fields.extend(asked.audience.iter().map(|it| ("audience", it.as_str())));
        fields.extend(asked.resource.iter().map(|it| ("resource", it.as_str())));
        let parameters = asked.parameters.iter();
        fields.extend(parameters.map(|(name, value)| (name.as_str(), value.as_str())));
        Ok(Request {
            content_type: body::FORM,
            authorization,
            body: body::form(&fields),
        })
    }
}

impl TokenSource for OAuth2 {
    fn mint<'a>(&'a self, flight: &'a Span) -> BoxFuture<'a, Result<Minted, FetchError>> {
        self.ask(flight).boxed()
    }
}

/// RFC 6749 §2.3.1: id and secret are form-encoded before they are joined, so that a
/// colon in the id is not taken for the separator.
fn basic(client_id: &str, secret: &str) -> Result<HeaderValue, SetupError> {
    let mut pair = Zeroizing::new(String::with_capacity(
        3 * (client_id.len() + secret.len()) + 1,
    ));
    body::form_encode_into(&mut pair, client_id);
    pair.push(':');
    body::form_encode_into(&mut pair, secret);
    let mut header = Zeroizing::new(String::with_capacity(6 + 4 * pair.len().div_ceil(3)));
    header.push_str("Basic ");
    STANDARD.encode_string(pair.as_bytes(), &mut header);
    // The header's memory stays ours, and is wiped with its last copy.
    let bytes = Bytes::from_owner(Zeroizing::new(std::mem::take(&mut *header).into_bytes()));
    let mut header = HeaderValue::from_maybe_shared(bytes).map_err(|_| SetupError::Client)?;
    header.set_sensitive(true);
    Ok(header)
}

fn token(body: &[u8]) -> Result<Minted, FetchError> {
    #[derive(Deserialize)]
    struct Answer {
        access_token: AccessToken,
        token_type: Option<String>,
        expires_in: Option<Seconds>,
    }
    let answer: Answer = decode::json(body)?;
    decode::minted(
        answer.access_token,
        answer.token_type.as_deref(),
        answer.expires_in,
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        credential::{CredentialRef, Proof},
        secret::Secret,
    };

    fn credential() -> Arc<Credential> {
        Arc::new(Credential::new(
            &CredentialRef::File("shop".to_owned()),
            "shop".to_owned(),
            Proof::ClientSecret(Secret::new("canary".to_owned())),
        ))
    }

    fn source(settings: OAuth2Settings) -> Result<OAuth2, SetupError> {
        let client = HttpClient::new(&super::super::HttpSettings::default())?;
        let endpoint = Endpoint::parse("https://auth.example/token")?;
        OAuth2::new(&client, &endpoint, Arc::new(settings), credential())
    }

    #[test]
    fn basic_encodes_id_and_secret_before_joining_them() {
        let header = basic("a b:+/=é", "p:w").unwrap();
        let encoded = header.to_str().unwrap().strip_prefix("Basic ").unwrap();
        assert_eq!(
            STANDARD.decode(encoded).unwrap(),
            b"a+b%3A%2B%2F%3D%C3%A9:p%3Aw"
        );
        assert_eq!(format!("{header:?}"), "Sensitive");
    }

    #[test]
    fn everything_asked_for_is_sent_in_order() {
        let source = source(OAuth2Settings {
            client_authentication: ClientAuthentication::SecretPost,
            asked: Arc::new(AskedFor {
                scope: Some("read write".to_owned()),
                audience: Some("tenant".to_owned()),
                resource: vec!["https://b".to_owned(), "https://a".to_owned()],
                parameters: vec![
                    ("z".to_owned(), "1".to_owned()),
                    ("y".to_owned(), "2".to_owned()),
                ],
            }),
        })
        .unwrap();
        let request = source.request(SystemTime::now()).unwrap();
        assert_eq!(
            std::str::from_utf8(&request.body).unwrap(),
            "grant_type=client_credentials&client_id=shop&client_secret=canary&scope=read+write\
             &audience=tenant&resource=https%3A%2F%2Fb&resource=https%3A%2F%2Fa&z=1&y=2"
        );
        assert!(request.authorization.is_none());
    }

    #[test]
    fn parameters_cannot_replace_what_the_grant_sends() {
        for name in OAuth2Settings::RESERVED {
            let asked = AskedFor {
                parameters: vec![(name.to_owned(), "x".to_owned())],
                ..AskedFor::default()
            };
            let refused = source(OAuth2Settings {
                asked: Arc::new(asked),
                ..OAuth2Settings::default()
            });
            assert_eq!(
                refused.err(),
                Some(SetupError::ReservedParameter(name.to_owned()))
            );
        }
    }

    #[test]
    fn a_secret_is_no_private_key() {
        let refused = source(OAuth2Settings {
            client_authentication: ClientAuthentication::PrivateKeyJwt,
            ..OAuth2Settings::default()
        });
        assert_eq!(refused.err(), Some(SetupError::PrivateKeyNeeded));
    }

    #[test]
    fn registered_names_are_read_and_written() {
        for known in ClientAuthentication::ALL {
            assert_eq!(ClientAuthentication::parse(known.as_str()), Some(known));
        }
        assert_eq!(ClientAuthentication::parse("none"), None);
    }
}
