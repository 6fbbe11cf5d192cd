//! A credential that an operator hands over.

use zeroize::Zeroizing;

use super::{
    Credential, CredentialError, CredentialRef, Problem,
    parts::{MAX_PART, Part, Parts},
};

/// A client id, and a proof that was not looked at yet.
pub struct Offered {
    /// The client identifier.
    pub client_id: String,
    /// A client secret, or a private key in PEM.
    pub proof: Zeroizing<Vec<u8>>,
    /// Where the proof comes from, as a message names it.
    pub place: String,
    /// Whether the proof is a private key.
    pub is_key: bool,
    /// The `kid` of a private key.
    pub key_id: Option<String>,
}

impl Offered {
    /// The largest proof that is worth reading, in bytes.
    pub const MAX_PROOF: u64 = MAX_PART;

    /// Whether a proof looks like a private key: it begins as PEM does, and no client secret
    /// does.
    pub fn looks_like_key(proof: &[u8]) -> bool {
        proof.starts_with(b"-----BEGIN ")
    }

    /// The credential, if it is one. It has no generation yet.
    ///
    /// # Errors
    /// [`CredentialError`] names the part that is wrong, and never repeats it.
    pub fn assemble(self, reference: CredentialRef) -> Result<Credential, CredentialError> {
        let proof = Part {
            place: self.place.clone().into(),
            bytes: self.proof,
        };
        let (client_secret, private_key) = if self.is_key {
            (None, Some(proof))
        } else {
            (Some(proof), None)
        };
        let named = |place: &str, text: String| Part {
            place: place.to_owned().into(),
            bytes: Zeroizing::new(text.into_bytes()),
        };
        Parts {
            client_id: named("--client-id", self.client_id),
            client_secret,
            private_key,
            key_id: self.key_id.map(|text| named("--key-id", text)),
            reference,
            no_proof: CredentialError {
                place: self.place,
                problem: Problem::Empty,
            },
        }
        .assemble()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::credential::Proof;

    const KEY: &str = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";

    fn offered(proof: &str, key_id: Option<&str>) -> Result<Credential, String> {
        let offered = Offered {
            client_id: "id".to_owned(),
            proof: Zeroizing::new(proof.as_bytes().to_vec()),
            place: "standard input".to_owned(),
            is_key: Offered::looks_like_key(proof.as_bytes()),
            key_id: key_id.map(str::to_owned),
        };
        let reference = CredentialRef::Sealed("shop".to_owned());
        offered
            .assemble(reference)
            .map_err(|error| error.to_string())
    }

    #[test]
    fn a_secret_is_told_from_a_private_key() {
        let secret = offered("s3cret\n", None).unwrap();
        assert!(matches!(secret.proof, Proof::ClientSecret(secret) if secret.expose() == "s3cret"));
        let key = offered(KEY, Some("k1")).unwrap();
        assert!(matches!(key.proof, Proof::PrivateKey { key_id: Some(id), .. } if id == "k1"));
    }

    #[test]
    fn what_cannot_be_a_proof_is_refused_by_its_place() {
        for (proof, key_id, expected) in [
            ("", None, "standard input is empty: write the value into it"),
            (
                "canary\ncanary",
                None,
                "standard input holds control characters: write the value alone, in one line",
            ),
            (
                "canary",
                Some("k1"),
                "--key-id cannot be used together with standard input: remove one of them",
            ),
            (
                "-----BEGIN PRIVATE KEY-----\ncanary",
                None,
                "standard input is not a private key in PEM: it must begin with -----BEGIN PRIVATE KEY-----",
            ),
        ] {
            assert_eq!(offered(proof, key_id).unwrap_err(), expected);
        }
    }
}
