//! Reads certificates and private keys from PEM files, and sees whether they can be used.

use std::path::Path;

use rustls::{
    RootCertStore,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer, pem::PemObject},
    sign::CertifiedKey,
};
use zeroize::Zeroizing;

use crate::small_file::{self, FileError};

/// The largest PEM file, in bytes. All the root certificates of the web take a fifth of it.
const MAX_PEM: u64 = 1024 * 1024;

/// A PEM file, as it is written and as it is read.
pub struct PemFile<T> {
    /// The bytes of the file; they are wiped when they are dropped.
    pub bytes: Zeroizing<Vec<u8>>,
    /// What they hold.
    pub content: T,
}

/// Why a PEM file is not usable. It never repeats what the file holds: the parser's own
/// error would quote the line that it stumbled over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PemError {
    /// The file cannot be read.
    #[error(transparent)]
    File(#[from] FileError),
    /// It holds no certificate, or a broken one.
    #[error("holds no certificates in PEM")]
    NoCertificates,
    /// It holds no revocation list, or a broken one.
    #[error("holds no revocation lists in PEM (-----BEGIN X509 CRL-----)")]
    NoRevocationLists,
    /// It holds no private key.
    #[error("holds no private key in PEM")]
    NoPrivateKey,
    /// A certificate in it cannot be that of an authority.
    #[error("holds a certificate that cannot be an authority")]
    NoAuthority,
    /// The key is another one's, or of a kind that nobody can use.
    #[error("is not the private key of the certificate")]
    OtherKey,
}

/// Reads all certificates in a file, at least one.
///
/// # Errors
/// [`PemError`], also when only one of several certificates is broken.
pub fn certificates(file: &Path) -> Result<PemFile<Vec<CertificateDer<'static>>>, PemError> {
    let bytes = small_file::read(file, MAX_PEM)?;
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    match certificates {
        Ok(content) if !content.is_empty() => Ok(PemFile { bytes, content }),
        _ => Err(PemError::NoCertificates),
    }
}

/// Reads all certificates in a file, each of which can be believed as an authority.
///
/// # Errors
/// [`PemError`].
pub fn authorities(file: &Path) -> Result<PemFile<Vec<CertificateDer<'static>>>, PemError> {
    let read = certificates(file)?;
    let mut roots = RootCertStore::empty();
    for certificate in &read.content {
        let added = roots.add(certificate.clone());
        added.map_err(|_| PemError::NoAuthority)?;
    }
    Ok(read)
}

/// Sees whether a private key is that of the first certificate of a chain.
///
/// # Errors
/// [`PemError::OtherKey`].
pub fn belong_together(
    chain: &[CertificateDer<'static>],
    key: &PrivateKeyDer<'static>,
) -> Result<(), PemError> {
    let provider = aws_lc_rs::default_provider();
    CertifiedKey::from_der(chain.to_vec(), key.clone_key(), &provider)
        .map(|_| ())
        .map_err(|_| PemError::OtherKey)
}

/// Reads all revocation lists in a file, at least one (RFC 5280 §5).
///
/// # Errors
/// [`PemError`], also when only one of several lists is broken.
pub fn revocation_lists(
    file: &Path,
) -> Result<PemFile<Vec<CertificateRevocationListDer<'static>>>, PemError> {
    let bytes = small_file::read(file, MAX_PEM)?;
    let lists: Result<Vec<_>, _> = CertificateRevocationListDer::pem_slice_iter(&bytes).collect();
    match lists {
        Ok(content) if !content.is_empty() => Ok(PemFile { bytes, content }),
        _ => Err(PemError::NoRevocationLists),
    }
}

/// Reads the first private key in a file: PKCS#8, PKCS#1 or SEC1.
///
/// # Errors
/// [`PemError`].
pub fn private_key(file: &Path) -> Result<PemFile<PrivateKeyDer<'static>>, PemError> {
    let bytes = small_file::read(file, MAX_PEM)?;
    match PrivateKeyDer::from_pem_slice(&bytes) {
        Ok(content) => Ok(PemFile { bytes, content }),
        Err(_) => Err(PemError::NoPrivateKey),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    const CERTIFICATE: &str = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    const KEY: &str = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
    const TORN: &str = "-----BEGIN CERTIFICATE-----\nAAAA\n";

    #[test]
    fn whole_certificates_and_keys_are_read_and_nothing_else() {
        use PemError::{NoCertificates, NoPrivateKey};
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file.pem");
        for (text, certificates_in_it, key_in_it) in [
            (CERTIFICATE.to_owned(), Ok(1), Err(NoPrivateKey)),
            (CERTIFICATE.repeat(3), Ok(3), Err(NoPrivateKey)),
            (format!("a comment\n{CERTIFICATE}{KEY}"), Ok(1), Ok(())),
            (KEY.to_owned(), Err(NoCertificates), Ok(())),
            (
                format!("{CERTIFICATE}{TORN}"),
                Err(NoCertificates),
                Err(NoPrivateKey),
            ),
            ("canary".to_owned(), Err(NoCertificates), Err(NoPrivateKey)),
            (String::new(), Err(NoCertificates), Err(NoPrivateKey)),
        ] {
            fs::write(&file, &text).unwrap();
            let found = certificates(&file);
            if let Ok(found) = &found {
                assert_eq!(*found.bytes, text.as_bytes());
            }
            let found = found.map(|found| found.content.len());
            assert_eq!(found, certificates_in_it, "{text}");
            assert_eq!(private_key(&file).map(|_| ()), key_in_it, "{text}");
        }
    }

    #[test]
    fn what_is_no_small_file_is_not_read() {
        let folder = tempfile::tempdir().unwrap();
        let huge = folder.path().join("huge.pem");
        let file = fs::File::create(&huge).unwrap();
        file.set_len(MAX_PEM + 1).unwrap();
        for (path, expected) in [
            (folder.path().join("missing.pem"), FileError::Missing),
            (folder.path().to_owned(), FileError::NotRegular),
            (huge, FileError::TooLarge { limit: MAX_PEM }),
        ] {
            let expected = PemError::File(expected);
            assert_eq!(certificates(&path).err(), Some(expected));
            assert_eq!(private_key(&path).err(), Some(expected));
        }
    }
}
