//! The file of a store: read whenever it is asked, and changed under its lock.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    time::Duration,
};

use super::{ChangeError, Contents, Keys, MAX_STORE, Refusal, SealedProblem, document, envelope};
use crate::{
    credential::CredentialError,
    small_file,
    whole_file::{WholeFile, WriteError},
};

/// How long another writer is waited for. Writing takes milliseconds.
const PATIENCE: Duration = Duration::from_secs(10);

/// A sealed file, and the keys that open it.
#[derive(Debug)]
pub struct Store {
    path: PathBuf,
    keys: Keys,
    /// The keys are not those that the configuration names, so others read it too.
    is_shared: bool,
}

impl Store {
    /// The store at this path, which is not looked at yet. It is written for the owners of
    /// the keys; a shared one also for everybody that it was for before, whose keys are
    /// elsewhere.
    pub fn new(path: PathBuf, keys: Keys, is_shared: bool) -> Self {
        Self {
            path,
            keys,
            is_shared,
        }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The keys that open it.
    pub fn keys(&self) -> &Keys {
        &self.keys
    }

    /// Reads and decrypts it.
    ///
    /// # Errors
    /// [`CredentialError`] names the file that an operator must mend.
    pub fn read(&self) -> Result<Contents, CredentialError> {
        let file = small_file::read(&self.path, MAX_STORE)
            .map_err(|problem| SealedProblem::at(&self.path, problem))?;
        let plaintext = envelope::open(&file, &self.keys)
            .map_err(|problem| SealedProblem::at(&self.path, problem))?;
        document::read(&plaintext, &self.path)
    }

    /// Makes it, with nothing in it.
    ///
    /// # Errors
    /// [`ChangeError::Exists`], or that it cannot be written.
    pub fn create(&self) -> Result<(), ChangeError> {
        let file = self.lock()?;
        if self.path.symlink_metadata().is_ok() {
            return Err(ChangeError::Exists(self.path.clone()));
        }
        self.write(&file, Contents::default())
    }

    /// Reads it under its lock, changes it and writes it back, so that of two who change it
    /// at once neither undoes what the other did.
    ///
    /// # Errors
    /// [`ChangeError`]; the store is then as it was.
    pub fn change<T>(
        &self,
        change: impl FnOnce(&mut Contents) -> Result<T, Refusal>,
    ) -> Result<T, ChangeError> {
        let file = self.lock()?;
        let mut contents = self.read()?;
        let changed = change(&mut contents)?;
        self.write(&file, contents)?;
        Ok(changed)
    }

    fn lock(&self) -> Result<WholeFile, ChangeError> {
        WholeFile::lock(&self.path, PATIENCE).map_err(|source| self.unwritten(source))
    }

    fn write(&self, file: &WholeFile, mut contents: Contents) -> Result<(), ChangeError> {
        contents.readers = self.readers(&contents);
        let plaintext = document::write(&contents).map_err(|_| ChangeError::Unsealed)?;
        let sealed =
            envelope::seal(&plaintext, &contents.readers).map_err(|_| ChangeError::Unsealed)?;
        if sealed.len() as u64 > MAX_STORE {
            return Err(ChangeError::TooLarge);
        }
        // What cannot be opened again is never put in the place of what can.
        envelope::open(&sealed, &self.keys).map_err(|_| ChangeError::Unsealed)?;
        file.write(&sealed).map_err(|source| self.unwritten(source))
    }

    fn readers(&self, contents: &Contents) -> BTreeSet<String> {
        let mut readers = self.keys.public();
        if self.is_shared {
            readers.extend(contents.readers.iter().cloned());
        }
        readers
    }

    fn unwritten(&self, source: WriteError) -> ChangeError {
        let path = self.path.clone();
        ChangeError::Unwritten { path, source }
    }
}
