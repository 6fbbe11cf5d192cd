//! The server's side of TLS: its certificate, and which clients it believes.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use rustls::{
    RootCertStore, ServerConfig,
    server::{NoServerSessionStorage, WebPkiClientVerifier},
};

use crate::pem_file::{self, PemError, PemFile};

/// What is wrong with the listener's certificates or key.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read, or holds something else.
    #[error("{}: {source}", .file.display())]
    Pem {
        /// The file.
        file: PathBuf,
        /// Why.
        source: PemError,
    },
    /// A certificate cannot serve as the root of client certificates.
    #[error("{}: holds a certificate that cannot be a client CA: {reason}", .file.display())]
    UnusableCa {
        /// The file.
        file: PathBuf,
        /// Why.
        reason: String,
    },
    /// The key and the certificate do not go together, or are of a kind nobody can use.
    #[error("{} is not the private key of the certificate in {}: {reason}", .key.display(), .cert.display())]
    KeyMismatch {
        /// The key's file.
        key: PathBuf,
        /// The certificate's file.
        cert: PathBuf,
        /// Why.
        reason: String,
    },
}

/// TLS 1.3 with a client certificate that chains to `client_ca`.
///
/// # Errors
/// [`TlsError`], which names the file.
pub fn server_config(cert: &Path, key: &Path, client_ca: &Path) -> Result<ServerConfig, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in read(client_ca, pem_file::certificates)? {
        roots
            .add(certificate)
            .map_err(|error| TlsError::UnusableCa {
                file: client_ca.to_owned(),
                reason: error.to_string(),
            })?;
    }
    let verifier = WebPkiClientVerifier::builder(Arc::new(roots))
        .build()
        .map_err(|error| TlsError::UnusableCa {
            file: client_ca.to_owned(),
            reason: error.to_string(),
        })?;

    let mut config = ServerConfig::builder_with_protocol_versions(&[&rustls::version::TLS13])
        .with_client_cert_verifier(verifier)
        .with_single_cert(
            read(cert, pem_file::certificates)?,
            read(key, pem_file::private_key)?,
        )
        .map_err(|error| TlsError::KeyMismatch {
            key: key.to_owned(),
            cert: cert.to_owned(),
            reason: error.to_string(),
        })?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    // A resumed session would outlive the revocation of the certificate it began with.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(config)
}

fn read<T>(
    file: &Path,
    read: impl FnOnce(&Path) -> Result<PemFile<T>, PemError>,
) -> Result<T, TlsError> {
    match read(file) {
        Ok(pem) => Ok(pem.content),
        Err(source) => Err(TlsError::Pem {
            file: file.to_owned(),
            source,
        }),
    }
}
