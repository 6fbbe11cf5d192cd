//! A broken endpoint, an authority, and short ways to say what the tests need.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex},
};

use rcgen::SanType;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};
use token_broker::{
    cli::dev::Authority,
    credential::{Credential, CredentialRef, Proof},
    destination::DestinationId,
    secret::Secret,
    slot::{Failure, FailureReason},
    telemetry::Span,
    token::Minted,
    upstream::{
        AddressRule, ClientAuthentication, Endpoint, FetchError, HttpClient, HttpSettings,
        OAuth2Settings, Protocol, SetupError, TokenSource, source,
        standin::{Behaviour, Standin, StandinSettings},
    },
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpListener,
};
use tokio_rustls::TlsAcceptor;

pub(crate) const LOOPBACK: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
pub(crate) const DESTINATION: &str = "7d3c1f0e-5b8e-4a53-9f6b-0a3c5d1e2f40";
pub(crate) const CLIENT: &str = "shop";
pub(crate) const SECRET: &str = "ca+na/ry=";
pub(crate) const TOKEN: &str = r#"{"accessToken":"token-1","expiresIn":3600}"#;

pub(crate) fn settings() -> HttpSettings {
    HttpSettings {
        plain_http: true,
        addresses: AddressRule {
            loopback: true,
            private: false,
        },
        ..HttpSettings::default()
    }
}

pub(crate) fn client(settings: &HttpSettings) -> HttpClient {
    HttpClient::new(settings).unwrap()
}

pub(crate) fn credential(client_id: &str, secret: &str) -> Arc<Credential> {
    Arc::new(Credential::new(
        &CredentialRef::File("shop".to_owned()),
        client_id.to_owned(),
        Proof::ClientSecret(Secret::new(secret.to_owned())),
    ))
}

pub(crate) fn oauth2_by(client_authentication: ClientAuthentication) -> Protocol {
    Protocol::OAuth2(Arc::new(OAuth2Settings {
        client_authentication,
        ..OAuth2Settings::default()
    }))
}

pub(crate) fn occtoo(
    settings: &HttpSettings,
    url: &str,
) -> Result<Arc<dyn TokenSource>, SetupError> {
    source(
        &Protocol::Occtoo,
        &client(settings),
        &Endpoint::parse(url)?,
        &DestinationId::parse(DESTINATION).unwrap(),
        credential(CLIENT, SECRET),
    )
}

pub(crate) async fn mint(
    protocol: &Protocol,
    url: &str,
    credential: Arc<Credential>,
) -> Result<Minted, FetchError> {
    let endpoint = Endpoint::parse(url).unwrap();
    let destination = DestinationId::parse(DESTINATION).unwrap();
    source(
        protocol,
        &client(&settings()),
        &endpoint,
        &destination,
        credential,
    )
    .unwrap()
    .mint(&Span::none())
    .await
}

pub(crate) async fn error_under(settings: &HttpSettings, url: &str) -> FetchError {
    occtoo(settings, url)
        .unwrap()
        .mint(&Span::none())
        .await
        .unwrap_err()
}

pub(crate) async fn occtoo_error(url: &str) -> FetchError {
    error_under(&settings(), url).await
}

pub(crate) async fn standin() -> Standin {
    let standin = Standin::start(LOOPBACK, StandinSettings::default())
        .await
        .unwrap();
    standin.register(DESTINATION, CLIENT, SECRET);
    standin
}

pub(crate) async fn fail(standin: &Standin, behaviour: Behaviour) -> FetchError {
    standin.behave(behaviour);
    occtoo_error(&standin.base_url()).await
}

pub(crate) fn reason(error: &FetchError) -> FailureReason {
    Failure::from(error).reason
}

pub(crate) fn answer(status: &str, headers: &str, body: &str) -> String {
    let length = body.len();
    format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\n{headers}\r\n{body}")
}

pub(crate) fn ok(body: &str) -> String {
    answer("200 OK", "", body)
}

/// Sends the same bytes to everybody who has sent a request, then closes.
pub(crate) struct Raw {
    pub(crate) address: SocketAddr,
    pub(crate) url: String,
    requests: Arc<Mutex<Vec<String>>>,
}

impl Raw {
    pub(crate) async fn start(answer: String) -> Self {
        Self::serve(answer, None, false).await
    }

    pub(crate) async fn start_tls(answer: String, authority: &Authority, name: &str) -> Self {
        Self::serve(answer, Some(acceptor(authority, name)), false).await
    }

    /// Never closes.
    pub(crate) async fn hold(answer: String) -> Self {
        Self::serve(answer, None, true).await
    }

    async fn serve(answer: String, tls: Option<TlsAcceptor>, hold: bool) -> Self {
        let listener = TcpListener::bind(LOOPBACK).await.unwrap();
        let address = listener.local_addr().unwrap();
        let requests = Arc::default();
        let seen = Arc::clone(&requests);
        let scheme = if tls.is_some() { "https" } else { "http" };
        let host = if tls.is_some() {
            "localhost"
        } else {
            "127.0.0.1"
        };
        let url = format!("{scheme}://{host}:{}", address.port());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (answer, seen, tls) = (answer.clone(), Arc::clone(&seen), tls.clone());
                tokio::spawn(async move {
                    match tls {
                        None => exchange(stream, &answer, &seen, hold).await,
                        Some(tls) => {
                            if let Ok(stream) = tls.accept(stream).await {
                                exchange(stream, &answer, &seen, hold).await;
                            }
                        }
                    }
                });
            }
        });
        Self {
            address,
            url,
            requests,
        }
    }

    pub(crate) fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }
}

async fn exchange(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    answer: &str,
    seen: &Mutex<Vec<String>>,
    hold: bool,
) {
    let mut request = Vec::new();
    while !is_whole(&request) {
        if stream.read_buf(&mut request).await.unwrap_or(0) == 0 {
            return;
        }
    }
    let request = String::from_utf8_lossy(&request).into_owned();
    seen.lock().unwrap().push(request);
    // A client that has read enough may be gone by now.
    let _ = stream.write_all(answer.as_bytes()).await;
    if hold {
        std::future::pending::<()>().await;
    }
    let _ = stream.shutdown().await;
}

fn is_whole(request: &[u8]) -> bool {
    // A client that begins a TLS handshake has said all it will.
    if request.first() == Some(&0x16) {
        return true;
    }
    let text = String::from_utf8_lossy(request);
    let Some((head, body)) = text.split_once("\r\n\r\n") else {
        return false;
    };
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length: "))
        .map_or(0, |length| length.parse().unwrap());
    body.len() >= length
}

/// Accepts TLS with a certificate for this name.
fn acceptor(authority: &Authority, name: &str) -> TlsAcceptor {
    let name = SanType::DnsName(name.try_into().unwrap());
    let signed = authority.server_with(vec![name]).unwrap();
    let certificate = CertificateDer::from_pem_slice(signed.certificate.as_bytes()).unwrap();
    let key = PrivateKeyDer::from_pem_slice(signed.key.expose().as_bytes()).unwrap();
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    let config = rustls::ServerConfig::builder_with_provider(Arc::new(provider))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .unwrap();
    TlsAcceptor::from(Arc::new(config))
}
