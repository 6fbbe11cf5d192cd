//! The files that a configuration names.

use std::{
    cell::RefCell,
    fmt::Display,
    path::{Path, PathBuf},
};

use toml::de::DeValue;

use super::{files::Files, values};
use crate::pem_file;

/// The folder of the configuration file, from which relative paths start. It remembers
/// what was looked at, so that a change of any of it can be noticed.
pub(super) struct Folder {
    path: PathBuf,
    files: RefCell<Files>,
}

impl Folder {
    pub(super) fn of(file: &Path) -> Self {
        let folder = Self {
            path: file.parent().unwrap_or(Path::new("")).to_owned(),
            files: RefCell::default(),
        };
        folder.look_at([file.to_owned()]);
        folder
    }

    /// Remembers files that are about to be read.
    pub(super) fn look_at(&self, files: impl IntoIterator<Item = PathBuf>) {
        let mut looked_at = self.files.borrow_mut();
        files.into_iter().for_each(|file| looked_at.look_at(file));
    }

    /// Everything that was looked at.
    pub(super) fn into_files(self) -> Files {
        self.files.into_inner()
    }

    pub(super) fn path(&self, value: &DeValue<'_>) -> Result<PathBuf, String> {
        let path = values::line(value).map(|text| self.path.join(text))?;
        self.look_at([path.clone()]);
        Ok(path)
    }

    /// A file that the broker itself writes, so that a change of it is no news.
    pub(super) fn output(&self, value: &DeValue<'_>) -> Result<PathBuf, String> {
        let path = values::line(value).map(|text| self.path.join(text))?;
        let parent = path.parent().unwrap_or(Path::new(""));
        // A folder without a name is the one that the process is in.
        if !parent.as_os_str().is_empty() && !parent.is_dir() {
            return Err(names(&path, "is in no folder that exists"));
        }
        if path.is_dir() {
            return Err(names(&path, "is a folder"));
        }
        Ok(path)
    }

    pub(super) fn directory(&self, value: &DeValue<'_>) -> Result<PathBuf, String> {
        let path = self.path(value)?;
        if !path.is_dir() {
            return Err(names(&path, "is not a folder"));
        }
        Ok(path)
    }

    /// A file to be written, which need not be there yet. It is not remembered: that it
    /// grows is no change of the configuration.
    pub(super) fn written(&self, value: &DeValue<'_>) -> Result<PathBuf, String> {
        let path = values::line(value).map(|text| self.path.join(text))?;
        if path.is_dir() || path.file_name().is_none() {
            return Err(names(&path, "is a folder: name a file in it"));
        }
        // The folder of a path that is only a name is written as nothing.
        let folder = path
            .parent()
            .filter(|folder| !folder.as_os_str().is_empty());
        if !folder.is_none_or(Path::is_dir) {
            return Err(names(&path, "is in a folder that does not exist"));
        }
        Ok(path)
    }

    /// A PEM file with at least one certificate.
    pub(super) fn certificates(&self, value: &DeValue<'_>) -> Result<PathBuf, String> {
        let path = self.path(value)?;
        match pem_file::certificates(&path) {
            Ok(_) => Ok(path),
            Err(error) => Err(names(&path, error)),
        }
    }

    /// The contents of such a file.
    pub(super) fn certificate_text(&self, value: &DeValue<'_>) -> Result<Vec<u8>, String> {
        let path = self.path(value)?;
        match pem_file::certificates(&path) {
            Ok(file) => Ok(file.bytes.to_vec()),
            Err(error) => Err(names(&path, error)),
        }
    }

    /// A PEM file with at least one certificate revocation list.
    pub(super) fn revocation_lists(&self, value: &DeValue<'_>) -> Result<PathBuf, String> {
        let path = self.path(value)?;
        match pem_file::revocation_lists(&path) {
            Ok(_) => Ok(path),
            Err(error) => Err(names(&path, error)),
        }
    }

    /// A PEM file with a private key.
    pub(super) fn private_key(&self, value: &DeValue<'_>) -> Result<PathBuf, String> {
        let path = self.path(value)?;
        match pem_file::private_key(&path) {
            Ok(_) => Ok(path),
            Err(error) => Err(names(&path, error)),
        }
    }
}

/// What is wrong with a file that is named.
pub(super) fn names(path: &Path, problem: impl Display) -> String {
    format!("names {:?}, which {problem}", path.to_string_lossy())
}
