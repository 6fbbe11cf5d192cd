//! Whom a peer looks like.

use std::{io, net::SocketAddr, sync::Arc};

use rustls::{
    ClientConfig, RootCertStore,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject as _},
};
use token_broker::cli::dev::Signed;
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::trial::Trial;

/// A certificate with those that vouch for it, and its key.
pub(crate) struct Papers {
    pub(crate) chain: Vec<CertificateDer<'static>>,
    pub(crate) key: PrivateKeyDer<'static>,
}

/// How a caller's connections are made.
#[derive(Clone)]
pub(crate) struct Disguise {
    connector: TlsConnector,
    broker: SocketAddr,
}

impl From<&Signed> for Papers {
    fn from(signed: &Signed) -> Self {
        Self {
            chain: vec![certificate(&signed.certificate)],
            key: PrivateKeyDer::from_pem_slice(signed.key.expose().as_bytes()).unwrap(),
        }
    }
}

impl Disguise {
    /// Looks like this caller to the trial's broker.
    pub(crate) fn of(trial: &Trial, caller: &str) -> Self {
        let signed = trial.authority.client(caller).unwrap();
        Self::with(trial, Some(&Papers::from(&signed)))
    }

    /// Shows these papers to the trial's broker, or none.
    pub(crate) fn with(trial: &Trial, papers: Option<&Papers>) -> Self {
        Self::before(trial.app.address(), trial.authority.certificate(), papers)
    }

    /// Shows these papers, or none, to a broker that is believed because of this certificate
    /// of an authority, in PEM.
    pub(crate) fn before(broker: SocketAddr, authority: &str, papers: Option<&Papers>) -> Self {
        let mut roots = RootCertStore::empty();
        roots.add(certificate(authority)).unwrap();
        let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        let mut config = match papers {
            Some(papers) => config
                .with_client_auth_cert(papers.chain.clone(), papers.key.clone_key())
                .unwrap(),
            None => config.with_no_client_auth(),
        };
        config.alpn_protocols = vec![b"h2".to_vec()];
        Self {
            connector: TlsConnector::from(Arc::new(config)),
            broker,
        }
    }

    /// Offers these protocols instead of HTTP/2.
    pub(crate) fn speaking(self, protocols: &[&str]) -> Self {
        let mut config = ClientConfig::clone(self.connector.config());
        config.alpn_protocols = protocols
            .iter()
            .map(|name| name.as_bytes().to_vec())
            .collect();
        Self {
            connector: TlsConnector::from(Arc::new(config)),
            ..self
        }
    }

    /// A connection on which nothing but TLS was spoken. In TLS 1.3 the client may yet
    /// learn that it is refused.
    pub(crate) async fn handshake(&self) -> io::Result<TlsStream<TcpStream>> {
        let socket = TcpStream::connect(self.broker).await?;
        socket.set_nodelay(true)?;
        let name = ServerName::from(self.broker.ip());
        self.connector.connect(name, socket).await
    }
}

fn certificate(pem: &str) -> CertificateDer<'static> {
    CertificateDer::from_pem_slice(pem.as_bytes()).unwrap()
}
