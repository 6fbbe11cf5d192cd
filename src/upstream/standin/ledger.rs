//! What a stand-in knows: applications, what it was asked, and what it minted.

use std::collections::{BTreeMap, HashMap};

use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};

use super::{
    Behaviour, Expiry, Fault, StandinSettings,
    request::{Presented, Question, Shape},
    response::Response,
};
use crate::secret::Secret;

/// For whom a token was minted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MintedFor {
    /// The destination.
    pub destination: String,
    /// The application.
    pub client_id: String,
    /// The first token of a stand-in has 1, and every further one has one more.
    pub serial: u64,
}

/// A text is not a public key that can verify assertions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a P-256, Ed25519 or RSA public key in PEM")]
pub struct UnreadableKey;

pub(super) struct Ledger {
    applications: BTreeMap<(String, String), Registered>,
    accept_any: bool,
    behaviour: Behaviour,
    behaviours: HashMap<String, Behaviour>,
    calls: u64,
    calls_by_destination: HashMap<String, u64>,
    minted: u64,
    dice: StdRng,
}

/// What a registered application must show.
enum Registered {
    Secret(Secret),
    Key(Box<(DecodingKey, Validation)>),
}

impl Ledger {
    pub(super) fn new(settings: StandinSettings) -> Self {
        Self {
            applications: BTreeMap::new(),
            accept_any: settings.accept_any,
            behaviour: settings.behaviour,
            behaviours: HashMap::new(),
            calls: 0,
            calls_by_destination: HashMap::new(),
            minted: 0,
            dice: StdRng::seed_from_u64(settings.seed),
        }
    }

    pub(super) fn register(&mut self, destination: &str, client_id: &str, secret: Secret) {
        let application = (destination.to_owned(), client_id.to_owned());
        self.applications
            .insert(application, Registered::Secret(secret));
    }

    pub(super) fn register_key(
        &mut self,
        destination: &str,
        client_id: &str,
        pem: &str,
        audience: String,
    ) -> Result<(), UnreadableKey> {
        let pem = pem.as_bytes();
        let (algorithm, key) = DecodingKey::from_ec_pem(pem)
            .map(|key| (Algorithm::ES256, key))
            .or_else(|_| DecodingKey::from_ed_pem(pem).map(|key| (Algorithm::EdDSA, key)))
            .or_else(|_| DecodingKey::from_rsa_pem(pem).map(|key| (Algorithm::RS256, key)))
            .map_err(|_| UnreadableKey)?;
        let mut validation = Validation::new(algorithm);
        validation.set_audience(&[audience]);
        validation.set_issuer(&[client_id]);
        validation.sub = Some(client_id.to_owned());
        validation.set_required_spec_claims(&["iss", "sub", "aud", "exp"]);
        let application = (destination.to_owned(), client_id.to_owned());
        self.applications
            .insert(application, Registered::Key(Box::new((key, validation))));
        Ok(())
    }

    pub(super) fn behave(&mut self, behaviour: Behaviour) {
        self.behaviour = behaviour;
    }

    pub(super) fn behave_for(&mut self, destination: &str, behaviour: Option<Behaviour>) {
        match behaviour {
            Some(behaviour) => self.behaviours.insert(destination.to_owned(), behaviour),
            None => self.behaviours.remove(destination),
        };
    }

    pub(super) fn calls(&self) -> u64 {
        self.calls
    }

    pub(super) fn calls_for(&self, destination: &str) -> u64 {
        self.calls_by_destination
            .get(destination)
            .copied()
            .unwrap_or(0)
    }

    /// What is asked for: as the request says, or else as the client is registered. An
    /// unregistered client that names nothing asks for a destination of its own name.
    pub(super) fn destination(&self, question: &Question) -> String {
        let client_id = &question.client_id;
        let mut registered = self.applications.keys().filter(|(_, id)| id == client_id);
        let named = question.destination.as_ref();
        let found = match (question.shape, named) {
            (Shape::Occtoo, _) => named,
            // An audience need not be a destination: it may as well be a tenant.
            (_, Some(named)) => registered
                .clone()
                .map(|(destination, _)| destination)
                .find(|destination| *destination == named)
                .or(registered.next().map(|(destination, _)| destination))
                .or(Some(named)),
            (_, None) => registered.next().map(|(destination, _)| destination),
        };
        found.unwrap_or(client_id).clone()
    }

    /// Counts a request, and decides how to behave and whether a fault hits it.
    pub(super) fn receive(&mut self, destination: &str) -> (Behaviour, Option<Fault>) {
        self.calls += 1;
        *self
            .calls_by_destination
            .entry(destination.to_owned())
            .or_default() += 1;
        let behaviour = self.behaviours.get(destination).unwrap_or(&self.behaviour);
        let hit = self.dice.random_bool(behaviour.fail_rate.clamp(0.0, 1.0));
        let fault = behaviour.fault.clone().filter(|_| hit);
        (behaviour.clone(), fault)
    }

    /// A token, if the credentials are right.
    pub(super) fn answer(
        &mut self,
        question: &Question,
        destination: &str,
        behaviour: &Behaviour,
    ) -> Response {
        if !self.accepts(question, destination) {
            return refusal(question.shape);
        }
        self.minted += 1;
        let application = [escape(destination), escape(&question.client_id)].join("~");
        // Zeros before the serial make it as long as it has to be.
        let width = behaviour.token_length.saturating_sub(application.len() + 1);
        let token = format!("{application}~{:0width$}", self.minted);
        let expires_in = match &behaviour.expiry {
            Expiry::Honest => Some(behaviour.lifetime.as_secs().to_string()),
            Expiry::Missing => None,
            Expiry::Raw(json) => Some(json.clone()),
        };
        Response::body(success(question.shape, &token, expires_in.as_deref()))
    }

    pub(super) fn minted_for(&self, token: &str) -> Option<MintedFor> {
        let mut parts = token.split('~');
        let (destination, client_id, serial) = (parts.next()?, parts.next()?, parts.next()?);
        let serial = serial.parse().ok()?;
        let known = parts.next().is_none() && (1..=self.minted).contains(&serial);
        known.then_some(MintedFor {
            destination: unescape(destination)?,
            client_id: unescape(client_id)?,
            serial,
        })
    }

    fn accepts(&self, question: &Question, destination: &str) -> bool {
        let application = (destination.to_owned(), question.client_id.clone());
        match (self.applications.get(&application), &question.proof) {
            (None, _) => self.accept_any,
            (Some(Registered::Secret(known)), Presented::Secret(shown)) => {
                known.expose() == shown.expose()
            }
            (Some(Registered::Key(known)), Presented::Assertion(shown)) => {
                let (key, validation) = known.as_ref();
                jsonwebtoken::decode::<serde_json::Value>(shown.expose(), key, validation).is_ok()
            }
            _ => false,
        }
    }
}

fn success(shape: Shape, token: &str, expires_in: Option<&str>) -> String {
    let expires_in = |name: &str| match expires_in {
        Some(json) => format!(r#","{name}":{json}"#),
        None => String::new(),
    };
    match shape {
        Shape::Occtoo => format!(r#"{{"accessToken":"{token}"{}}}"#, expires_in("expiresIn")),
        Shape::OcctooIngest => format!(
            r#"{{"result":{{"accessToken":"{token}"{},"tokenType":"Bearer","refreshToken":null,"scope":null}},"errors":[],"requestId":"1"}}"#,
            expires_in("expiresIn")
        ),
        Shape::OAuth2 => format!(
            r#"{{"access_token":"{token}"{},"token_type":"bearer"}}"#,
            expires_in("expires_in")
        ),
    }
}

fn refusal(shape: Shape) -> Response {
    let body = match shape {
        Shape::Occtoo => r#"{"message":"unknown client"}"#,
        Shape::OcctooIngest => {
            r#"{"result":null,"errors":[{"message":"unknown client"}],"requestId":"1"}"#
        }
        Shape::OAuth2 => r#"{"error":"invalid_client"}"#,
    };
    Response::with_status(401, body.to_owned())
}

/// Spells a text in the alphabet of tokens (RFC 6750 §2.1), with `+41` for `A`, and so
/// without `~`.
fn escape(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'-' | b'.' | b'_' => char::from(byte).to_string(),
            _ if byte.is_ascii_alphanumeric() => char::from(byte).to_string(),
            _ => format!("+{byte:02X}"),
        })
        .collect()
}

fn unescape(text: &str) -> Option<String> {
    let mut parts = text.split('+');
    let mut bytes = parts.next()?.as_bytes().to_vec();
    for part in parts {
        let (byte, rest) = part.split_at_checked(2)?;
        bytes.push(u8::from_str_radix(byte, 16).ok()?);
        bytes.extend_from_slice(rest.as_bytes());
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn question(client_id: &str, secret: &str) -> Question {
        Question {
            shape: Shape::Occtoo,
            destination: Some("d".to_owned()),
            client_id: client_id.to_owned(),
            proof: Presented::Secret(Secret::new(secret.to_owned())),
        }
    }

    #[test]
    fn escaped_texts_come_back() {
        for text in ["", "a.b-c_9", "a~b", "+", "shop/é=", "100%"] {
            assert_eq!(unescape(&escape(text)).as_deref(), Some(text));
        }
        assert_eq!(escape("a~b"), "a+7Eb");
    }

    #[test]
    fn only_registered_applications_are_accepted_unless_all_are() {
        let mut ledger = Ledger::new(StandinSettings::default());
        ledger.register("d", "shop", Secret::new("right".to_owned()));
        assert!(ledger.accepts(&question("shop", "right"), "d"));
        assert!(!ledger.accepts(&question("shop", "wrong"), "d"));
        assert!(!ledger.accepts(&question("shop", "right"), "other"));
        assert!(!ledger.accepts(&question("other", "right"), "d"));
        ledger.accept_any = true;
        assert!(ledger.accepts(&question("other", "any"), "d"));
        assert!(!ledger.accepts(&question("shop", "wrong"), "d"));
    }

    #[test]
    fn a_token_is_as_long_as_it_is_told_and_still_known() {
        let mut ledger = Ledger::new(StandinSettings {
            accept_any: true,
            ..StandinSettings::default()
        });
        for length in [900, 0] {
            let behaviour = Behaviour {
                token_length: length,
                ..Behaviour::default()
            };
            ledger.answer(&question("shop", "any"), "d", &behaviour);
        }
        let long = format!("d~shop~{:0893}", 1);
        assert_eq!(long.len(), 900);
        for (token, serial) in [(&*long, 1), ("d~shop~2", 2)] {
            assert_eq!(ledger.minted_for(token).unwrap().serial, serial);
        }
    }

    #[test]
    fn the_same_seed_hits_the_same_requests() {
        let hits = || {
            let mut ledger = Ledger::new(StandinSettings {
                behaviour: Behaviour {
                    fail_rate: 0.5,
                    ..Behaviour::status(503)
                },
                seed: 7,
                ..StandinSettings::default()
            });
            (0..64)
                .map(|_| ledger.receive("d").1.is_some())
                .collect::<Vec<_>>()
        };
        let first = hits();
        assert_eq!(first, hits());
        assert!(first.contains(&true) && first.contains(&false));
    }
}
