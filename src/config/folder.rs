//! The files that a configuration names.

use std::path::{Path, PathBuf};

use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use toml::de::DeValue;
use zeroize::Zeroizing;

use super::values;
use crate::small_file;

/// The largest PEM file, in bytes. All the root certificates of the web take a fifth of it.
const MAX_PEM: u64 = 1024 * 1024;

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
        certificates_in(&path).map(|_| path)
    }

    /// The contents of such a file.
    pub(super) fn certificate_text(&self, value: &DeValue<'_>) -> Result<Vec<u8>, String> {
        certificates_in(&self.path(value)?).map(|bytes| bytes.to_vec())
    }

    /// A PEM file with a private key.
    pub(super) fn private_key(&self, value: &DeValue<'_>) -> Result<PathBuf, String> {
        let path = self.path(value)?;
        let bytes = read(&path)?;
        // The error of the parser quotes the line that it stumbled over, so it is dropped.
        match PrivateKeyDer::from_pem_slice(&bytes) {
            Ok(_) => Ok(path),
            Err(_) => Err(names(&path, "holds no private key in PEM")),
        }
    }
}

fn certificates_in(path: &Path) -> Result<Zeroizing<Vec<u8>>, String> {
    let bytes = read(path)?;
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    if certificates.map_or(0, |certificates| certificates.len()) == 0 {
        return Err(names(path, "holds no certificates in PEM"));
    }
    Ok(bytes)
}

fn read(path: &Path) -> Result<Zeroizing<Vec<u8>>, String> {
    small_file::read(path, MAX_PEM).map_err(|error| names(path, &error.to_string()))
}

fn names(path: &Path, problem: &str) -> String {
    format!("names {:?}, which {problem}", path.to_string_lossy())
}
