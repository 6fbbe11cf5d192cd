//! The identity file: the keys that open a store, and that it is written for.

use std::{
    collections::BTreeSet,
    fmt,
    path::{Path, PathBuf},
};

use age::{secrecy::ExposeSecret as _, x25519};
use jiff::Timestamp;
use zeroize::Zeroizing;

use super::SealedProblem;
use crate::{credential::CredentialError, secret::Secret, small_file};

/// The largest identity file, in bytes.
const MAX_FILE: u64 = 64 * 1024;
/// More keys than these make opening a hostile file slow, and no rotation needs them.
const MAX_KEYS: usize = 8;
/// How a file begins that is itself encrypted.
const ENCRYPTED: [&[u8]; 2] = [
    b"-----BEGIN AGE ENCRYPTED FILE-----",
    b"age-encryption.org/",
];

/// The keys of an age identity file. Any of them opens a store; what is written is for all.
pub struct Keys {
    path: PathBuf,
    identities: Vec<x25519::Identity>,
}

/// A key that was just drawn.
pub struct NewKey {
    /// What an identity file with it holds.
    pub file: Secret,
    /// The public half, `age1…`, to which others can encrypt.
    pub public: String,
}

impl Keys {
    /// Reads an identity file: comments, and lines with `AGE-SECRET-KEY-1…`.
    ///
    /// # Errors
    /// [`CredentialError`] names the file, and the line that is no key.
    pub fn read(path: &Path) -> Result<Self, CredentialError> {
        let error = |problem| SealedProblem::at(path, problem);
        let bytes =
            small_file::read(path, MAX_FILE).map_err(|problem| SealedProblem::at(path, problem))?;
        let identities = parse(&bytes).map_err(error)?;
        Ok(Self {
            path: path.to_owned(),
            identities,
        })
    }

    /// Draws a new key.
    pub fn draw(now: Timestamp) -> NewKey {
        let identity = x25519::Identity::generate();
        let public = identity.to_public().to_string();
        let secret = identity.to_string();
        let now = now.round(jiff::Unit::Second).unwrap_or(now);
        let comments = format!("# created: {now}\n# public key: {public}\n");
        let lines = [&comments, secret.expose_secret(), "\n"];
        let mut file = String::with_capacity(lines.iter().map(|line| line.len()).sum());
        file.extend(lines);
        NewKey {
            file: Secret::new(file),
            public,
        }
    }

    /// Where the keys were read from.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The public halves, `age1…`.
    pub fn public(&self) -> BTreeSet<String> {
        let identities = self.identities.iter();
        identities
            .map(|identity| identity.to_public().to_string())
            .collect()
    }

    pub(super) fn identities(&self) -> impl Iterator<Item = &dyn age::Identity> {
        self.identities.iter().map(|identity| identity as _)
    }
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keys")
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

fn parse(bytes: &Zeroizing<Vec<u8>>) -> Result<Vec<x25519::Identity>, SealedProblem> {
    if ENCRYPTED.iter().any(|start| bytes.starts_with(start)) {
        return Err(SealedProblem::ProtectedKey);
    }
    let mut identities = Vec::new();
    for (line, bytes) in bytes.split(|byte| *byte == b'\n').enumerate() {
        let not_key = SealedProblem::NotKey(line + 1);
        let Ok(text) = str::from_utf8(bytes.trim_ascii()) else {
            return Err(not_key);
        };
        if text.is_empty() || text.starts_with('#') {
            continue;
        }
        identities.push(text.parse().map_err(|_| not_key)?);
        if identities.len() > MAX_KEYS {
            return Err(SealedProblem::TooManyKeys(MAX_KEYS));
        }
    }
    if identities.is_empty() {
        return Err(SealedProblem::NoKey);
    }
    Ok(identities)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Result<usize, SealedProblem> {
        let bytes = Zeroizing::new(text.as_bytes().to_vec());
        parse(&bytes).map(|identities| identities.len())
    }

    #[test]
    fn an_identity_file_has_comments_and_keys() {
        let draw = || Keys::draw(Timestamp::UNIX_EPOCH);
        let (one, two) = (draw(), draw());
        let text = one.file.expose();
        assert!(text.starts_with("# created: 1970-01-01T00:00:00Z\n# public key: age1"));
        assert_eq!(parsed(text), Ok(1));
        assert_eq!(parsed(&format!("{text}\r\n{}", two.file.expose())), Ok(2));
        assert_eq!(parsed(&text.replace('\n', "\r\n")), Ok(1));
        assert_ne!(one.public, two.public);
    }

    #[test]
    fn what_is_no_identity_file_is_refused_by_its_line() {
        let key = Keys::draw(Timestamp::UNIX_EPOCH);
        let key = key.file.expose();
        let line = key.lines().last().unwrap();
        for (text, expected) in [
            ("", SealedProblem::NoKey),
            ("# a comment alone\n\n", SealedProblem::NoKey),
            ("nonsense", SealedProblem::NotKey(1)),
            (&format!("{key}canary\n"), SealedProblem::NotKey(4)),
            (&key[..key.len() - 3], SealedProblem::NotKey(3)),
            (
                "-----BEGIN AGE ENCRYPTED FILE-----\nAAAA",
                SealedProblem::ProtectedKey,
            ),
            ("age-encryption.org/v1\n", SealedProblem::ProtectedKey),
            (
                &format!("{line}\n").repeat(9),
                SealedProblem::TooManyKeys(8),
            ),
        ] {
            assert_eq!(parsed(text), Err(expected));
        }
        assert_eq!(parsed(&format!("{line}\n").repeat(8)), Ok(8));
    }
}
