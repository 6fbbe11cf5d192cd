//! Why a handshake failed, as one label for each reason.

use std::io;

use rustls::{CertificateError, Error, OtherError};

/// The label under which a failed handshake is counted.
pub(super) fn label(error: &io::Error) -> &'static str {
    let tls = error
        .get_ref()
        .and_then(|inner| inner.downcast_ref::<Error>());
    match tls {
        Some(Error::NoCertificatesPresented) => "certificate_missing",
        Some(Error::InvalidCertificate(error)) => certificate(error),
        Some(Error::NoApplicationProtocol) => "no_application_protocol",
        Some(Error::PeerIncompatible(_)) => "tls_incompatible",
        _ => "handshake_failed",
    }
}

/// The label for a client certificate that is not believed.
pub(super) fn certificate(error: &CertificateError) -> &'static str {
    match error {
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            "certificate_expired"
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "certificate_not_yet_valid"
        }
        CertificateError::UnknownIssuer | CertificateError::BadSignature => {
            "certificate_unknown_issuer"
        }
        CertificateError::Revoked => "certificate_revoked",
        CertificateError::UnknownRevocationStatus => "revocation_unknown",
        CertificateError::ExpiredRevocationList
        | CertificateError::ExpiredRevocationListContext { .. } => "revocation_list_expired",
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
            "certificate_wrong_purpose"
        }
        CertificateError::Other(OtherError(other)) if is_ca_as_leaf(&**other) => {
            "certificate_is_ca"
        }
        _ => "certificate_invalid",
    }
}

/// rustls hands this error of its certificate verifier on as it is.
fn is_ca_as_leaf(error: &(dyn std::error::Error + 'static)) -> bool {
    error.to_string() == "CaUsedAsEndEntity"
}
