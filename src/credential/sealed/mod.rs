//! Credentials in one file, which is encrypted to the broker's own key.
//!
//! The file is in the age format (<https://age-encryption.org/v1>) with ASCII armour, so that
//! it can lie in a repository or in a Kubernetes Secret. The key is an age identity file.
//!
//! | file | holds |
//! |---|---|
//! | `keys` | the identity file |
//! | `envelope` | sealing and opening; with `keys` the one place that names age |
//! | `document` | what is sealed, as JSON |
//! | `contents` | the credentials, and the rules by which they change |
//! | `store` | the file, read and changed under its lock |
//! | `error` | why it cannot be used |

mod contents;
mod document;
mod envelope;
mod error;
mod keys;
mod store;

use std::path::PathBuf;

use super::{CredentialError, CredentialSet, CredentialStore, reference::is_folder_name};

pub use contents::{Contents, Refusal, Stored, StoredSecret};
pub use error::{ChangeError, SealedProblem};
pub use keys::{Keys, NewKey};
pub use store::Store;

/// The largest store, in bytes: some ten thousand credentials.
const MAX_STORE: u64 = 16 * 1024 * 1024;

/// A store as it was when it was read.
#[derive(Debug)]
pub struct Sealed {
    path: PathBuf,
    contents: Contents,
}

impl Sealed {
    /// Reads and decrypts a store.
    ///
    /// # Errors
    /// [`CredentialError`] names the file that an operator must mend.
    pub fn open(store: &Store) -> Result<Self, CredentialError> {
        Ok(Self {
            path: store.path().to_owned(),
            contents: store.read()?,
        })
    }

    /// The name of every credential in it.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.contents.iter().map(|(name, _)| name)
    }
}

impl CredentialStore for Sealed {
    fn load(&self, name: &str) -> Result<CredentialSet, CredentialError> {
        let stored = self.contents.find(name);
        let stored = stored.map_err(|problem| SealedProblem::at(&self.path, problem))?;
        Ok(stored.set())
    }
}

/// Whether a credential can have this name.
pub fn is_name(name: &str) -> bool {
    is_folder_name(name)
}

#[cfg(test)]
mod tests;
