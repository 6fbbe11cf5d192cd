//! A sealed value, as the store and whoever reads it see it.

use std::fmt;

/// The version, the key's mark and the nonce: no two sealed values have the same head.
pub(crate) const HEAD: usize = 1 + MARK + NONCE;
/// The mark of the key, in bytes.
pub(super) const MARK: usize = 4;
/// The nonce, in bytes (RFC 8452 §4).
pub(super) const NONCE: usize = 12;

/// What tells one sealed value from another; shorter if that is no sealed value at all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Head(Vec<u8>);

/// A sealed value: its head, the ciphertext and the tag. Or whatever is in its place.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Sealed(pub(crate) Vec<u8>);

impl Sealed {
    /// What tells it from others.
    pub(crate) fn head(&self) -> Head {
        let end = self.0.len().min(HEAD);
        Head(self.0.get(..end).unwrap_or_default().to_vec())
    }
}

impl Head {
    /// As it is compared.
    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Sealed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{} sealed bytes]", self.0.len())
    }
}
