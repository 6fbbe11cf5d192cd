//! The client's side of TLS: version 1.3, with one suite, so that every server works alike.

use std::sync::Arc;

use rustls::{
    ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
    client::{
        Resumption,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{
        CryptoProvider, WebPkiSupportedAlgorithms,
        aws_lc_rs::{self, cipher_suite::TLS13_AES_256_GCM_SHA384},
    },
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject as _},
    version::TLS13,
};

use crate::site::Site;

/// How closely a client looks at the server's certificate.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Care {
    /// As it ought to.
    Full,
    /// Not at all, which leaves the work of a handshake to the server.
    None,
}

/// How a caller of the site connects.
pub(crate) fn client(site: &Site, caller: usize, care: Care) -> Arc<ClientConfig> {
    let provider = Arc::new(CryptoProvider {
        cipher_suites: vec![TLS13_AES_256_GCM_SHA384],
        ..aws_lc_rs::default_provider()
    });
    let algorithms = provider.signature_verification_algorithms;
    let builder = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13])
        .unwrap();
    let builder = if care == Care::None {
        builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Careless(algorithms)))
    } else {
        let mut roots = RootCertStore::empty();
        let authority = site.authority.certificate().as_bytes();
        roots
            .add(CertificateDer::from_pem_slice(authority).unwrap())
            .unwrap();
        builder.with_root_certificates(roots)
    };
    let signed = site.caller(caller);
    let chain = CertificateDer::from_pem_slice(signed.certificate.as_bytes()).unwrap();
    let key = PrivateKeyDer::from_pem_slice(signed.key.expose().as_bytes()).unwrap();
    let mut config = builder.with_client_auth_cert(vec![chain], key).unwrap();
    config.alpn_protocols = vec![b"h2".to_vec()];
    config.resumption = Resumption::disabled();
    Arc::new(config)
}

/// Believes any server.
#[derive(Debug)]
struct Careless(WebPkiSupportedAlgorithms);

impl ServerCertVerifier for Careless {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_schemes()
    }
}
