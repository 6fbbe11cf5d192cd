//! Who calls: the identity that a verified client certificate names.

use std::{fmt, sync::Arc};

use crate::texts::Texts;

/// The longest SPIFFE ID that implementations must support, in bytes (SPIFFE ID §2.3).
const MAX_SPIFFE_ID: usize = 2048;
/// The longest trust domain name, in bytes (SPIFFE ID §2.1).
const MAX_TRUST_DOMAIN: usize = 255;
/// The longest host name, in bytes (RFC 1035 §2.3.4).
const MAX_DNS_NAME: usize = 253;
/// The longest label of a host name, in bytes (RFC 1035 §2.3.4).
const MAX_DNS_LABEL: usize = 63;

const SPIFFE_SCHEME: &str = "spiffe://";

/// A caller: a SPIFFE ID such as `spiffe://corp.example/ns/shop/sa/cart`, or a DNS
/// name such as `cart.shop.corp.example`.
///
/// It is made only from a canonical text, so two callers are the same exactly when
/// their texts are.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CallerId(Arc<str>);

/// Why a text, or a certificate, names no caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    /// The certificate, or its subject alternative name, cannot be read.
    #[error("the certificate's subject alternative names cannot be read")]
    Unreadable,
    /// There are neither URIs nor DNS names; the common name does not count.
    #[error("the certificate has no URI and no DNS name")]
    Nameless,
    /// There is more than one URI, or more than one DNS name and no URI.
    #[error("the certificate has several names")]
    Ambiguous,
    /// The SPIFFE ID is of a trust domain that is not allowed here.
    #[error("the trust domain is not one of [server] trust_domains")]
    TrustDomain,
    /// The URI is not a SPIFFE ID of a workload.
    #[error(
        "the URI is not a SPIFFE ID of a workload: spiffe://trust-domain/path, lower-case trust domain, no port, query, fragment, empty or dot segment"
    )]
    NotSpiffe,
    /// The name is not a canonical DNS host name.
    #[error("the name is not a lower-case DNS host name without wildcards")]
    NotDnsName,
}

impl IdentityError {
    /// The label under which such a certificate is counted.
    pub fn label(self) -> &'static str {
        match self {
            Self::Unreadable => "identity_unreadable",
            Self::Nameless => "identity_missing",
            Self::Ambiguous => "identity_ambiguous",
            Self::TrustDomain => "identity_trust_domain",
            Self::NotSpiffe => "identity_not_spiffe",
            Self::NotDnsName => "identity_not_dns_name",
        }
    }
}

impl CallerId {
    /// Has its text in common with all who have the same.
    pub fn keep_once(&mut self, texts: &mut Texts) {
        self.0 = texts.once(Arc::clone(&self.0));
    }

    /// Reads a SPIFFE ID (SPIFFE ID and SVID standard, §2), which must have a path.
    ///
    /// # Errors
    /// [`IdentityError::NotSpiffe`] for any other URI.
    pub fn from_spiffe(uri: &str) -> Result<Self, IdentityError> {
        let rest = uri
            .strip_prefix(SPIFFE_SCHEME)
            .ok_or(IdentityError::NotSpiffe)?;
        let (trust_domain, path) = rest.split_once('/').ok_or(IdentityError::NotSpiffe)?;
        let well_formed = uri.len() <= MAX_SPIFFE_ID
            && is_trust_domain(trust_domain)
            && path.split('/').all(is_path_segment);
        well_formed
            .then(|| Self(uri.into()))
            .ok_or(IdentityError::NotSpiffe)
    }

    /// Reads a DNS host name (RFC 1123 §2.1), lower case and without a wildcard.
    ///
    /// # Errors
    /// [`IdentityError::NotDnsName`] for anything else.
    pub fn from_dns(name: &str) -> Result<Self, IdentityError> {
        is_dns_name(name)
            .then(|| Self(name.into()))
            .ok_or(IdentityError::NotDnsName)
    }

    /// Reads either form, as configurations and the command line write them.
    ///
    /// # Errors
    /// The error of the form that the text looks like.
    pub fn parse(text: &str) -> Result<Self, IdentityError> {
        if text.contains("://") {
            Self::from_spiffe(text)
        } else {
            Self::from_dns(text)
        }
    }

    /// The trust domain of a SPIFFE ID; a DNS name has none.
    pub fn trust_domain(&self) -> Option<&str> {
        let rest = self.0.strip_prefix(SPIFFE_SCHEME)?;
        rest.split('/').next()
    }

    /// Whether it is of one of these trust domains, of which none means all. A host name is
    /// of no trust domain, and always known.
    pub fn is_known_to(&self, trust_domains: &[String]) -> bool {
        let known = |domain| trust_domains.iter().any(|known| known == domain);
        trust_domains.is_empty() || self.trust_domain().is_none_or(known)
    }

    /// The canonical text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The text itself, for whoever keeps it.
    pub fn to_shared(&self) -> Arc<str> {
        Arc::clone(&self.0)
    }
}

impl fmt::Display for CallerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for CallerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Whether a text is a SPIFFE trust domain name (SPIFFE ID §2.1).
pub fn is_trust_domain(text: &str) -> bool {
    (1..=MAX_TRUST_DOMAIN).contains(&text.len())
        && text
            .bytes()
            .all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'-' | b'_'))
}

/// Whether a text is one segment of a SPIFFE path (SPIFFE ID §2.2).
pub fn is_path_segment(text: &str) -> bool {
    !matches!(text, "" | "." | "..")
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_'))
}

/// Whether a text is a DNS host name (RFC 1123 §2.1), lower case and without a wildcard.
pub fn is_dns_name(text: &str) -> bool {
    text.len() <= MAX_DNS_NAME && text.split('.').all(is_dns_label)
}

fn is_dns_label(text: &str) -> bool {
    (1..=MAX_DNS_LABEL).contains(&text.len())
        && !text.starts_with('-')
        && !text.ends_with('-')
        && text
            .bytes()
            .all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-'))
}

#[cfg(test)]
pub(crate) mod fuzz;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_canonical_spiffe_ids_name_a_caller() {
        for good in [
            "spiffe://corp.example/ns/shop/sa/cart",
            "spiffe://td/x",
            "spiffe://t_d-1/A.b_c-1/..a",
        ] {
            assert_eq!(CallerId::from_spiffe(good).unwrap().as_str(), good);
        }
        for bad in [
            "",
            "spiffe://",
            "spiffe://td",
            "spiffe://td/",
            "spiffe:///path",
            "spiffe://td/a/",
            "spiffe://td//a",
            "spiffe://td/./a",
            "spiffe://td/a/..",
            "spiffe://TD/a",
            "SPIFFE://td/a",
            "spiffe://td:443/a",
            "spiffe://user@td/a",
            "spiffe://td/a?q=1",
            "spiffe://td/a#f",
            "spiffe://td/a%2fb",
            "spiffe://td/a b",
            "spiffe://td/*",
            "https://td/a",
            &format!("spiffe://td/{}", "a".repeat(2048)),
        ] {
            assert_eq!(
                CallerId::from_spiffe(bad),
                Err(IdentityError::NotSpiffe),
                "{bad}"
            );
        }
    }

    #[test]
    fn only_canonical_dns_names_name_a_caller() {
        for good in ["cart", "cart.shop.corp.example", "a-1.b", "1.2"] {
            assert_eq!(CallerId::from_dns(good).unwrap().as_str(), good);
        }
        for bad in [
            "",
            ".",
            "cart.",
            ".cart",
            "a..b",
            "Cart.example",
            "*.example",
            "-a.b",
            "a-.b",
            "a_b",
            "cart:443",
            "a b",
            &"a".repeat(64),
            &["a"; 128].join("."),
        ] {
            assert_eq!(
                CallerId::from_dns(bad),
                Err(IdentityError::NotDnsName),
                "{bad}"
            );
        }
    }
}
