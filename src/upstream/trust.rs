//! Which certificates a token endpoint may show.

use std::sync::Arc;

use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, pem::PemObject},
};

use super::SetupError;

/// The TLS client: aws-lc-rs, TLS 1.2 and 1.3, and either the given authorities
/// alone or those that browsers trust.
pub(super) fn client_config(ca_pem: Option<&[u8]>) -> Result<ClientConfig, SetupError> {
    let roots = match ca_pem {
        Some(pem) => own_roots(pem)?,
        None => RootCertStore {
            roots: webpki_roots::TLS_SERVER_ROOTS.to_vec(),
        },
    };
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|_| SetupError::Client)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

fn own_roots(pem: &[u8]) -> Result<RootCertStore, SetupError> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        let certificate = certificate.map_err(|_| SetupError::UnreadableRoots)?;
        roots
            .add(certificate)
            .map_err(|_| SetupError::UnreadableRoots)?;
    }
    // An empty set would refuse every endpoint later, when nobody is looking.
    if roots.is_empty() {
        return Err(SetupError::UnreadableRoots);
    }
    Ok(roots)
}
