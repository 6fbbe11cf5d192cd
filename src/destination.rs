//! What is asked for: destinations, the applications registered for them, and the
//! key under which a token is kept.

use std::{
    borrow::Borrow,
    fmt,
    hash::{Hash, Hasher},
    sync::Arc,
};

use crate::texts::Texts;

/// The longest destination id, in bytes.
const MAX_ID: usize = 128;

/// The id, or the configured name, of a destination: 1 to 128 characters of
/// `[A-Za-z0-9._-]`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DestinationId(Arc<str>);

/// What a caller calls a destination, by its id or its configured name: a text that could be
/// a [`DestinationId`], and costs no memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DestinationName<'a>(&'a str);

/// The name of an application that is registered for a destination; it has the
/// same alphabet as a destination id.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ApplicationName(Arc<str>);

/// A text outside the alphabet, or too long, or empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be 1 to 128 characters of A-Z a-z 0-9 . _ -")]
pub struct InvalidName;

impl DestinationId {
    /// Reads a destination id or name.
    ///
    /// # Errors
    /// [`InvalidName`] for a text outside the alphabet.
    pub fn parse(text: &str) -> Result<Self, InvalidName> {
        name(text).map(Self)
    }

    /// The text itself.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The text itself, for whoever keeps it.
    pub fn to_shared(&self) -> Arc<str> {
        Arc::clone(&self.0)
    }
}

impl<'a> DestinationName<'a> {
    /// Reads a destination id or name.
    ///
    /// # Errors
    /// [`InvalidName`] for a text outside the alphabet.
    pub fn parse(text: &'a str) -> Result<Self, InvalidName> {
        is_name(text).then_some(Self(text)).ok_or(InvalidName)
    }

    /// The text itself.
    pub fn as_str(self) -> &'a str {
        self.0
    }
}

impl<'a> From<&'a DestinationId> for DestinationName<'a> {
    fn from(id: &'a DestinationId) -> Self {
        Self(&id.0)
    }
}

/// It is found by its text.
impl Borrow<str> for DestinationId {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl ApplicationName {
    /// Has its text in common with all who have the same.
    pub fn keep_once(&mut self, texts: &mut Texts) {
        self.0 = texts.once(Arc::clone(&self.0));
    }

    /// Reads an application name.
    ///
    /// # Errors
    /// [`InvalidName`] for a text outside the alphabet.
    pub fn parse(text: &str) -> Result<Self, InvalidName> {
        name(text).map(Self)
    }

    /// The text itself.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The text itself, for whoever keeps it.
    pub fn to_shared(&self) -> Arc<str> {
        Arc::clone(&self.0)
    }
}

impl fmt::Display for DestinationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for DestinationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for ApplicationName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for ApplicationName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Names one state of a credential: it changes when the client id, the secret or
/// the key changes, and reveals nothing of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Generation(pub u64);

/// Everything that shapes a token. Two requests share a token exactly when their
/// keys are equal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenKey {
    /// How the endpoint is spoken to, such as `occtoo` or `oauth2/client_secret_basic`.
    pub protocol: &'static str,
    /// The URL of the token endpoint.
    pub endpoint: Arc<str>,
    /// The configured id of the destination.
    pub destination: DestinationId,
    /// The application whose credentials mint the token.
    pub application: ApplicationName,
    /// The current client identifier of those credentials, which is no secret (RFC 6749 §2.2).
    pub client_id: Arc<str>,
    /// The state of those credentials.
    pub generation: Generation,
    /// What the endpoint is asked for, which most destinations have in common.
    pub asked: Arc<AskedFor>,
}

/// The part of a token request that says which token is meant.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AskedFor {
    /// The `scope` parameter (RFC 6749 §3.3).
    pub scope: Option<String>,
    /// The `audience` parameter.
    pub audience: Option<String>,
    /// The `resource` parameters (RFC 8707 §2).
    pub resource: Vec<String>,
    /// Any further form parameters, in the order in which they are sent.
    pub parameters: Vec<(String, String)>,
}

impl Hash for TokenKey {
    /// Of what tells keys apart that are known at the same time: the rest only differs from
    /// one configuration to the next, and is compared.
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.destination.hash(state);
        self.application.hash(state);
        self.generation.hash(state);
    }
}

impl TokenKey {
    /// A key for tests.
    #[cfg(test)]
    pub(crate) fn sample(destination: &str) -> Self {
        Self {
            protocol: "occtoo",
            endpoint: "https://upstream.example".into(),
            destination: DestinationId(destination.into()),
            application: ApplicationName("app".into()),
            client_id: "client".into(),
            generation: Generation(1),
            asked: Arc::default(),
        }
    }

    /// Whose tokens they are: the destination's, under the application.
    pub fn name(&self) -> (&DestinationId, &ApplicationName) {
        (&self.destination, &self.application)
    }

    /// Whether it is of this application at a destination, or of any there.
    pub fn is_of(
        &self,
        destination: &DestinationId,
        application: Option<&ApplicationName>,
    ) -> bool {
        self.destination == *destination
            && application.is_none_or(|application| self.application == *application)
    }

    /// Whether the two differ in nothing but the credentials that mint: for the same client a
    /// token of one is as good for its caller as a token of the other.
    pub fn is_same_but_for_credentials(&self, other: &Self) -> bool {
        let other = Self {
            generation: self.generation,
            client_id: Arc::clone(&self.client_id),
            ..other.clone()
        };
        *self == other
    }
}

fn name(text: &str) -> Result<Arc<str>, InvalidName> {
    is_name(text).then(|| text.into()).ok_or(InvalidName)
}

fn is_name(text: &str) -> bool {
    let is_known = |b: u8| b.is_ascii_alphanumeric() | matches!(b, b'.' | b'_' | b'-');
    // All of the few bytes are looked at: many at once is faster than up to the first odd one.
    (1..=MAX_ID).contains(&text.len()) && text.bytes().fold(true, |all, b| all & is_known(b))
}

#[cfg(test)]
mod fuzz;

#[cfg(test)]
pub(crate) use tests::any_key;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn ids_outside_the_alphabet_are_refused() {
        for good in [
            "a",
            "7d3c1f0e-5b8e-4a53-9f6b-0a3c5d1e2f40",
            "A.b_c-9",
            &"x".repeat(128),
        ] {
            let id = DestinationId::parse(good).unwrap();
            assert_eq!(id.as_str(), good);
            assert_eq!(DestinationName::parse(good), Ok((&id).into()));
        }
        for bad in [
            "",
            "a b",
            "a/b",
            "ä",
            "a\0",
            "a\n",
            "../x",
            "a%2f",
            &"x".repeat(129),
        ] {
            assert_eq!(DestinationId::parse(bad), Err(InvalidName), "{bad:?}");
            assert_eq!(DestinationName::parse(bad), Err(InvalidName), "{bad:?}");
        }
    }

    /// Keys that often agree in parts, and whose parts often look like one another.
    pub(crate) fn any_key() -> impl Strategy<Value = TokenKey> {
        let option = proptest::option::of("[a-z]{0,3}");
        (
            (
                prop_oneof![Just("occtoo"), Just("oauth2")],
                "[a-z]{1,3}",
                "[a-z]{1,3}",
                "[a-z]{1,3}",
            ),
            (any::<u64>(), "[a-z]{0,2}", option.clone(), option),
            proptest::collection::vec("[a-z]{0,2}", 0..3),
            proptest::collection::vec(("[a-z]{0,2}", "[a-z]{0,2}"), 0..3),
        )
            .prop_map(
                |(
                    (protocol, endpoint, destination, application),
                    (generation, client_id, scope, audience),
                    resource,
                    parameters,
                )| TokenKey {
                    protocol,
                    endpoint: endpoint.into(),
                    destination: DestinationId::parse(&destination).unwrap(),
                    application: ApplicationName::parse(&application).unwrap(),
                    client_id: client_id.into(),
                    generation: Generation(generation),
                    asked: Arc::new(AskedFor {
                        scope,
                        audience,
                        resource,
                        parameters,
                    }),
                },
            )
    }

    proptest! {
        #[test]
        fn any_changed_field_changes_the_key(key in any_key(), other in any_key(), field in 0..10_usize) {
            let mut changed = key.clone();
            let (asked, other_asked) = (Arc::make_mut(&mut changed.asked), AskedFor::clone(&other.asked));
            let differs = match field {
                0 => { changed.protocol = other.protocol; key.protocol != other.protocol }
                1 => { changed.endpoint = other.endpoint.clone(); key.endpoint != other.endpoint }
                2 => { changed.destination = other.destination.clone(); key.destination != other.destination }
                3 => { changed.application = other.application.clone(); key.application != other.application }
                4 => { changed.generation = other.generation; key.generation != other.generation }
                5 => { asked.scope = other_asked.scope; key.asked.scope != other.asked.scope }
                6 => { asked.audience = other_asked.audience; key.asked.audience != other.asked.audience }
                8 => { changed.client_id = other.client_id.clone(); key.client_id != other.client_id }
                7 => { asked.resource = other_asked.resource; key.asked.resource != other.asked.resource }
                _ => { asked.parameters = other_asked.parameters; key.asked.parameters != other.asked.parameters }
            };
            prop_assert_eq!(key != changed, differs);
            let credentials = matches!(field, 4 | 8);
            prop_assert_eq!(key.is_same_but_for_credentials(&changed), credentials || !differs);
        }
    }
}
