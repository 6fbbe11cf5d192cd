//! The files that a configuration names.

use std::{
    fmt::Display,
    path::{Path, PathBuf},
};

use toml::de::DeValue;

use super::values;
use crate::pem_file;

/// The folder of the configuration file, from which relative paths start.
pub(super) struct Folder(PathBuf);

impl Folder {
    pub(super) fn of(file: &Path) -> Self {
        Self(file.parent().unwrap_or(Path::new("")).to_owned())
    }

    pub(super) fn path(&self, value: &DeValue<'_>) -> Result<PathBuf, String> {
        values::line(value).map(|text| self.0.join(text))
    }

    pub(super) fn directory(&self, value: &DeValue<'_>) -> Result<PathBuf, String> {
        let path = self.path(value)?;
        if !path.is_dir() {
            return Err(names(&path, "is not a folder"));
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

    /// A PEM file with a private key.
    pub(super) fn private_key(&self, value: &DeValue<'_>) -> Result<PathBuf, String> {
        let path = self.path(value)?;
        match pem_file::private_key(&path) {
            Ok(_) => Ok(path),
            Err(error) => Err(names(&path, error)),
        }
    }
}

fn names(path: &Path, problem: impl Display) -> String {
    format!("names {:?}, which {problem}", path.to_string_lossy())
}
