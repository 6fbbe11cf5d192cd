//! Why a sealed store, or its key, cannot be used.

use std::path::{Path, PathBuf};

use super::{MAX_STORE, Refusal};
use crate::{
    credential::{CredentialError, Problem},
    whole_file::WriteError,
};

/// What is wrong with a sealed store or an identity file. It never repeats what they hold.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SealedProblem {
    /// The file is something else.
    #[error("is not an age file: `token-broker credential init` makes one")]
    NotAge,
    /// The file is damaged.
    #[error("is truncated or garbled: put back a whole copy of it")]
    Torn,
    /// No key of the identity file opens it.
    #[error("is encrypted to another key than those in {}", .0.display())]
    OtherKey(PathBuf),
    /// It is encrypted with a passphrase, and trying one takes seconds.
    #[error("is encrypted with a passphrase, which is not supported: encrypt it to a key")]
    Passphrase,
    /// A newer broker wrote it.
    #[error("is of version {0}, and this broker knows version 1: use a newer broker")]
    Version(u64),
    /// It was opened, and holds something else.
    #[error("was decrypted, but does not hold credentials as this broker writes them")]
    Contents,
    /// The identity file has no key in it.
    #[error("holds no age key: it must have a line that begins with AGE-SECRET-KEY-1")]
    NoKey,
    /// A line of the identity file is neither a comment nor a key.
    #[error("has no age key in line {0}: such a line begins with AGE-SECRET-KEY-1")]
    NotKey(usize),
    /// The identity file has more keys than a rotation needs.
    #[error("holds more than {0} keys: remove those that nothing is encrypted to")]
    TooManyKeys(usize),
    /// The identity file is itself encrypted.
    #[error("is protected with a passphrase, which is not supported: nobody is there to type it")]
    ProtectedKey,
    /// There is no credential of that name.
    #[error("holds no credential {name:?}: {held}")]
    Absent {
        /// The name that was asked for.
        name: String,
        /// Some that are there.
        held: String,
    },
}

/// Why a store was not changed; what it held before is still there.
#[derive(Debug, thiserror::Error)]
pub enum ChangeError {
    /// The store or its key cannot be read.
    #[error(transparent)]
    Unreadable(#[from] CredentialError),
    /// The change is against the rules.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The system refuses to write.
    #[error("{} {source}", .path.display())]
    Unwritten {
        /// The store.
        path: PathBuf,
        /// What went wrong.
        source: WriteError,
    },
    /// There is a store already.
    #[error("{} exists already, and was left as it is", .0.display())]
    Exists(PathBuf),
    /// It would hold too much to be read again.
    #[error("the store would be larger than {} MiB: remove credentials first", MAX_STORE / (1024 * 1024))]
    TooLarge,
    /// The encryption failed.
    #[error("the store cannot be encrypted")]
    Unsealed,
}

impl SealedProblem {
    pub(super) fn at(path: &Path, problem: impl Into<Problem>) -> CredentialError {
        CredentialError {
            place: path.display().to_string(),
            problem: problem.into(),
        }
    }
}
