//! Credentials: what the broker proves itself with to a token endpoint.

mod environment;
mod error;
mod generation;
mod mounted;
mod offered;
mod parts;
mod reference;
pub mod sealed;

use std::{fmt, sync::Arc};

use crate::{destination::Generation, secret::Secret, token::SecretName};

pub use environment::Environment;
pub use error::{CredentialError, Problem};
pub use mounted::Mounted;
pub use offered::Offered;
pub use parts::one_line;
pub use reference::{CredentialRef, InvalidReference};

/// A place where credentials are kept.
pub trait CredentialStore {
    /// Reads the credential of that name as it is now.
    ///
    /// # Errors
    /// [`CredentialError`] names the file or variable that an operator must mend.
    fn load(&self, name: &str) -> Result<CredentialSet, CredentialError>;
}

/// The credential of an application, and during a rotation its successor as well.
#[derive(Clone, Debug)]
pub struct CredentialSet {
    /// What is known to work.
    pub current: Arc<Credential>,
    /// What is to replace it, once it has shown that it works.
    pub next: Option<Arc<Credential>>,
}

/// What an application was given when it was registered with an upstream.
#[derive(Debug)]
pub struct Credential {
    /// What proves that the broker is that client.
    pub proof: Proof,
    /// Changes whenever any of the above does.
    pub generation: Generation,
    /// What records call it.
    pub name: Arc<SecretName>,
}

impl Credential {
    /// Puts a credential together and names its state. Its name is good for the life of the
    /// process.
    pub fn new(reference: &CredentialRef, client_id: String, proof: Proof) -> Self {
        let generation = generation::of(&client_id, &proof);
        let number = format!("{:016x}", generation.0);
        Self::with_generation(reference, client_id, proof, number)
    }

    /// A credential whose store says which of its secrets this is.
    pub fn numbered(
        reference: &CredentialRef,
        client_id: String,
        proof: Proof,
        number: u64,
    ) -> Self {
        Self::with_generation(reference, client_id, proof, number.to_string())
    }

    fn with_generation(
        reference: &CredentialRef,
        client_id: String,
        proof: Proof,
        number: String,
    ) -> Self {
        Self {
            generation: generation::of(&client_id, &proof),
            name: Arc::new(SecretName {
                credential: reference.to_string().into(),
                generation: number,
                client_id: client_id.into(),
            }),
            proof,
        }
    }

    /// The client identifier (RFC 6749 §2.2).
    pub fn client_id(&self) -> &Arc<str> {
        &self.name.client_id
    }
}

impl CredentialSet {
    /// A credential without a successor.
    pub fn of(current: Credential) -> Self {
        Self {
            current: Arc::new(current),
            next: None,
        }
    }

    /// Changes whenever either credential does.
    pub fn generation(&self) -> Generation {
        match &self.next {
            Some(next) => generation::of_both(self.current.generation, next.generation),
            None => self.current.generation,
        }
    }

    /// Both, the current one first.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Credential>> {
        [&self.current].into_iter().chain(&self.next)
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
