//! `[credentials]`: where credentials are kept, and reading them.

use toml::de::DeValue;

use super::{folder::Folder, reader::Section, values};
use crate::credential::{CredentialRef, CredentialSet, CredentialStore, Environment, Mounted};

/// The stores that references lead to.
pub(super) struct Credentials<'a> {
    mounted: Directory,
    folder: &'a Folder,
    environment: &'a Environment,
}

enum Directory {
    NotWritten,
    /// Reported where it is written, so not again at each reference.
    Wrong,
    Right(Mounted),
}

impl<'a> Credentials<'a> {
    pub(super) fn read(
        section: Section<'_>,
        folder: &'a Folder,
        environment: &'a Environment,
    ) -> Self {
        let directory = section.optional("directory", |value| folder.directory(value));
        let mounted = match directory {
            Some(directory) => Directory::Right(Mounted::new(directory)),
            None if section.has("directory") => Directory::Wrong,
            None => Directory::NotWritten,
        };
        section.finish();
        Self {
            mounted,
            folder,
            environment,
        }
    }

    /// The credential that a reference leads to; `None` when a mistake elsewhere hides it.
    pub(super) fn load(&self, reference: &DeValue<'_>) -> Result<Option<CredentialSet>, String> {
        let reference =
            CredentialRef::parse(values::text(reference)?).map_err(|e| e.to_string())?;
        let loaded = match (&reference, &self.mounted) {
            (CredentialRef::Environment(name), _) => self.environment.load(name),
            (CredentialRef::File(name), Directory::Right(mounted)) => {
                self.folder.look_at(mounted.files(name));
                mounted.load(name)
            }
            (CredentialRef::File(_), Directory::Wrong) => return Ok(None),
            (CredentialRef::File(_), Directory::NotWritten) => {
                return Err(
                    "needs a folder of credentials: write directory = \"...\" in [credentials]"
                        .to_owned(),
                );
            }
        };
        match loaded {
            Ok(credentials) => Ok(Some(credentials)),
            Err(error) => Err(format!("cannot be loaded: {error}")),
        }
    }
}
