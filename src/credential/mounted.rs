//! Credentials in files, as Kubernetes mounts a Secret: one folder for each credential,
//! one file for each part.

use std::path::{Path, PathBuf};

use super::{
    Credential, CredentialError, CredentialStore, Problem,
    parts::{MAX_PART, Part, Parts},
    reference::is_folder_name,
};
use crate::small_file::{self, FileError};

/// A directory with one folder for each credential. A folder holds the files `client_id`
/// and `client_secret`, or `client_id`, `private_key` and optionally `key_id`.
#[derive(Clone, Debug)]
pub struct Mounted {
    directory: PathBuf,
}

impl Mounted {
    /// A store below that directory, which is not looked at before a credential is read.
    pub fn new(directory: PathBuf) -> Self {
        Self { directory }
    }
}

impl CredentialStore for Mounted {
    fn load(&self, name: &str) -> Result<Credential, CredentialError> {
        if !is_folder_name(name) {
            return Err(error(&self.directory.join("NAME"), Problem::Name));
        }
        let folder = self.directory.join(name);
        if !folder.is_dir() {
            let advice = "make a folder with the files client_id and client_secret in it";
            return Err(error(&folder, Problem::Missing(advice)));
        }
        let secret = folder.join("client_secret");
        Parts {
            client_id: part(&folder.join("client_id"))?,
            client_secret: optional_part(&secret)?,
            private_key: optional_part(&folder.join("private_key"))?,
            key_id: optional_part(&folder.join("key_id"))?,
            no_proof: error(
                &secret,
                Problem::Missing(
                    "write the client secret into it, or a private key into private_key",
                ),
            ),
        }
        .assemble()
    }
}

fn part(path: &Path) -> Result<Part, CredentialError> {
    match small_file::read(path, MAX_PART) {
        Ok(bytes) => Ok(Part {
            place: path.display().to_string(),
            bytes,
        }),
        Err(problem) => Err(error(path, problem.into())),
    }
}

fn optional_part(path: &Path) -> Result<Option<Part>, CredentialError> {
    match part(path) {
        Err(error) if error.problem == Problem::File(FileError::Missing) => Ok(None),
        part => part.map(Some),
    }
}

fn error(path: &Path, problem: Problem) -> CredentialError {
    CredentialError {
        place: path.display().to_string(),
        problem,
    }
}
