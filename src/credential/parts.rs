//! Puts a credential together from the parts that a store holds.

use std::{borrow::Cow, mem};

use rustls::pki_types::{PrivateKeyDer, pem::PemObject};
use zeroize::Zeroizing;

use super::{Credential, CredentialError, CredentialRef, Problem, Proof};
use crate::secret::Secret;

/// The largest part, in bytes. A key of RSA 16384 in PEM takes a fifth of it.
pub(super) const MAX_PART: u64 = 64 * 1024;

/// The raw parts of one credential, each with the place it was found in.
pub(super) struct Parts {
    pub(super) client_id: Part,
    pub(super) client_secret: Option<Part>,
    pub(super) private_key: Option<Part>,
    pub(super) key_id: Option<Part>,
    /// How the configuration refers to it.
    pub(super) reference: CredentialRef,
    /// What to say when there is neither a secret nor a key.
    pub(super) no_proof: CredentialError,
}

/// The secret of one line that a file holds, whatever it is for.
///
/// # Errors
/// [`CredentialError`], which names the place and repeats nothing of it.
pub fn one_line(place: String, bytes: Zeroizing<Vec<u8>>) -> Result<Secret, CredentialError> {
    let place = place.into();
    Part { place, bytes }.line()
}

/// One file or variable.
pub(super) struct Part {
    pub(super) place: Cow<'static, str>,
    pub(super) bytes: Zeroizing<Vec<u8>>,
}

impl Parts {
    pub(super) fn assemble(self) -> Result<Credential, CredentialError> {
        let reference = self.reference.clone();
        let (client_id, proof) = self.split()?;
        Ok(Credential::new(&reference, client_id, proof))
    }

    /// The client id, and what proves that the broker is that client.
    pub(super) fn split(self) -> Result<(String, Proof), CredentialError> {
        let client_id = self.client_id.line()?;
        let proof = match (self.client_secret, self.private_key, self.key_id) {
            (Some(secret), None, None) => Proof::ClientSecret(secret.line()?),
            (None, Some(key), key_id) => Proof::PrivateKey {
                pem: key.private_key()?,
                key_id: match key_id {
                    Some(key_id) => Some(key_id.line()?.expose().to_owned()),
                    None => None,
                },
            },
            // One of the two would be ignored, and nobody could tell which.
            (Some(secret), Some(other), _) | (Some(secret), None, Some(other)) => {
                return Err(other.error(Problem::Conflict(secret.place.into_owned())));
            }
            (None, None, _) => return Err(self.no_proof),
        };
        Ok((client_id.expose().to_owned(), proof))
    }
}

impl Part {
    /// A text of one line.
    fn line(mut self) -> Result<Secret, CredentialError> {
        let text = self.text()?;
        if text.expose().chars().any(char::is_control) {
            return Err(self.error(Problem::ControlCharacter));
        }
        Ok(text)
    }

    fn private_key(mut self) -> Result<Secret, CredentialError> {
        let text = self.text()?;
        // The error of the parser quotes the line that it stumbled over, so it is dropped.
        if PrivateKeyDer::from_pem_slice(text.expose().as_bytes()).is_err() {
            return Err(self.error(Problem::NotPem));
        }
        Ok(text)
    }

    fn text(&mut self) -> Result<Secret, CredentialError> {
        let mut bytes = mem::take(&mut *self.bytes);
        // Editors and `echo` end a file with a newline that is no part of the value.
        if bytes.pop_if(|last| *last == b'\n').is_some() {
            bytes.pop_if(|last| *last == b'\r');
        }
        let problem = match String::from_utf8(bytes).map(Secret::new) {
            Ok(text) if text.expose().is_empty() => Problem::Empty,
            Ok(text) if text.expose().len() as u64 > MAX_PART => Problem::TooLarge,
            Ok(text) => return Ok(text),
            Err(error) => {
                drop(Zeroizing::new(error.into_bytes()));
                Problem::NotText
            }
        };
        Err(self.error(problem))
    }

    fn error(&self, problem: Problem) -> CredentialError {
        CredentialError {
            place: self.place.clone().into_owned(),
            problem,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";

    fn assemble(parts: [Option<&[u8]>; 4]) -> Result<Credential, String> {
        let names = ["id", "secret", "key", "kid"];
        let mut parts = names.into_iter().zip(parts).map(|(name, bytes)| {
            bytes.map(|bytes| Part {
                place: name.into(),
                bytes: Zeroizing::new(bytes.to_vec()),
            })
        });
        let mut next = || parts.next().unwrap();
        Parts {
            client_id: next().unwrap(),
            client_secret: next(),
            private_key: next(),
            key_id: next(),
            reference: CredentialRef::File("app".to_owned()),
            no_proof: CredentialError {
                place: "secret".to_owned(),
                problem: Problem::Missing("no proof"),
            },
        }
        .assemble()
        .map_err(|error| error.to_string())
    }

    fn refusal(parts: [Option<&[u8]>; 4]) -> String {
        assemble(parts).unwrap_err()
    }

    #[test]
    fn one_trailing_newline_is_no_part_of_a_value() {
        for (written, read) in [
            ("s", "s"),
            ("s\n", "s"),
            ("s\r\n", "s"),
            (" s+/= ", " s+/= "),
        ] {
            let parts = [
                Some(b"id\n".as_slice()),
                Some(written.as_bytes()),
                None,
                None,
            ];
            let credential = assemble(parts).unwrap();
            assert_eq!(&**credential.client_id(), "id");
            let Proof::ClientSecret(secret) = credential.proof else {
                panic!("a secret was written")
            };
            assert_eq!(secret.expose(), read);
        }
    }

    #[test]
    fn a_private_key_keeps_its_lines() {
        let parts = [
            Some(b"id".as_slice()),
            None,
            Some(KEY.as_bytes()),
            Some(b"k1\n"),
        ];
        let Proof::PrivateKey { pem, key_id } = assemble(parts).unwrap().proof else {
            panic!("a key was written")
        };
        assert_eq!(pem.expose(), KEY.trim_end());
        assert_eq!(key_id.as_deref(), Some("k1"));
    }

    #[test]
    fn unusable_parts_are_refused_without_repeating_them() {
        let id = Some(b"id".as_slice());
        let secret = Some(b"canary".as_slice());
        let key = Some(KEY.as_bytes());
        let large = vec![b'x'; 64 * 1024 + 1];
        for (parts, expected) in [
            (
                [Some(b"".as_slice()), secret, None, None],
                "id is empty: write the value into it",
            ),
            (
                [Some(b"\n".as_slice()), secret, None, None],
                "id is empty: write the value into it",
            ),
            (
                [id, Some(b""), None, None],
                "secret is empty: write the value into it",
            ),
            (
                [id, Some(b"\xff\xfe"), None, None],
                "secret is not UTF-8 text: write the value without any encoding",
            ),
            (
                [Some(b"\xff\xfe"), secret, None, None],
                "id is not UTF-8 text: write the value without any encoding",
            ),
            (
                [Some(b"canary\nx"), secret, None, None],
                "id holds control characters: write the value alone, in one line",
            ),
            (
                [Some(b"canary\n\n"), secret, None, None],
                "id holds control characters: write the value alone, in one line",
            ),
            (
                [Some(b"canary\0"), secret, None, None],
                "id holds control characters: write the value alone, in one line",
            ),
            (
                [id, Some(b"canary\tx"), None, None],
                "secret holds control characters: write the value alone, in one line",
            ),
            (
                [id, Some(&large), None, None],
                "secret is larger than 64 KiB",
            ),
            (
                [id, secret, key, None],
                "key cannot be used together with secret: remove one of them",
            ),
            (
                [id, secret, None, Some(b"k")],
                "kid cannot be used together with secret: remove one of them",
            ),
            (
                [id, None, Some(b"canary"), None],
                "key is not a private key in PEM: it must begin with -----BEGIN PRIVATE KEY-----",
            ),
            (
                [id, None, Some(b"-----BEGIN PRIVATE KEY-----\ncanary"), None],
                "key is not a private key in PEM: it must begin with -----BEGIN PRIVATE KEY-----",
            ),
            (
                [id, None, key, Some(b"")],
                "kid is empty: write the value into it",
            ),
            ([id, None, None, None], "secret is missing: no proof"),
            ([id, None, None, Some(b"k")], "secret is missing: no proof"),
        ] {
            let message = refusal(parts);
            assert_eq!(message, expected);
            assert!(!message.contains("canary"));
        }
    }
}
