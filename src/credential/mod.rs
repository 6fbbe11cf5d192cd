//! Credentials: what the broker proves itself with to a token endpoint.

mod environment;
mod error;
mod generation;
mod mounted;
mod parts;
mod reference;

use std::fmt;

use crate::{destination::Generation, secret::Secret};

pub use environment::Environment;
pub use error::{CredentialError, Problem};
pub use mounted::Mounted;
pub use reference::{CredentialRef, InvalidReference};

/// A place where credentials are kept.
pub trait CredentialStore {
    /// Reads the credential of that name as it is now.
    ///
    /// # Errors
    /// [`CredentialError`] names the file or variable that an operator must mend.
    fn load(&self, name: &str) -> Result<Credential, CredentialError>;
}

/// What an application was given when it was registered with an upstream.
#[derive(Debug)]
pub struct Credential {
    /// The client identifier (RFC 6749 §2.2).
    pub client_id: String,
    /// What proves that the broker is that client.
    pub proof: Proof,
    /// Changes whenever any of the above does.
    pub generation: Generation,
}

impl Credential {
    /// Puts a credential together and names its state.
    pub fn new(client_id: String, proof: Proof) -> Self {
        let generation = generation::of(&client_id, &proof);
        Self {
            client_id,
            proof,
            generation,
        }
    }
}

/// How a client authenticates.
pub enum Proof {
    /// A shared secret (RFC 6749 §2.3.1).
    ClientSecret(Secret),
    /// A private key in PEM that signs assertions (RFC 7523 §2.2).
    PrivateKey {
        /// PKCS#8, PKCS#1 or SEC1 in PEM.
        pem: Secret,
        /// The `kid` header of the assertions.
        key_id: Option<String>,
    },
}

impl fmt::Debug for Proof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ClientSecret(_) => "ClientSecret",
            Self::PrivateKey { .. } => "PrivateKey",
        })
    }
}
