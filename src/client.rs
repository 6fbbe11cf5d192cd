//! How a client reaches a broker: mutual TLS from four settings, and errors that
//! say what to do.

use std::{
    error::Error,
    fmt, fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use rustls::{
    CertificateError, RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
};
use tokio::time::{Instant, timeout_at};
use tonic::{
    Code, Request, Status, TimeoutExpired,
    transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity},
};
use tonic_types::StatusExt as _;
use url::Url;
use zeroize::Zeroizing;

/// Where the broker is, and what both sides prove themselves with.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The broker's URL, such as `https://broker.example:8443`.
    pub endpoint: String,
    /// A PEM file of the certificate authorities that may have issued the broker's certificate.
    pub ca: PathBuf,
    /// A PEM file of the client's certificate, the leaf first.
    pub cert: PathBuf,
    /// A PEM file of the key to that certificate.
    pub key: PathBuf,
}

/// Why no connection could be prepared or made. Every message says what to change.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The endpoint is not one that the broker can have.
    #[error("the endpoint `{0}` is not an https URL such as https://broker.example:8443")]
    Endpoint(String),
    /// A file cannot be read.
    #[error("cannot read the {what} {}: {source}", .path.display())]
    Unreadable {
        /// What the file should hold.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// What the operating system says.
        #[source]
        source: io::Error,
    },
    /// A file holds something else.
    #[error("{} holds no usable {what} in PEM", .path.display())]
    NotPem {
        /// What the file should hold.
        what: &'static str,
        /// The file.
        path: PathBuf,
    },
    /// Certificate and key cannot be used together.
    #[error(
        "the certificate {} and the private key {} cannot be used together: {why}",
        .cert.display(), .key.display()
    )]
    Mismatch {
        /// The certificate file.
        cert: PathBuf,
        /// The key file.
        key: PathBuf,
        /// What the TLS library says.
        why: String,
    },
    /// The broker could not be reached, or one side did not accept the other.
    #[error("cannot connect to {endpoint}: {why}")]
    Unreachable {
        /// The configured endpoint.
        endpoint: String,
        /// What went wrong, and what to look at.
        why: String,
    },
}

impl Settings {
    /// Connects to the broker.
    ///
    /// # Errors
    /// [`ConnectError`], also when `deadline` passes first.
    pub async fn connect(&self, deadline: Instant) -> Result<Channel, ConnectError> {
        let endpoint = self.endpoint()?;
        match timeout_at(deadline, endpoint.connect()).await {
            Ok(Ok(channel)) => Ok(channel),
            Ok(Err(error)) => Err(self.unreachable(explain(&error))),
            Err(_) => Err(self.unreachable(
                "no answer in time; check host, port and firewalls, or allow more time".to_owned(),
            )),
        }
    }

    fn endpoint(&self) -> Result<Endpoint, ConnectError> {
        let url = Url::parse(&self.endpoint).ok();
        if !url.is_some_and(|url| url.scheme() == "https" && url.has_host()) {
            return Err(ConnectError::Endpoint(self.endpoint.clone()));
        }
        let ca = certificates("CA certificate", &self.ca)?;
        // Tonic would skip what it cannot use and then trust nobody.
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(&ca) {
            let usable = certificate.is_ok_and(|certificate| roots.add(certificate).is_ok());
            if !usable {
                return Err(not_pem("CA certificate", &self.ca));
            }
        }
        let cert = certificates("client certificate", &self.cert)?;
        let key = Zeroizing::new(read("private key", &self.key)?);
        PrivateKeyDer::from_pem_slice(&key).map_err(|_| not_pem("private key", &self.key))?;

        let tls = ClientTlsConfig::new()
            .ca_certificate(Certificate::from_pem(ca))
            .identity(Identity::from_pem(cert, &*key));
        Endpoint::from_shared(self.endpoint.clone())
            .map_err(|_| ConnectError::Endpoint(self.endpoint.clone()))?
            .tls_config(tls)
            .map_err(|error| ConnectError::Mismatch {
                cert: self.cert.clone(),
                key: self.key.clone(),
                why: innermost(&error).to_string(),
            })
    }

    fn unreachable(&self, why: String) -> ConnectError {
        ConnectError::Unreachable {
            endpoint: self.endpoint.clone(),
            why,
        }
    }
}

/// A request that tells the broker how long its answer is waited for.
pub fn request<T>(message: T, deadline: Instant) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(deadline.saturating_duration_since(Instant::now()));
    request
}

/// What a broker answers instead of a result, or what kept its answer away.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The reason of `google.rpc.ErrorInfo`, or else the name of the gRPC code.
    pub reason: String,
    /// What the caller can do about it.
    pub message: String,
    /// When trying again can help, if it can.
    pub retry_in: Option<Duration>,
}

impl From<&Status> for Refusal {
    fn from(status: &Status) -> Self {
        // Tonic's client reports its own deadline as a cancelled call.
        let gave_up = status
            .source()
            .is_some_and(|error| causes(error).any(<dyn Error>::is::<TimeoutExpired>));
        if gave_up || status.code() == Code::DeadlineExceeded {
            return Self::without_retry("DEADLINE_EXCEEDED", "the broker did not answer in time");
        }
        // Only a failure on this side has a source: an answer comes without.
        if let Some(error) = status.source() {
            return Self::without_retry("UNAVAILABLE", &explain_break(error));
        }
        let details = status.get_error_details();
        let reason = details.error_info().map(|info| info.reason.as_str());
        Self {
            reason: reason.unwrap_or(code_name(status.code())).to_owned(),
            message: status.message().to_owned(),
            retry_in: details.retry_info().and_then(|info| info.retry_delay),
        }
    }
}

impl Refusal {
    fn without_retry(reason: &str, message: &str) -> Self {
        Self {
            reason: reason.to_owned(),
            message: message.to_owned(),
            retry_in: None,
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.reason, self.message)?;
        if let Some(delay) = self.retry_in {
            // Rounded up, so that the next try does not come too early.
            let seconds = delay.as_millis().div_ceil(1000);
            write!(f, " (retry in {seconds}s)")?;
        }
        Ok(())
    }
}

fn read(what: &'static str, path: &Path) -> Result<Vec<u8>, ConnectError> {
    fs::read(path).map_err(|source| ConnectError::Unreadable {
        what,
        path: path.to_owned(),
        source,
    })
}

fn certificates(what: &'static str, path: &Path) -> Result<Vec<u8>, ConnectError> {
    let pem = read(what, path)?;
    let mut found = CertificateDer::pem_slice_iter(&pem).peekable();
    let usable = found.peek().is_some() && found.all(|certificate| certificate.is_ok());
    usable.then_some(pem).ok_or_else(|| not_pem(what, path))
}

fn not_pem(what: &'static str, path: &Path) -> ConnectError {
    ConnectError::NotPem {
        what,
        path: path.to_owned(),
    }
}

/// The sentence for whatever kept a connection from being made.
fn explain(error: &(dyn Error + 'static)) -> String {
    for cause in causes(error) {
        if let Some(tls) = tls_error(cause) {
            return explain_tls(tls);
        }
        let kind = cause.downcast_ref::<io::Error>().map(io::Error::kind);
        if kind == Some(io::ErrorKind::ConnectionRefused) {
            return "nothing listens there; is the broker running?".to_owned();
        }
    }
    innermost(error).to_string()
}

/// The sentence for whatever broke a connection that was made. In TLS 1.3 a server
/// judges the client's certificate only then.
fn explain_break(error: &(dyn Error + 'static)) -> String {
    // The HTTP/2 library keeps only the text of what broke its connection.
    let text = innermost(error).to_string();
    if let Some(alert) = text.trim().strip_prefix("received fatal alert: ") {
        return format!("the broker did not accept the client certificate ({alert})");
    }
    format!(
        "the connection broke off ({}); a broker that does not accept the client certificate may do that",
        text.trim()
    )
}

fn explain_tls(error: &rustls::Error) -> String {
    match error {
        rustls::Error::InvalidCertificate(
            // The signature is bad when another authority of the same name issued it.
            CertificateError::UnknownIssuer | CertificateError::BadSignature,
        ) => "the broker's certificate was not issued by the given CA".to_owned(),
        rustls::Error::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        ) => "the broker's certificate is for another host than the endpoint's".to_owned(),
        rustls::Error::InvalidCertificate(
            CertificateError::Expired | CertificateError::ExpiredContext { .. },
        ) => "the broker's certificate has expired".to_owned(),
        rustls::Error::AlertReceived(alert) => {
            format!("the broker did not accept the client certificate ({alert:?})")
        }
        rustls::Error::NoApplicationProtocol => "what listens there speaks no gRPC".to_owned(),
        other => format!("TLS failed: {other}"),
    }
}

fn tls_error<'a>(cause: &'a (dyn Error + 'static)) -> Option<&'a rustls::Error> {
    // An `io::Error` hides what it wraps from `source`.
    let inside = cause
        .downcast_ref::<io::Error>()
        .and_then(io::Error::get_ref);
    cause
        .downcast_ref()
        .or_else(|| inside.and_then(|inside| inside.downcast_ref()))
}

fn causes<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |&error| error.source())
}

fn innermost<'a>(error: &'a (dyn Error + 'static)) -> &'a (dyn Error + 'static) {
    causes(error).last().unwrap_or(error)
}

/// The name that the gRPC specification gives a code.
fn code_name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}
