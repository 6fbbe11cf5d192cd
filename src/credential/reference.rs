//! How the configuration refers to a credential.

use std::fmt;

use crate::identity::is_path_segment;

/// The longest name of a credential, in bytes.
const MAX_NAME: usize = 128;

/// Where a credential is kept: `file:NAME`, `sealed:NAME` or `env:NAME`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum CredentialRef {
    /// The folder of that name below the credentials directory.
    File(String),
    /// The credential of that name in the sealed store.
    Sealed(String),
    /// The environment variables whose names begin with that name.
    Environment(String),
}

/// A text that refers to no credential. It is not repeated, because somebody may have
/// written a secret where the reference belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "must be \"file:NAME\" or \"sealed:NAME\" with a name of A-Z a-z 0-9 . _ -, or \"env:NAME\" with the beginning of variable names of A-Z 0-9 _"
)]
pub struct InvalidReference;

impl CredentialRef {
    /// Reads a reference as the configuration writes it.
    ///
    /// # Errors
    /// [`InvalidReference`] for another scheme, and for a name outside its alphabet.
    pub fn parse(text: &str) -> Result<Self, InvalidReference> {
        match text.split_once(':') {
            Some(("file", name)) if is_folder_name(name) => Ok(Self::File(name.to_owned())),
            Some(("sealed", name)) if is_folder_name(name) => Ok(Self::Sealed(name.to_owned())),
            Some(("env", name)) if is_variable_prefix(name) => {
                Ok(Self::Environment(name.to_owned()))
            }
            _ => Err(InvalidReference),
        }
    }
}

impl fmt::Display for CredentialRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(name) => write!(f, "file:{name}"),
            Self::Sealed(name) => write!(f, "sealed:{name}"),
            Self::Environment(name) => write!(f, "env:{name}"),
        }
    }
}

/// Whether a name stays within its directory: a single path segment, and no dots alone.
pub(super) fn is_folder_name(name: &str) -> bool {
    name.len() <= MAX_NAME && is_path_segment(name)
}

pub(super) fn is_variable_prefix(name: &str) -> bool {
    (1..=MAX_NAME).contains(&name.len())
        && name
            .bytes()
            .all(|b| matches!(b, b'A'..=b'Z' | b'0'..=b'9' | b'_'))
}

#[cfg(test)]
mod fuzz;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_that_could_lead_elsewhere_are_refused() {
        for (text, expected) in [
            ("file:shop", CredentialRef::File("shop".to_owned())),
            (
                "file:shop-2.b_C",
                CredentialRef::File("shop-2.b_C".to_owned()),
            ),
            (
                "sealed:shop-2.b_C",
                CredentialRef::Sealed("shop-2.b_C".to_owned()),
            ),
            (
                "env:SHOP_2",
                CredentialRef::Environment("SHOP_2".to_owned()),
            ),
        ] {
            assert_eq!(CredentialRef::parse(text), Ok(expected));
        }
        for bad in [
            "",
            "shop",
            "file",
            "file:",
            "file:.",
            "file:..",
            "file:../x",
            "file:a/b",
            "file:/etc",
            "file:a\\b",
            "file:a b",
            "file:a\0",
            "sealed:",
            "sealed:..",
            "sealed:a/b",
            "env:",
            "env:shop",
            "env:A-B",
            "env:A=B",
            "vault:shop",
            "FILE:shop",
            &format!("file:{}", "x".repeat(129)),
        ] {
            assert_eq!(CredentialRef::parse(bad), Err(InvalidReference), "{bad:?}");
        }
    }
}
