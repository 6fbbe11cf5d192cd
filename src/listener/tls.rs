//! The server's side of TLS: its certificate, and which clients it believes.

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
};

use rustls::{
    CertificateError, RootCertStore, ServerConfig,
    pki_types::{CertificateDer, CertificateRevocationListDer, UnixTime},
    server::{NoServerSessionStorage, WebPkiClientVerifier, danger::ClientCertVerifier},
    version::{TLS12, TLS13},
};

use super::{
    certificate::{self, Scope},
    handshake,
    talk::ALPN,
};
use crate::{
    config::{TlsFiles, TlsVersion},
    pem_file::{self, PemError, PemFile},
};

/// How connections are made, and which clients are believed. It is built whole from its
/// files, or not at all.
pub struct Tls {
    pub(super) config: Arc<ServerConfig>,
    clients: Arc<dyn ClientCertVerifier>,
    expiries: Vec<Expiry>,
    unlisted: Vec<String>,
}

/// When the first certificate or list in a file runs out.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Expiry {
    /// What the file is for: `server`, `client_ca` or `crl`.
    pub which: &'static str,
    /// The file.
    pub file: PathBuf,
    /// The first second in which whatever runs out first was good, in Unix time.
    pub first: i64,
    /// The last second in which all of it is good.
    pub last: i64,
}

/// What is wrong with the listener's certificates, key or revocation lists.
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
    /// Two revocation lists are about the same certificates, and only one of them would count.
    #[error("{}: has a revocation list of an issuer whose list is in {} as well, and only one of them would count: leave the newer one alone there", .file.display(), .other.display())]
    TwoLists {
        /// The file of the second.
        file: PathBuf,
        /// The file of the first.
        other: PathBuf,
    },
    /// The revocation lists are not usable.
    #[error("the revocation lists are not usable: {0}")]
    UnusableCrl(String),
}

impl Tls {
    /// Reads the files.
    ///
    /// # Errors
    /// [`TlsError`], which names the file.
    pub fn load(files: &TlsFiles) -> Result<Self, TlsError> {
        let Clients {
            verifier: clients,
            mut expiries,
            unlisted,
        } = Clients::load(files)?;
        let chain = read(&files.cert, pem_file::certificates)?;
        expiries.extend(Expiry::of_certificates("server", &files.cert, &chain));
        let versions: &[_] = match files.min_version {
            TlsVersion::Tls12 => &[&TLS13, &TLS12],
            TlsVersion::Tls13 => &[&TLS13],
        };
        let mut config = ServerConfig::builder_with_protocol_versions(versions)
            .with_client_cert_verifier(Arc::clone(&clients))
            .with_single_cert(chain, read(&files.key, pem_file::private_key)?)
            .map_err(|error| TlsError::KeyMismatch {
                key: files.key.clone(),
                cert: files.cert.clone(),
                reason: error.to_string(),
            })?;
        config.alpn_protocols = ALPN.map(<[u8]>::to_vec).to_vec();
        // A resumed session would outlive the revocation of the certificate it began with.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(Self {
            config: Arc::new(config),
            clients,
            expiries,
            unlisted,
        })
    }

    /// When its files run out.
    pub fn expiries(&self) -> &[Expiry] {
        &self.expiries
    }

    /// The subjects of client authorities without a revocation list where every one needs
    /// one, so that their clients are refused.
    pub fn unlisted(&self) -> &[String] {
        &self.unlisted
    }

    /// Whether a client that was believed once, with this chain, is believed still.
    ///
    /// # Errors
    /// The label of what is wrong with its certificate now.
    pub(super) fn believes(&self, chain: &[CertificateDer<'_>]) -> Result<(), &'static str> {
        let Some((leaf, intermediates)) = chain.split_first() else {
            return Err("certificate_missing");
        };
        match self
            .clients
            .verify_client_cert(leaf, intermediates, UnixTime::now())
        {
            Ok(_) => Ok(()),
            Err(rustls::Error::InvalidCertificate(error)) => Err(handshake::certificate(&error)),
            Err(_) => Err(handshake::certificate(&CertificateError::BadEncoding)),
        }
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tls")
    }
}

impl Expiry {
    fn of_certificates(
        which: &'static str,
        file: &Path,
        certificates: &[CertificateDer<'_>],
    ) -> Option<Self> {
        Self::first(which, file, certificates.iter().map(certificate::validity))
    }

    fn of_lists(file: &Path, lists: &[CertificateRevocationListDer<'_>]) -> Option<Self> {
        Self::first("crl", file, lists.iter().map(certificate::currency))
    }

    fn first(
        which: &'static str,
        file: &Path,
        spans: impl Iterator<Item = Option<(i64, i64)>>,
    ) -> Option<Self> {
        let (first, last) = spans.flatten().min_by_key(|(_, last)| *last)?;
        Some(Self {
            which,
            file: file.to_owned(),
            first,
            last,
        })
    }
}

/// Which clients are believed.
struct Clients {
    verifier: Arc<dyn ClientCertVerifier>,
    expiries: Vec<Expiry>,
    unlisted: Vec<String>,
}

impl Clients {
    fn load(files: &TlsFiles) -> Result<Self, TlsError> {
        let file = &files.client_ca;
        let unusable = |reason: String| TlsError::UnusableCa {
            file: file.clone(),
            reason,
        };
        let authorities = read(file, pem_file::certificates)?;
        let mut expiries = Vec::new();
        expiries.extend(Expiry::of_certificates("client_ca", file, &authorities));
        let mut roots = RootCertStore::empty();
        for authority in &authorities {
            roots
                .add(authority.clone())
                .map_err(|error| unusable(error.to_string()))?;
        }
        let mut lists: Vec<CertificateRevocationListDer<'static>> = Vec::new();
        let mut scopes: Vec<(Scope, &Path)> = Vec::new();
        for file in &files.crl {
            let more = read(file, pem_file::revocation_lists)?;
            expiries.extend(Expiry::of_lists(file, &more));
            for scope in more.iter().filter_map(Scope::of) {
                if let Some((_, other)) = scopes.iter().find(|(known, _)| known.overlaps(&scope)) {
                    return Err(TlsError::TwoLists {
                        file: file.clone(),
                        other: (*other).to_owned(),
                    });
                }
                scopes.push((scope, file));
            }
            lists.extend(more);
        }
        let has_lists = !lists.is_empty();
        let unlisted = authorities
            .iter()
            .filter(|_| has_lists && !files.crl_lenient)
            .filter(|authority| !scopes.iter().any(|(scope, _)| scope.is_of(authority)))
            .filter_map(certificate::subject)
            .collect();
        let mut verifier = WebPkiClientVerifier::builder(Arc::new(roots)).with_crls(lists);
        // Without any list nothing can be cleared, and rustls looks at none.
        if has_lists && files.crl_lenient {
            verifier = verifier.allow_unknown_revocation_status();
        } else if has_lists {
            verifier = verifier.enforce_revocation_expiration();
        }
        let verifier = verifier.build().map_err(|error| {
            if has_lists {
                TlsError::UnusableCrl(error.to_string())
            } else {
                unusable(error.to_string())
            }
        })?;
        Ok(Self {
            verifier,
            expiries,
            unlisted,
        })
    }
}

fn read<T>(
    file: &Path,
    read: impl FnOnce(&Path) -> Result<PemFile<T>, PemError>,
) -> Result<T, TlsError> {
    read(file)
        .map(|file| file.content)
        .map_err(|source| TlsError::Pem {
            file: file.to_owned(),
            source,
        })
}
