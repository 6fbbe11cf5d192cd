//! What is sealed, as JSON.
//!
//! Secrets stand there in base64: a text without escapes is read where it is, while one with
//! escapes is first copied into memory that nobody wipes.

use std::{borrow::Cow, io, mem, path::Path};

use base64::{
    Engine as _, decoded_len_estimate, display::Base64Display, engine::general_purpose::STANDARD,
};
use jiff::Timestamp;
use serde::{Deserialize, Serialize, Serializer};
use zeroize::Zeroizing;

use super::{Contents, SealedProblem, Stored, StoredSecret, envelope, is_name};
use crate::credential::{
    CredentialError, CredentialRef, Problem, Proof,
    parts::{Part, Parts},
};

/// The version that is written, and the only one that is read.
const VERSION: u64 = 1;

/// The whole; `S` is a secret as it is read or as it is written.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document<'a, S> {
    version: u64,
    #[serde(borrow)]
    readers: Vec<Cow<'a, str>>,
    #[serde(borrow)]
    credentials: Vec<Entry<'a, S>>,
    #[serde(borrow)]
    removed: Vec<Removed<'a>>,
}

/// One credential. They are in a list and not in a map, in which a second one of the same
/// name would replace the first and nobody would know.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry<'a, S> {
    #[serde(borrow)]
    name: Cow<'a, str>,
    last_generation: u64,
    current: Version<'a, S>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<Version<'a, S>>,
}

/// One of its secrets.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Version<'a, S> {
    generation: u64,
    /// In seconds since 1970.
    stored_at: i64,
    #[serde(borrow)]
    client_id: Cow<'a, str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    client_secret_base64: Option<S>,
    #[serde(skip_serializing_if = "Option::is_none")]
    private_key_base64: Option<S>,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    key_id: Option<Cow<'a, str>>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Removed<'a> {
    #[serde(borrow)]
    name: Cow<'a, str>,
    last_generation: u64,
}

/// Whatever the version, this much can be read.
#[derive(Deserialize)]
struct Preamble {
    version: u64,
}

/// A secret on its way into the document.
struct Encoded<'a>(&'a str);

impl Serialize for Encoded<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&Base64Display::new(self.0.as_bytes(), &STANDARD))
    }
}

/// Writes the document, into memory that is allocated once.
pub(super) fn write(contents: &Contents) -> serde_json::Result<Zeroizing<Vec<u8>>> {
    let document = Document {
        version: VERSION,
        readers: contents.readers.iter().map(Cow::from).collect(),
        credentials: contents
            .iter()
            .map(|(name, stored)| Entry {
                name: name.into(),
                last_generation: stored.last_generation,
                current: version(&stored.current),
                next: stored.next.as_ref().map(version),
            })
            .collect(),
        removed: contents
            .removed
            .iter()
            .map(|(name, last)| Removed {
                name: name.into(),
                last_generation: *last,
            })
            .collect(),
    };
    let mut length = Length(0);
    serde_json::to_writer(&mut length, &document)?;
    let mut bytes = Zeroizing::new(Vec::with_capacity(length.0));
    serde_json::to_writer(&mut *bytes, &document)?;
    Ok(bytes)
}

fn version(secret: &StoredSecret) -> Version<'_, Encoded<'_>> {
    let (client_secret_base64, private_key_base64, key_id) = match &secret.credential.proof {
        Proof::ClientSecret(secret) => (Some(Encoded(secret.expose())), None, None),
        Proof::PrivateKey { pem, key_id } => (None, Some(Encoded(pem.expose())), key_id.as_ref()),
    };
    Version {
        generation: secret.generation,
        stored_at: secret.stored_at.as_second(),
        client_id: (&**secret.credential.client_id()).into(),
        client_secret_base64,
        private_key_base64,
        key_id: key_id.map(Cow::from),
    }
}

/// Reads the document that was sealed in the file at `path`.
pub(super) fn read(bytes: &[u8], path: &Path) -> Result<Contents, CredentialError> {
    let wrong = || SealedProblem::at(path, SealedProblem::Contents);
    let document = match serde_json::from_slice::<Document<'_, &str>>(bytes) {
        Ok(document) if document.version == VERSION => document,
        _ => return Err(SealedProblem::at(path, misread(bytes))),
    };
    let mut contents = Contents::default();
    for reader in document.readers {
        let valid = envelope::is_reader(&reader);
        if !valid || !contents.readers.insert(reader.into_owned()) {
            return Err(wrong());
        }
    }
    for Removed {
        name,
        last_generation,
    } in document.removed
    {
        let before = contents.removed.insert(name.into_owned(), last_generation);
        before.is_none().then_some(()).ok_or_else(wrong)?;
    }
    for entry in document.credentials {
        let name = entry.name.into_owned();
        if !is_name(&name) {
            return Err(wrong());
        }
        let current = secret(entry.current, &name, path)?;
        let next = entry.next.map(|next| secret(next, &name, path));
        let next = next.transpose()?;
        let newest = next.as_ref().unwrap_or(&current).generation;
        let grows =
            newest <= entry.last_generation && (next.is_none() || newest > current.generation);
        let stored = Stored {
            current,
            next,
            last_generation: entry.last_generation,
        };
        let is_removed = contents.removed.contains_key(&name);
        let before = contents.credentials.insert(name, stored);
        if !grows || is_removed || before.is_some() {
            return Err(wrong());
        }
    }
    Ok(contents)
}

/// What is wrong with a document that is not of this version, or is none.
fn misread(bytes: &[u8]) -> SealedProblem {
    match serde_json::from_slice(bytes) {
        Ok(Preamble { version }) if version != VERSION => SealedProblem::Version(version),
        _ => SealedProblem::Contents,
    }
}

fn secret(
    version: Version<'_, &str>,
    name: &str,
    path: &Path,
) -> Result<StoredSecret, CredentialError> {
    let wrong = || SealedProblem::at(path, SealedProblem::Contents);
    let part = |part: &'static str, bytes: Vec<u8>| Part {
        place: part.into(),
        bytes: Zeroizing::new(bytes),
    };
    let encoded = |kind: &'static str, text: Option<&str>| {
        let decoded = text.map(|text| {
            let longest = decoded_len_estimate(text.len());
            let mut bytes = Zeroizing::new(Vec::with_capacity(longest));
            let decoded = STANDARD.decode_vec(text, &mut bytes);
            decoded.map_err(|_| wrong())?;
            Ok(part(kind, mem::take(&mut *bytes)))
        });
        decoded.transpose()
    };
    let parts = Parts {
        client_id: part("client id", version.client_id.into_owned().into_bytes()),
        client_secret: encoded("client secret", version.client_secret_base64)?,
        private_key: encoded("private key", version.private_key_base64)?,
        key_id: version
            .key_id
            .map(|id| part("key id", id.into_owned().into_bytes())),
        reference: CredentialRef::Sealed(name.to_owned()),
        no_proof: CredentialError {
            place: "client secret".to_owned(),
            problem: Problem::Missing("store the credential anew"),
        },
    };
    // Only now is it worth the while to say which part of which credential it is.
    let place = |part: &str| format!("{}: the {part} of {name:?}", path.display());
    let (client_id, proof) = parts.split().map_err(|error| CredentialError {
        place: place(&error.place),
        problem: match error.problem {
            Problem::Conflict(other) => Problem::Conflict(place(&other)),
            problem => problem,
        },
    })?;
    let stored_at = Timestamp::from_second(version.stored_at).map_err(|_| wrong())?;
    Ok(StoredSecret::of(
        name,
        client_id,
        proof,
        version.generation,
        stored_at,
    ))
}

/// Counts what is written.
struct Length(usize);

impl io::Write for Length {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
