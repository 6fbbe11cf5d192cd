//! Credentials in files, as Kubernetes mounts a Secret: one folder for each credential,
//! one file for each part.

use std::path::{Path, PathBuf};

use super::{
    Credential, CredentialError, CredentialRef, CredentialSet, CredentialStore, Problem,
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

    /// Where the parts of a credential are, or would be.
    pub fn files(&self, name: &str) -> impl Iterator<Item = PathBuf> + use<> {
        let folder = self.directory.join(name);
        ["client_id", "client_secret", "private_key", "key_id"]
            .into_iter()
            .map(move |part| folder.join(part))
    }
}

impl CredentialStore for Mounted {
    fn load(&self, name: &str) -> Result<CredentialSet, CredentialError> {
        if !is_folder_name(name) {
            return Err(error(&self.directory.join("NAME"), Problem::Name));
        }
        let folder = self.directory.join(name);
        let mut state = state(&folder);
        for _ in 1..MAX_READS {
            let loaded = load(name, &folder, state.as_deref());
            let state_now = self::state(&folder);
            if state_now == state {
                return loaded.map(CredentialSet::of);
            }
            state = state_now;
        }
        load(name, &folder, state.as_deref()).map(CredentialSet::of)
    }
}

/// How often a folder is read when it is renewed meanwhile.
const MAX_READS: usize = 3;

/// The folder that really holds the parts. Kubernetes renews a mount by pointing the link
/// `..data` to another folder; it is followed once for all parts, so that an old client id
/// is never taken with a new secret.
fn state(folder: &Path) -> Option<PathBuf> {
    let mounted = folder.join("..data").canonicalize();
    mounted.or_else(|_| folder.canonicalize()).ok()
}

/// Reads the parts from the folder's state, and names them as they are in the folder.
fn load(name: &str, folder: &Path, state: Option<&Path>) -> Result<Credential, CredentialError> {
    let Some(state) = state.filter(|state| state.is_dir()) else {
        let advice = "make a folder with the files client_id and client_secret in it";
        return Err(error(folder, Problem::Missing(advice)));
    };
    let part = |name| part(state, folder, name);
    Parts {
        client_id: part("client_id")?,
        client_secret: if_there(part("client_secret"))?,
        private_key: if_there(part("private_key"))?,
        key_id: if_there(part("key_id"))?,
        reference: CredentialRef::File(name.to_owned()),
        no_proof: error(
            &folder.join("client_secret"),
            Problem::Missing("write the client secret into it, or a private key into private_key"),
        ),
    }
    .assemble()
}

fn part(state: &Path, folder: &Path, name: &str) -> Result<Part, CredentialError> {
    let shown = folder.join(name);
    match small_file::read(&state.join(name), MAX_PART) {
        Ok(bytes) => Ok(Part {
            place: shown.display().to_string().into(),
            bytes,
        }),
        Err(problem) => Err(error(&shown, problem.into())),
    }
}

fn if_there(part: Result<Part, CredentialError>) -> Result<Option<Part>, CredentialError> {
    match part {
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
