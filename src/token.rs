//! A token, and how long it lives.

use std::{fmt, sync::Arc, time::Duration};

use crate::{
    clock::{Instant, Moment},
    destination::TokenKey,
    hex,
    secret::Secret,
};

/// An access token that some upstream minted for one key.
#[derive(Debug)]
pub struct Token {
    /// Everything that shaped the token; compared again before it is handed out.
    pub key: Arc<TokenKey>,
    /// The bearer token itself.
    pub access_token: Arc<Secret>,
    /// Names the token in logs and reports.
    pub id: TokenId,
    /// When the request for it was about to be sent.
    pub requested_at: Moment,
    /// How long it lives from then on.
    pub lifetime: Duration,
    /// What it was minted with.
    pub secret: Arc<SecretName>,
    /// Who minted it.
    pub origin: Origin,
}

/// Who minted a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// This broker.
    Here,
    /// Another replica, which shares it.
    Elsewhere,
}

/// Names the secret, or the private key, that a token was minted with. It reveals nothing
/// of it, so that records can say which of two secrets made a token.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SecretName {
    /// The credential as the configuration refers to it, such as `sealed:shop`.
    pub credential: Arc<str>,
    /// Which of the secrets that this credential had in the course of time.
    pub generation: String,
    /// The client identifier that it belongs to, which is no secret (RFC 6749 §2.2).
    pub client_id: Arc<str>,
}

impl Token {
    /// The moment from which the upstream no longer honours the token.
    pub fn expires_at(&self) -> Moment {
        // Counted from before the request was sent, so that latency can only shorten the life.
        self.requested_at.after(self.lifetime)
    }

    /// The same token under the key of the same application's renewed credentials.
    #[must_use]
    pub fn inherited_by(&self, key: &Arc<TokenKey>) -> Self {
        Self {
            key: Arc::clone(key),
            access_token: Arc::clone(&self.access_token),
            secret: Arc::clone(&self.secret),
            ..*self
        }
    }

    /// Whether this token is another one, of a later request.
    pub fn is_newer_than(&self, other: &Self) -> bool {
        self.id != other.id && other.requested_at.wall < self.requested_at.wall
    }

    /// Whether the token was minted for this key.
    pub fn is_for(&self, key: &Arc<TokenKey>) -> bool {
        Arc::ptr_eq(&self.key, key) || self.key == *key
    }

    /// Whether the token lives for more than `validity` from `now` on.
    pub fn suffices(&self, now: Instant, validity: Duration) -> bool {
        now < self.requested_at.instant + self.lifetime.saturating_sub(validity)
    }
}

/// A random name for a token; it reveals nothing of the token.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct TokenId(u128);

impl TokenId {
    /// Draws a new name.
    pub fn random() -> Self {
        Self(rand::random())
    }

    /// The number that it is.
    pub fn bytes(self) -> [u8; 16] {
        self.0.to_be_bytes()
    }

    /// The name as it is handed out.
    pub fn digits(self) -> [u8; 32] {
        hex::digits(self.bytes())
    }

    /// Reads a name as it was handed out; any other text names no token.
    pub fn parse(text: &str) -> Option<Self> {
        let id = Self(u128::from_str_radix(text, 16).ok()?);
        (id.to_string() == text).then_some(id)
    }
}

impl TokenId {
    /// A number from `[0, 1)` that is this token's, at whichever broker it is.
    pub fn draw(self) -> f64 {
        /// As many bits as a fraction has.
        const BITS: u32 = 52;
        let bits = u64::try_from(self.0 >> (u128::BITS - BITS)).unwrap_or_default();
        f64::from_bits((1.0_f64).to_bits() | bits) - 1.0
    }
}

impl fmt::Display for TokenId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(str::from_utf8(&self.digits()).unwrap_or_default())
    }
}

impl fmt::Debug for TokenId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What an upstream sent along with a token it minted.
#[derive(Debug)]
pub struct Minted {
    /// The bearer token, already checked against its alphabet (RFC 6750 §2.1).
    pub access_token: Secret,
    /// The declared lifetime in seconds, which may be missing, zero, negative or absurd.
    pub expires_in: Option<i64>,
}

#[cfg(test)]
impl SecretName {
    /// A name for tests.
    pub(crate) fn sample() -> Arc<Self> {
        Arc::new(Self {
            credential: "file:app".into(),
            generation: "1".to_owned(),
            client_id: "client".into(),
        })
    }
}

/// How a destination's lifetimes are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LifetimeRule {
    /// Taken when the upstream names none (RFC 6749 §5.1 recommends it to).
    pub default: Duration,
    /// No token is trusted for longer, whatever the upstream says.
    pub max: Duration,
}

/// The upstream declared a token that was never alive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the upstream declared a lifetime of zero or less")]
pub struct BornExpired;

impl LifetimeRule {
    /// The lifetime to believe.
    ///
    /// # Errors
    /// [`BornExpired`] for zero and negative lifetimes.
    pub fn apply(&self, expires_in: Option<i64>) -> Result<Duration, BornExpired> {
        let declared = match expires_in {
            None => self.default,
            Some(seconds) => match u64::try_from(seconds) {
                Err(_) | Ok(0) => return Err(BornExpired),
                Ok(seconds) => Duration::from_secs(seconds),
            },
        };
        Ok(declared.min(self.max))
    }
}

#[cfg(test)]
mod fuzz;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_zero_negative_and_huge_lifetimes() {
        let rule = LifetimeRule {
            default: Duration::from_secs(3600),
            max: Duration::from_secs(86_400),
        };
        for (declared, expected) in [
            (None, Ok(3600)),
            (Some(1), Ok(1)),
            (Some(3600), Ok(3600)),
            (Some(86_400), Ok(86_400)),
            (Some(86_401), Ok(86_400)),
            (Some(i64::MAX), Ok(86_400)),
            (Some(0), Err(BornExpired)),
            (Some(-1), Err(BornExpired)),
            (Some(i64::MIN), Err(BornExpired)),
        ] {
            assert_eq!(
                rule.apply(declared),
                expected.map(Duration::from_secs),
                "{declared:?}"
            );
        }
    }
}
