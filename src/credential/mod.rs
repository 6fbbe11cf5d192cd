//! Credentials: what the broker proves itself with to a token endpoint.

use std::fmt;

use crate::{destination::Generation, secret::Secret};

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
