//! `[credentials]`: where credentials are kept, and reading them.

use std::{collections::HashSet, path::PathBuf};

use super::{Destination, Protection, folder::Folder, reader::Section};
use crate::credential::{
    CredentialError, CredentialRef, CredentialSet, CredentialStore, Environment, Mounted, Proof,
    sealed::{Keys, Sealed, Store},
};

/// Where credentials are kept, as it is written.
#[derive(Clone, Debug, Default)]
pub struct Places {
    /// The folder of mounted credentials.
    pub directory: Option<PathBuf>,
    /// The sealed store.
    pub sealed: Option<SealedPlace>,
}

/// The two files of a sealed store.
#[derive(Clone, Debug)]
pub struct SealedPlace {
    /// The store.
    pub store: PathBuf,
    /// The identity file with the keys that open it.
    pub identity: PathBuf,
}

/// What a reading makes of a reference to a credential.
pub(super) trait Resolve {
    type Credential;

    /// What the reference leads to; `None` when a mistake elsewhere hides it.
    fn resolve(&self, reference: CredentialRef) -> Result<Option<Self::Credential>, String>;

    /// What it proves, as far as that was read.
    fn proofs(credential: &Self::Credential) -> Vec<&Proof>;
}

/// The stores that references lead to.
pub(super) struct Credentials<'a> {
    mounted: Place<Mounted>,
    sealed: Place<Sealed>,
    folder: &'a Folder,
    environment: &'a Environment,
}

enum Place<T> {
    NotWritten,
    /// Reported where it is written, so not again at each reference.
    Wrong,
    Right(T),
}

impl Places {
    /// Reads the section without looking at what it names.
    pub(super) fn read(section: Section<'_>, folder: &Folder) -> Self {
        let directory = section.optional("directory", |value| folder.path(value));
        let sealed = SealedPlace::read(&section, folder);
        section.finish();
        Self { directory, sealed }
    }
}

impl SealedPlace {
    /// Both files, or neither.
    fn read(section: &Section<'_>, folder: &Folder) -> Option<Self> {
        let store = section.optional("sealed", |value| folder.path(value));
        let identity = section.optional("identity", |value| folder.path(value));
        match (section.has("sealed"), section.has("identity")) {
            (true, false) => section.report_missing("identity", "\"broker.key\""),
            (false, true) => section.report_missing("sealed", "\"credentials.age\""),
            _ => {}
        }
        Some(Self {
            store: store?,
            identity: identity?,
        })
    }
}

impl<'a> Credentials<'a> {
    pub(super) fn read(
        section: Section<'_>,
        folder: &'a Folder,
        environment: &'a Environment,
    ) -> Self {
        let directory = section.optional("directory", |value| folder.directory(value));
        let mounted = match directory {
            Some(directory) => Place::Right(Mounted::new(directory)),
            None if section.has("directory") => Place::Wrong,
            None => Place::NotWritten,
        };
        let sealed = read_sealed(&section, folder);
        section.finish();
        Self {
            mounted,
            sealed,
            folder,
            environment,
        }
    }
}

impl Credentials<'_> {
    /// The references that no destination has to what is stored. Folders and variables tell
    /// of no credential that nobody asks them for.
    pub(super) fn spare(&self, destinations: &[Destination]) -> Vec<String> {
        let Place::Right(sealed) = &self.sealed else {
            return Vec::new();
        };
        let applications =
            destinations
                .iter()
                .flat_map(|destination| match &destination.protection {
                    Protection::Protected(protected) => &protected.applications[..],
                    Protection::Unprotected => &[],
                });
        let used: HashSet<_> = applications
            .map(|application| &*application.credential.current.name.credential)
            .collect();
        sealed
            .names()
            .map(|name| CredentialRef::Sealed(name.to_owned()).to_string())
            .filter(|reference| !used.contains(reference.as_str()))
            .collect()
    }
}

/// Decrypts the store, once for all references.
fn read_sealed(section: &Section<'_>, folder: &Folder) -> Place<Sealed> {
    let report = |key, error: CredentialError| {
        section.report(key, &format!("cannot be used: {error}"));
        Place::Wrong
    };
    let Some(place) = SealedPlace::read(section, folder) else {
        let is_written = section.has("sealed") || section.has("identity");
        return if is_written {
            Place::Wrong
        } else {
            Place::NotWritten
        };
    };
    let keys = match Keys::read(&place.identity) {
        Ok(keys) => keys,
        Err(error) => return report("identity", error),
    };
    match Sealed::open(&Store::new(place.store, keys, false)) {
        Ok(sealed) => Place::Right(sealed),
        Err(error) => report("sealed", error),
    }
}

impl Resolve for Credentials<'_> {
    type Credential = CredentialSet;

    fn resolve(&self, reference: CredentialRef) -> Result<Option<CredentialSet>, String> {
        let loaded = match reference {
            CredentialRef::Environment(name) => self.environment.load(&name),
            CredentialRef::File(name) => match &self.mounted {
                Place::Right(mounted) => {
                    self.folder.look_at(mounted.files(&name));
                    mounted.load(&name)
                }
                Place::Wrong => return Ok(None),
                Place::NotWritten => {
                    return Err(
                        "needs a folder of credentials: write directory = \"...\" in [credentials]"
                            .to_owned(),
                    );
                }
            },
            CredentialRef::Sealed(name) => match &self.sealed {
                Place::Right(sealed) => sealed.load(&name),
                Place::Wrong => return Ok(None),
                Place::NotWritten => {
                    return Err(
                        "needs a store of credentials: write sealed = \"...\" and identity = \"...\" in [credentials]"
                            .to_owned(),
                    );
                }
            },
        };
        match loaded {
            Ok(credentials) => Ok(Some(credentials)),
            Err(error) => Err(format!("cannot be loaded: {error}")),
        }
    }

    fn proofs(credential: &CredentialSet) -> Vec<&Proof> {
        let credentials = credential.iter();
        credentials.map(|credential| &credential.proof).collect()
    }
}

/// Leaves references as they are.
pub(super) struct Unresolved;

impl Resolve for Unresolved {
    type Credential = CredentialRef;

    fn resolve(&self, reference: CredentialRef) -> Result<Option<CredentialRef>, String> {
        Ok(Some(reference))
    }

    fn proofs(_: &CredentialRef) -> Vec<&Proof> {
        Vec::new()
    }
}
