//! The keys that seal, name and fingerprint what replicas share.

use std::fmt;

use aws_lc_rs::{
    aead::{AES_256_GCM_SIV, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey},
    hkdf, hmac, rand,
};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use zeroize::Zeroizing;

use super::{
    sealed::{HEAD, MARK, Sealed},
    store::Name,
};
use crate::credential::{CredentialSet, Proof};

/// The first byte of all that is sealed in this way. It is authenticated like the rest.
pub(super) const VERSION: u8 = 1;
/// The length of a key, in bytes.
const KEY: usize = 32;

/// One key, and during a rotation another one: the first seals and names, and both open.
pub struct Ring {
    keys: Vec<Key>,
}

/// Why a text is no key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be 32 random bytes in Base64, such as `openssl rand -base64 32` prints")]
pub struct InvalidKey;

/// A value that was not sealed for this place with a key of this ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NotOurs;

/// The keys that are derived from what an operator configured.
struct Key {
    mark: [u8; MARK],
    seal: LessSafeKey,
    name: hmac::Key,
    fingerprint: hmac::Key,
}

impl Ring {
    /// A ring of the key that seals, and of one that only opens.
    ///
    /// # Errors
    /// [`InvalidKey`] for a text that is not 32 bytes in Base64.
    pub fn new(current: &str, other: Option<&str>) -> Result<Self, InvalidKey> {
        let texts = [Some(current), other];
        let keys: Result<_, _> = texts.into_iter().flatten().map(Key::parse).collect();
        Ok(Self { keys: keys? })
    }

    /// The names of something: the one under which it is kept, and during a rotation the one
    /// under which it may still be found.
    pub(super) fn names(&self, class: u8, subject: &[u8]) -> Vec<Name> {
        let keys = self.keys.iter();
        keys.map(|key| key.name(class, subject)).collect()
    }

    /// Names a state of credentials, and reveals nothing of it. It is the same at all replicas.
    pub(super) fn fingerprint(&self, credentials: &CredentialSet) -> Vec<u8> {
        self.keys
            .first()
            .map(|key| key.fingerprint(credentials))
            .unwrap_or_default()
    }

    /// Seals a value for what the `context` says.
    pub(super) fn seal(&self, context: &[u8], value: &[u8]) -> Option<Sealed> {
        self.keys.first()?.seal(context, value)
    }

    /// Opens what was sealed for the same context, with either key.
    pub(super) fn open(
        &self,
        context: &[u8],
        sealed: &Sealed,
    ) -> Result<Zeroizing<Vec<u8>>, NotOurs> {
        let (head, body) = sealed.0.split_at_checked(HEAD).ok_or(NotOurs)?;
        let (version, rest) = head.split_first().ok_or(NotOurs)?;
        let (mark, nonce) = rest.split_at_checked(MARK).ok_or(NotOurs)?;
        if *version != VERSION {
            return Err(NotOurs);
        }
        let mut keys = self.keys.iter();
        let key = keys.find(|key| key.mark == *mark).ok_or(NotOurs)?;
        key.open(context, nonce, body)
    }
}

impl PartialEq for Ring {
    fn eq(&self, other: &Self) -> bool {
        let marks = |ring: &Self| ring.keys.iter().map(|key| key.mark).collect::<Vec<_>>();
        marks(self) == marks(other)
    }
}

impl fmt::Debug for Ring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Ring of {}", self.keys.len())
    }
}

impl Key {
    fn parse(text: &str) -> Result<Self, InvalidKey> {
        let mut bytes = Zeroizing::new([0; KEY + 2]);
        let length = BASE64_STANDARD
            .decode_slice(text.trim_ascii(), bytes.as_mut_slice())
            .map_err(|_| InvalidKey)?;
        if length != KEY {
            return Err(InvalidKey);
        }
        let master = bytes.get(..KEY).ok_or(InvalidKey)?;
        // Each use has a key of its own (RFC 5869 §3.2).
        let derive = |use_: &[u8]| -> Result<Zeroizing<[u8; KEY]>, InvalidKey> {
            let mut key = Zeroizing::new([0; KEY]);
            hkdf::Salt::new(hkdf::HKDF_SHA256, b"token-broker shared cache")
                .extract(master)
                .expand(&[use_], hkdf::HKDF_SHA256)
                .and_then(|okm| okm.fill(key.as_mut_slice()))
                .map_err(|_| InvalidKey)?;
            Ok(key)
        };
        let mac = |use_| derive(use_).map(|key| hmac::Key::new(hmac::HMAC_SHA256, &*key));
        let mut mark = [0; MARK];
        mark.copy_from_slice(derive(b"mark")?.get(..MARK).ok_or(InvalidKey)?);
        let seal = UnboundKey::new(&AES_256_GCM_SIV, &*derive(b"seal")?).map_err(|_| InvalidKey)?;
        Ok(Self {
            mark,
            seal: LessSafeKey::new(seal),
            name: mac(b"name")?,
            fingerprint: mac(b"fingerprint")?,
        })
    }

    fn name(&self, class: u8, subject: &[u8]) -> Name {
        let mut context = hmac::Context::with_key(&self.name);
        context.update(&[class]);
        context.update(subject);
        let tag = context.sign();
        let mut name = [0; 16];
        for (to, from) in name.iter_mut().zip(tag.as_ref()) {
            *to = *from;
        }
        Name(name)
    }

    fn fingerprint(&self, credentials: &CredentialSet) -> Vec<u8> {
        let mut context = hmac::Context::with_key(&self.fingerprint);
        // Each part begins with its length, so that parts cannot run into each other.
        let mut update = |part: &[u8]| {
            context.update(&part.len().to_be_bytes());
            context.update(part);
        };
        for credential in credentials.iter() {
            update(credential.client_id.as_bytes());
            match &credential.proof {
                Proof::ClientSecret(secret) => {
                    update(b"secret");
                    update(secret.expose().as_bytes());
                }
                Proof::PrivateKey { pem, key_id } => {
                    update(b"key");
                    update(pem.expose().as_bytes());
                    update(key_id.as_deref().unwrap_or_default().as_bytes());
                }
            }
        }
        context.sign().as_ref().to_vec()
    }

    fn seal(&self, context: &[u8], value: &[u8]) -> Option<Sealed> {
        let mut nonce = [0; NONCE_LEN];
        rand::fill(&mut nonce).ok()?;
        let mut sealed = Vec::with_capacity(HEAD + value.len() + AES_256_GCM_SIV.tag_len());
        sealed.push(VERSION);
        sealed.extend(self.mark);
        sealed.extend(nonce);
        let nonce = Nonce::assume_unique_for_key(nonce);
        // The tag is made apart, so that the value itself is never in a buffer that grows.
        sealed.extend(value);
        let body = sealed.get_mut(HEAD..)?;
        let tag = self
            .seal
            .seal_in_place_separate_tag(nonce, Aad::from(context), body)
            .ok()?;
        sealed.extend(tag.as_ref());
        Some(Sealed(sealed))
    }

    fn open(
        &self,
        context: &[u8],
        nonce: &[u8],
        body: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, NotOurs> {
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| NotOurs)?;
        let mut value = Zeroizing::new(body.to_vec());
        let length = self
            .seal
            .open_in_place(nonce, Aad::from(context), &mut value)
            .map_err(|_| NotOurs)?
            .len();
        value.truncate(length);
        Ok(value)
    }
}
