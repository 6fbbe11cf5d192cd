//! Why a credential could not be read.

use super::sealed::SealedProblem;
use crate::small_file::FileError;

/// Why a credential could not be read: where, and what to do. It never repeats what is
/// kept there.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{place} {problem}")]
pub struct CredentialError {
    /// The file, folder or variable to mend.
    pub place: String,
    /// What is wrong with it.
    #[source]
    pub problem: Problem,
}

/// What is wrong with a part of a credential.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// The name could lead out of the store, or has other characters.
    #[error("is no name of a credential")]
    Name,
    /// A needed part is not there.
    #[error("is missing: {0}")]
    Missing(&'static str),
    /// The file could not be read.
    #[error(transparent)]
    File(#[from] FileError),
    /// The sealed store, or its key, cannot be used.
    #[error(transparent)]
    Sealed(#[from] SealedProblem),
    /// The part is there and holds nothing.
    #[error("is empty: write the value into it")]
    Empty,
    /// The part is not text.
    #[error("is not UTF-8 text: write the value without any encoding")]
    NotText,
    /// The part holds more than one line, or other control characters.
    #[error("holds control characters: write the value alone, in one line")]
    ControlCharacter,
    /// The part is larger than such a part ever is.
    #[error("is larger than 64 KiB")]
    TooLarge,
    /// The key is not one in PEM.
    #[error("is not a private key in PEM: it must begin with -----BEGIN PRIVATE KEY-----")]
    NotPem,
    /// Two parts that exclude each other are there.
    #[error("cannot be used together with {0}: remove one of them")]
    Conflict(String),
}
