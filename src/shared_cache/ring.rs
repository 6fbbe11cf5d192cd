//! The keys that seal, name and fingerprint what replicas share.

use std::{fmt, mem};

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

/// Why a value does not open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unopened {
    /// It bears the mark of a key that is not in this ring: another fleet's, or one that was
    /// replaced. Whoever can write to the store can write such a mark as well.
    OtherKey,
    /// It was not sealed for this place, or is not what was sealed.
    Forged,
}

/// The keys that are derived from what an operator configured.
pub(super) struct Key {
    /// Tells it from any other key; its first bytes are the mark of what it seals.
    identity: [u8; KEY],
    seal: LessSafeKey,
    name: hmac::Key,
    fingerprint: hmac::Key,
}

impl Ring {
    /// A ring of the key that seals, and of one that only opens.
    ///
    /// # Errors
    /// [`InvalidKey`] for a text that is not 32 bytes in Base64, or whose bytes are all the same.
    pub fn new(current: &str, other: Option<&str>) -> Result<Self, InvalidKey> {
        let texts = [Some(current), other];
        let keys: Result<_, _> = texts.into_iter().flatten().map(Key::parse).collect();
        Ok(Self { keys: keys? })
    }

    /// The keys, the one that seals first.
    pub(super) fn keys(&self) -> &[Key] {
        &self.keys
    }

    /// Seals a value for what the `context` says.
    pub(super) fn seal(&self, context: &[u8], value: &[u8]) -> Option<Sealed> {
        self.keys.first()?.seal(context, value)
    }

    /// Opens what was sealed for what the `contexts` say, which are one for each key.
    pub(super) fn open(
        &self,
        contexts: impl IntoIterator<Item = Vec<u8>>,
        sealed: &Sealed,
    ) -> Result<Zeroizing<Vec<u8>>, Unopened> {
        let (head, body) = sealed.0.split_at_checked(HEAD).ok_or(Unopened::Forged)?;
        let (version, rest) = head.split_first().ok_or(Unopened::Forged)?;
        let (mark, nonce) = rest.split_at_checked(MARK).ok_or(Unopened::Forged)?;
        if *version != VERSION {
            return Err(Unopened::Forged);
        }
        if !self.keys.iter().any(|key| key.identity.starts_with(mark)) {
            return Err(Unopened::OtherKey);
        }
        let keys = self.keys.iter().zip(contexts);
        // Marks are short, so that two keys may have the same one.
        let mut keys = keys.filter(|(key, _)| key.identity.starts_with(mark));
        keys.find_map(|(key, context)| key.open(&context, nonce, body))
            .ok_or(Unopened::Forged)
    }
}

impl PartialEq for Ring {
    fn eq(&self, other: &Self) -> bool {
        let identities = |ring: &Self| -> Vec<_> {
            let keys = ring.keys.iter();
            keys.map(|key| key.identity).collect()
        };
        identities(self) == identities(other)
    }
}

impl fmt::Debug for Ring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Ring of {}", self.keys.len())
    }
}

impl Unopened {
    /// The outcome that metrics show.
    pub(super) fn code(self) -> &'static str {
        match self {
            Self::OtherKey => "other_key",
            Self::Forged => "forged",
        }
    }
}

impl From<NotOurs> for Unopened {
    fn from(_: NotOurs) -> Self {
        Self::Forged
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
        // A file that was filled in place of being drawn: everybody knows such a key.
        if master.iter().all(|byte| Some(byte) == master.first()) {
            return Err(InvalidKey);
        }
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
        let seal = UnboundKey::new(&AES_256_GCM_SIV, &*derive(b"seal")?).map_err(|_| InvalidKey)?;
        Ok(Self {
            identity: *derive(b"mark")?,
            seal: LessSafeKey::new(seal),
            name: mac(b"name")?,
            fingerprint: mac(b"fingerprint")?,
        })
    }

    /// The name of something, which tells nothing of it.
    pub(super) fn name(&self, class: u8, subject: &[u8]) -> Name {
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

    /// Names a state of credentials, and reveals nothing of it. It is the same at all replicas.
    pub(super) fn fingerprint(&self, credentials: &CredentialSet) -> Vec<u8> {
        let mut context = hmac::Context::with_key(&self.fingerprint);
        // Each part begins with its length, so that parts cannot run into each other. It has
        // as many bytes on every machine.
        let mut update = |part: &[u8]| {
            let length = u64::try_from(part.len()).unwrap_or(u64::MAX);
            context.update(&length.to_be_bytes());
            context.update(part);
        };
        for credential in credentials.iter() {
            update(credential.client_id().as_bytes());
            match &credential.proof {
                Proof::ClientSecret(secret) => {
                    update(b"secret");
                    update(secret.expose().as_bytes());
                }
                Proof::PrivateKey { pem, key_id: None } => {
                    update(b"key");
                    update(pem.expose().as_bytes());
                }
                Proof::PrivateKey {
                    pem,
                    key_id: Some(key_id),
                } => {
                    update(b"named key");
                    update(pem.expose().as_bytes());
                    update(key_id.as_bytes());
                }
            }
        }
        context.sign().as_ref().to_vec()
    }

    fn seal(&self, context: &[u8], value: &[u8]) -> Option<Sealed> {
        let mut nonce = [0; NONCE_LEN];
        rand::fill(&mut nonce).ok()?;
        let longest = HEAD + value.len() + AES_256_GCM_SIV.tag_len();
        // Wiped on every way out but the last, on which it holds ciphertext.
        let mut sealed = Zeroizing::new(Vec::with_capacity(longest));
        sealed.push(VERSION);
        sealed.extend(self.identity.iter().take(MARK));
        sealed.extend(nonce);
        let nonce = Nonce::assume_unique_for_key(nonce);
        sealed.extend(value);
        // The tag is made apart: making room for it could move the value, and leave a copy.
        let body = sealed.get_mut(HEAD..)?;
        let tag = self
            .seal
            .seal_in_place_separate_tag(nonce, Aad::from(context), body)
            .ok()?;
        sealed.extend(tag.as_ref());
        Some(Sealed(mem::take(&mut *sealed)))
    }

    fn open(&self, context: &[u8], nonce: &[u8], body: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let mut value = Zeroizing::new(body.to_vec());
        let length = self
            .seal
            .open_in_place(nonce, Aad::from(context), &mut value)
            .ok()?
            .len();
        value.truncate(length);
        Some(value)
    }
}

#[cfg(test)]
impl Ring {
    /// A ring of one key, or of two, each of which is known by one byte.
    pub(crate) fn sample(bytes: &[u8]) -> std::sync::Arc<Self> {
        let texts: Vec<_> = bytes.iter().map(|byte| Self::sample_key(*byte)).collect();
        let other = texts.get(1).map(String::as_str);
        std::sync::Arc::new(Self::new(&texts[0], other).unwrap())
    }

    /// This byte over and over, but for the first one.
    fn sample_key(byte: u8) -> String {
        let mut key = [byte; KEY];
        key[0] = !byte;
        BASE64_STANDARD.encode(key)
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::HashSet, iter::repeat};

    use super::*;

    const CONTEXT: &[u8] = b"what it is for";
    const VALUE: &[u8] = b"canary";

    fn sealed(ring: &Ring) -> Vec<u8> {
        ring.seal(CONTEXT, VALUE).unwrap().0
    }

    fn open(ring: &Ring, bytes: Vec<u8>) -> Option<Vec<u8>> {
        let contexts = repeat(CONTEXT.to_vec());
        let opened = ring.open(contexts, &Sealed(bytes));
        opened.ok().map(|value| value.to_vec())
    }

    #[test]
    fn what_differs_in_one_bit_is_shorter_or_longer_does_not_open() {
        let ring = Ring::sample(&[1]);
        let whole = sealed(&ring);
        assert_eq!(open(&ring, whole.clone()).as_deref(), Some(VALUE));
        assert_eq!(whole.len(), HEAD + VALUE.len() + 16);
        for bit in 0..whole.len() * 8 {
            let mut flipped = whole.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(open(&ring, flipped), None, "bit {bit}");
        }
        for cut in 0..whole.len() {
            assert_eq!(open(&ring, whole[..cut].to_vec()), None, "cut at {cut}");
            assert_eq!(open(&ring, whole[cut + 1..].to_vec()), None, "from {cut}");
        }
        for more in [&[0][..], &[0; 16], &whole] {
            assert_eq!(open(&ring, [&whole, more].concat()), None);
            assert_eq!(open(&ring, [more, &whole].concat()), None);
        }
        for version in (0..=u8::MAX).filter(|version| *version != VERSION) {
            let mut other = whole.clone();
            other[0] = version;
            assert_eq!(open(&ring, other), None, "version {version}");
        }
    }

    #[test]
    fn a_ring_opens_what_either_of_its_keys_sealed_and_nothing_else() {
        let rings: Vec<_> = [&[1][..], &[2], &[1, 2], &[2, 1], &[3, 4]]
            .iter()
            .map(|keys| Ring::sample(keys))
            .collect();
        // Which ring opens what which ring sealed: the first key seals.
        for (by, opens) in [
            (0, [true, false, true, true, false]),
            (1, [false, true, true, true, false]),
            (2, [true, false, true, true, false]),
            (3, [false, true, true, true, false]),
            (4, [false, false, false, false, true]),
        ] {
            for (ring, expected) in rings.iter().zip(opens) {
                let opened = open(ring, sealed(&rings[by]));
                assert_eq!(opened.is_some(), expected, "{by} {ring:?}");
            }
        }
    }

    #[test]
    fn what_another_key_sealed_is_told_from_what_was_changed() {
        let (ring, other) = (Ring::sample(&[1, 2]), Ring::sample(&[3]));
        let why = |bytes| ring.open(repeat(CONTEXT.to_vec()), &Sealed(bytes)).err();
        let foreign = sealed(&other);
        assert_eq!(why(foreign.clone()), Some(Unopened::OtherKey));
        let mut disguised = foreign.clone();
        disguised[1..=MARK].copy_from_slice(&sealed(&ring)[1..=MARK]);
        assert_eq!(why(disguised), Some(Unopened::Forged));
        let mut changed = sealed(&ring);
        *changed.last_mut().unwrap() ^= 1;
        assert_eq!(why(changed), Some(Unopened::Forged));
        for length in [0, HEAD - 1] {
            assert_eq!(why(foreign[..length].to_vec()), Some(Unopened::Forged));
        }
        let mut newer = foreign;
        newer[0] = VERSION + 1;
        assert_eq!(why(newer), Some(Unopened::Forged));
    }

    #[test]
    fn two_keys_with_one_mark_both_open() {
        let mut ring = Ring::new(&Ring::sample_key(1), Some(&Ring::sample_key(2))).unwrap();
        let mark = ring.keys[0].identity;
        ring.keys[1].identity[..MARK].copy_from_slice(&mark[..MARK]);
        for _ in 0..2 {
            assert_eq!(open(&ring, sealed(&ring)).as_deref(), Some(VALUE));
            ring.keys.reverse();
            assert_eq!(open(&ring, sealed(&ring)).as_deref(), Some(VALUE));
        }
        let [one, other] = [&ring.keys[0].identity, &ring.keys[1].identity];
        assert!(one != other, "rings of these are told from each other");
    }

    #[test]
    fn what_is_sealed_for_one_thing_does_not_open_for_another() {
        let ring = Ring::sample(&[1, 2]);
        let bytes = sealed(&ring);
        for context in [
            &b""[..],
            b"what it is fo",
            b"what it is for ",
            b"What it is for",
        ] {
            let sealed = Sealed(bytes.clone());
            let opened = ring.open(repeat(context.to_vec()), &sealed);
            assert_eq!(opened.err(), Some(Unopened::Forged), "{context:?}");
        }
    }

    #[test]
    fn no_two_seals_of_a_value_are_alike() {
        let ring = Ring::sample(&[1]);
        let seals: Vec<_> = (0..1000).map(|_| sealed(&ring)).collect();
        let heads: HashSet<_> = seals.iter().map(|seal| &seal[..HEAD]).collect();
        let bodies: HashSet<_> = seals.iter().map(|seal| &seal[HEAD..]).collect();
        assert_eq!((heads.len(), bodies.len()), (1000, 1000));
    }

    #[test]
    fn names_differ_by_key_class_and_subject_and_by_nothing_else() {
        let [one, other] = [Ring::sample(&[1]), Ring::sample(&[2])];
        let mut names = HashSet::new();
        for ring in [&one, &other] {
            for class in [1, 2] {
                for subject in [&b""[..], b"a", b"b", b"ab"] {
                    let name = ring.keys[0].name(class, subject);
                    assert!(names.insert(name));
                    let again = Ring::sample(if ring == &one { &[1] } else { &[2] });
                    assert_eq!(again.keys[0].name(class, subject), name);
                }
            }
        }
        assert_eq!(names.len(), 16);
    }

    #[test]
    fn a_key_is_32_bytes_in_base64_and_nothing_else() {
        let key = Ring::sample_key(0xfb);
        for (text, good) in [
            (key.clone(), true),
            (format!("{key}\n"), true),
            (format!(" {key}\r\n"), true),
            (String::new(), false),
            (key.replace('=', ""), false),
            (format!("{key}="), false),
            (format!("{key}{key}"), false),
            (key.replace('+', "-").replace('/', "_"), false),
            (key.replacen('+', " ", 1), false),
            (key.replacen('+', "\n", 1), false),
            // The last character has bits that stand for nothing.
            (format!("{}t=", &key[..42]), false),
            (BASE64_STANDARD.encode([1; KEY - 1]), false),
            (BASE64_STANDARD.encode([1; KEY + 1]), false),
            (BASE64_STANDARD.encode([1; KEY + 2]), false),
            (BASE64_STANDARD.encode([1; 16]), false),
            (BASE64_STANDARD.encode([0; KEY]), false),
            (BASE64_STANDARD.encode([0xfb; KEY]), false),
            ("fb".repeat(KEY), false),
            ("\u{212a}".repeat(KEY), false),
        ] {
            let ring = Ring::new(&text, None);
            assert_eq!(ring.is_ok(), good, "{text:?}");
            let other = Ring::new(&key, Some(&text));
            assert_eq!(other.is_ok(), good, "{text:?}");
        }
        assert!(
            key.contains('+') && key.contains('/') && key.ends_with("s="),
            "{key}"
        );
    }

    #[test]
    fn rings_are_equal_by_their_keys_in_their_order() {
        let keys: [&[u8]; 5] = [&[1], &[2], &[1, 2], &[2, 1], &[1, 3]];
        for (i, one) in keys.iter().enumerate() {
            for (j, other) in keys.iter().enumerate() {
                assert_eq!(Ring::sample(one) == Ring::sample(other), i == j);
            }
        }
        assert_eq!(format!("{:?}", Ring::sample(&[1, 2])), "Ring of 2");
    }
}
