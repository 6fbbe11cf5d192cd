//! Files with a secret in them. Whoever wrote the secret itself where a file belongs is told
//! so in words that do not repeat it.

use std::path::{Path, PathBuf};

use toml::de::DeValue;
use zeroize::Zeroizing;

use super::folder::{Folder, names};
use crate::{
    credential,
    secret::Secret,
    shared_cache::Ring,
    small_file::{self, FileError},
};

/// The largest file with a password or a key, in bytes; either fits ten times over.
const MAX_FILE: u64 = 4 * 1024;

/// The password of one line in a file.
pub(super) fn password(folder: &Folder, value: &DeValue<'_>) -> Result<Secret, String> {
    let advice = "write the password into a file, and the file's name here";
    let (path, bytes) = read(folder, value, advice)?;
    let password = credential::one_line(path.display().to_string(), bytes);
    password.map_err(|error| format!("cannot be used: {error}"))
}

/// The Base64 text of a key that seals, which is one.
pub(super) fn sealing_key(folder: &Folder, value: &DeValue<'_>) -> Result<Secret, String> {
    let advice = "write the key into a file, and the file's name here";
    if value.as_str().is_some_and(is_key) {
        return Err(format!("must not hold a key itself: {advice}"));
    }
    let (path, bytes) = read(folder, value, advice)?;
    let text = std::str::from_utf8(&bytes).unwrap_or_default();
    match Ring::new(text, None) {
        Ok(_) => Ok(Secret::new(text.to_owned())),
        Err(error) => Err(holds_no_key(&path, error)),
    }
}

fn is_key(text: &str) -> bool {
    Ring::new(text, None).is_ok()
}

fn holds_no_key(path: &Path, error: impl std::fmt::Display) -> String {
    format!("names {:?}, whose content {error}", path.to_string_lossy())
}

fn read(
    folder: &Folder,
    value: &DeValue<'_>,
    advice: &str,
) -> Result<(PathBuf, Zeroizing<Vec<u8>>), String> {
    let path = folder.path(value)?;
    match small_file::read(&path, MAX_FILE) {
        Ok(bytes) => Ok((path, bytes)),
        // Where there is no file, the text may be the secret itself.
        Err(error @ (FileError::Missing | FileError::Unreadable(_))) => {
            Err(format!("names a file that {error}: {advice}"))
        }
        Err(error) => Err(names(&path, error)),
    }
}
