//! How a client reaches a broker: mutual TLS from four settings, errors that say what to
//! do, and a token that is kept at hand.

use std::{
    env,
    path::{Path, PathBuf},
    time::Duration,
};

use rustls::RootCertStore;
use tokio::time::{Instant, timeout_at};
use tonic::{
    Request,
    transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity},
};
use url::Url;

mod bearer;
mod explain;
mod refusal;
mod tokens;
mod watching;
mod wire;

use self::explain::{explain, innermost};
pub use self::{
    bearer::{BearerToken, Incomplete},
    refusal::Refusal,
    tokens::Tokens,
    watching::{News, Watching},
};
use crate::{
    pem_file::{self, PemError},
    small_file::FileError,
};

/// A connection that carries nothing is asked so often whether the broker is still there,
/// and has so long for the answer. Otherwise a watch could outlive its broker unnoticed.
const KEEP_ALIVE: Duration = Duration::from_secs(20);

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

/// A variable that says how to connect is not set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the variable {0} is not set; `token-broker dev` writes a file that sets it")]
pub struct Unset(pub &'static str);

/// Why no connection could be prepared or made. Every message says what to change.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The endpoint is not one that the broker can have.
    #[error("the endpoint `{0}` is not an https URL such as https://broker.example:8443")]
    Endpoint(String),
    /// A file cannot be read.
    #[error("cannot read the {what} {}: it {source}", .path.display())]
    Unreadable {
        /// What the file should hold.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        source: FileError,
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
    /// The settings in the variables that the client commands read, too:
    /// `TOKEN_BROKER_ENDPOINT`, `TOKEN_BROKER_CA`, `TOKEN_BROKER_CERT` and
    /// `TOKEN_BROKER_KEY`.
    ///
    /// # Errors
    /// [`Unset`] names the first that is missing.
    pub fn from_environment() -> Result<Self, Unset> {
        let path = |name| env::var_os(name).map(PathBuf::from).ok_or(Unset(name));
        Ok(Self {
            endpoint: env::var("TOKEN_BROKER_ENDPOINT")
                .map_err(|_| Unset("TOKEN_BROKER_ENDPOINT"))?,
            ca: path("TOKEN_BROKER_CA")?,
            cert: path("TOKEN_BROKER_CERT")?,
            key: path("TOKEN_BROKER_KEY")?,
        })
    }

    /// Reads everything that a connection takes, and makes none.
    ///
    /// # Errors
    /// [`ConnectError`], but never [`ConnectError::Unreachable`].
    pub fn check(&self) -> Result<(), ConnectError> {
        self.endpoint().map(|_| ())
    }

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
        let what = "CA certificate";
        let ca = pem_file::certificates(&self.ca).map_err(named(what, &self.ca))?;
        // Tonic would skip what it cannot use and then trust nobody.
        let mut roots = RootCertStore::empty();
        for certificate in ca.content {
            if roots.add(certificate).is_err() {
                return Err(named(what, &self.ca)(PemError::NoCertificates));
            }
        }
        let cert =
            pem_file::certificates(&self.cert).map_err(named("client certificate", &self.cert))?;
        let key = pem_file::private_key(&self.key).map_err(named("private key", &self.key))?;

        let tls = ClientTlsConfig::new()
            .ca_certificate(Certificate::from_pem(&*ca.bytes))
            .identity(Identity::from_pem(&*cert.bytes, &*key.bytes));
        Endpoint::from_shared(self.endpoint.clone())
            .map_err(|_| ConnectError::Endpoint(self.endpoint.clone()))?
            .http2_keep_alive_interval(KEEP_ALIVE)
            .keep_alive_timeout(KEEP_ALIVE)
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

/// Says what the file should hold.
fn named(what: &'static str, path: &Path) -> impl FnOnce(PemError) -> ConnectError {
    move |error| match error {
        PemError::File(source) => ConnectError::Unreadable {
            what,
            path: path.to_owned(),
            source,
        },
        _ => ConnectError::NotPem {
            what,
            path: path.to_owned(),
        },
    }
}
