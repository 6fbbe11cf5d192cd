//! Why a token source cannot be built.

use super::InvalidEndpoint;
use crate::{
    credential::{Credential, Proof},
    secret::Secret,
};

/// A token endpoint or its credentials are configured in a way that cannot work. No
/// variant holds any part of a secret or a key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SetupError {
    /// The URL is not one of a token endpoint.
    #[error(transparent)]
    Endpoint(#[from] InvalidEndpoint),
    /// The URL is plain HTTP, which is only for loopback, and only when allowed.
    #[error("the token endpoint is not https")]
    PlainHttp,
    /// The URL names an address that must not be connected to.
    #[error("the address of the token endpoint is not allowed")]
    Address,
    /// The destination id cannot be a segment of a URL.
    #[error("the destination id cannot stand in a URL")]
    DestinationId,
    /// The protocol authenticates with a secret, the application has a key.
    #[error("this protocol needs a client secret, and the application has a private key")]
    SecretNeeded,
    /// The protocol authenticates with a key, the application has a secret.
    #[error("private_key_jwt needs a private key, and the application has a client secret")]
    PrivateKeyNeeded,
    /// The private key is not one that can sign.
    #[error(
        "the private key is not usable: an unencrypted PEM with a P-256, Ed25519 or RSA key (2048 bits or more) is needed"
    )]
    UnusableKey,
    /// The parameter is set by the protocol itself.
    #[error("the parameter {0:?} is set by the protocol and cannot be configured")]
    ReservedParameter(String),
    /// The certificate authorities cannot be read.
    #[error("the certificate authorities for the token endpoint are not readable as PEM")]
    UnreadableRoots,
    /// The TLS library or the HTTP library refuses its settings.
    #[error("the HTTP client cannot be set up")]
    Client,
}

/// The secret of an application, which must have one.
pub(super) fn client_secret(credential: &Credential) -> Result<&Secret, SetupError> {
    match &credential.proof {
        Proof::ClientSecret(secret) => Ok(secret),
        Proof::PrivateKey { .. } => Err(SetupError::SecretNeeded),
    }
}
