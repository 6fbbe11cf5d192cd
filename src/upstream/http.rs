//! The hardened HTTP client. No other file names reqwest.

use std::{
    error::Error,
    io,
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use http::{
    HeaderMap, HeaderValue,
    header::{ACCEPT, ACCEPT_ENCODING, AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE, RETRY_AFTER},
};
use reqwest::{
    Client, Response,
    dns::{Addrs, Name, Resolve, Resolving},
    redirect,
};
use url::Position;
use zeroize::Zeroizing;

use super::{
    AddressRule, Broken, Endpoint, FetchError, SetupError, address::Unreachable, retry_after, trust,
};
use crate::{
    telemetry::Span,
    trace_context::{TRACEPARENT, TRACESTATE},
};

/// The longest body that is read, in bytes. A token answer has about two kilobytes.
const MAX_BODY: usize = 64 * 1024;

const USER_AGENT: &str = concat!("token-broker/", env!("CARGO_PKG_VERSION"));

/// How token endpoints are reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpSettings {
    /// Whether a loopback endpoint may be asked without TLS.
    pub plain_http: bool,
    /// Which addresses may be connected to.
    pub addresses: AddressRule,
    /// Certificate authorities in PEM, which replace those that browsers trust.
    pub ca_pem: Option<Vec<u8>>,
    /// The longest wait for a connection, the TLS handshake included.
    pub connect_timeout: Duration,
    /// The longest wait for a whole answer, the connection included.
    pub total_timeout: Duration,
    /// Whether the endpoint is told which trace its call belongs to, where there is one.
    pub trace_context: bool,
}

impl Default for HttpSettings {
    /// TLS to public addresses only; 3 seconds to connect, 5 seconds in all.
    fn default() -> Self {
        Self {
            plain_http: false,
            addresses: AddressRule::default(),
            ca_pem: None,
            connect_timeout: Duration::from_secs(3),
            total_timeout: Duration::from_secs(5),
            trace_context: false,
        }
    }
}

/// Sends requests to token endpoints; a clone shares everything with its original.
///
/// It follows no redirect, heeds no proxy of the environment, sends nothing twice,
/// decompresses nothing, and keeps no connection.
#[derive(Clone, Debug)]
pub struct HttpClient {
    client: Client,
    plain_http: bool,
    addresses: AddressRule,
    trace_context: bool,
}

/// An endpoint that may be asked, and the client to ask it with.
#[derive(Clone, Debug)]
pub(super) struct Target {
    client: Client,
    endpoint: Endpoint,
    trace_context: bool,
}

/// One POST.
pub(super) struct Request {
    /// The media type of the body.
    pub content_type: &'static str,
    /// An `Authorization` header that is marked as sensitive.
    pub authorization: Option<HeaderValue>,
    /// The body; it may hold a secret, so its memory is wiped after sending.
    pub body: Zeroizing<Vec<u8>>,
}

/// The head of an answer, whose body is still to be read.
pub(super) struct Reply {
    /// The HTTP status.
    pub status: u16,
    /// How long the endpoint asks to be left alone.
    pub retry_after: Option<Duration>,
    response: Response,
}

impl HttpClient {
    /// Sets up the client.
    ///
    /// # Errors
    /// [`SetupError::UnreadableRoots`] for authorities that are no PEM certificates.
    pub fn new(settings: &HttpSettings) -> Result<Self, SetupError> {
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        let client = Client::builder()
            .tls_backend_preconfigured(trust::client_config(settings.ca_pem.as_deref())?)
            .dns_resolver(PermittedAddresses(settings.addresses))
            .https_only(!settings.plain_http)
            .http1_only()
            // A redirect, a proxy or a second try would show the secret to somebody else, or twice.
            .redirect(redirect::Policy::none())
            .no_proxy()
            .retry(reqwest::retry::never())
            // Requests are many minutes apart. A kept connection would mostly be a dead one,
            // and its address would not be judged again.
            .pool_max_idle_per_host(0)
            .connect_timeout(settings.connect_timeout)
            .timeout(settings.total_timeout)
            .user_agent(USER_AGENT)
            .default_headers(headers)
            .build()
            .map_err(|_| SetupError::Client)?;
        Ok(Self {
            client,
            plain_http: settings.plain_http,
            addresses: settings.addresses,
            trace_context: settings.trace_context,
        })
    }

    /// Judges an endpoint. Names are judged again, by address, at every connection.
    pub(super) fn target(&self, endpoint: Endpoint) -> Result<Target, SetupError> {
        if endpoint.is_plain() && !(self.plain_http && endpoint.is_loopback()) {
            return Err(SetupError::PlainHttp);
        }
        // The connector asks no resolver about a literal address, so this is the only place.
        if endpoint
            .literal_address()
            .is_some_and(|address| !self.addresses.permits(address))
        {
            return Err(SetupError::Address);
        }
        Ok(Target {
            client: self.client.clone(),
            endpoint,
            trace_context: self.trace_context,
        })
    }
}

impl Target {
    /// The endpoint with these segments below it, which is as permitted as it is.
    pub(super) fn below(&self, segments: &[&str]) -> Self {
        Self {
            endpoint: self.endpoint.join(segments),
            ..self.clone()
        }
    }

    /// The endpoint that is asked.
    pub(super) fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// The span of one request, as a part of a flight.
    pub(super) fn span(&self, flight: &Span) -> Span {
        let span = flight.outgoing("POST");
        let url = self.endpoint.url();
        span.text("http.request.method", "POST");
        span.text("server.address", url.host_str().unwrap_or_default());
        span.number(
            "server.port",
            url.port_or_known_default().unwrap_or_default(),
        );
        // Without its query, which the tokens of an endpoint are not told apart by.
        span.text("url.full", &url[..Position::AfterPath]);
        span
    }

    /// Sends one request, once, and waits for the head of its answer.
    pub(super) async fn post(&self, request: Request, span: &Span) -> Result<Reply, FetchError> {
        let mut builder = self
            .client
            .post(self.endpoint.url().clone())
            .header(CONTENT_TYPE, request.content_type)
            .body(Bytes::from_owner(request.body));
        if let Some(authorization) = request.authorization {
            builder = builder.header(AUTHORIZATION, authorization);
        }
        if self.trace_context
            && let Some((parent, state)) = span.passed_on()
        {
            builder = builder.header(TRACEPARENT, parent);
            if let Some(state) = state {
                builder = builder.header(TRACESTATE, state);
            }
        }
        let response = builder.send().await.map_err(|error| transport(&error))?;
        span.number("http.response.status_code", response.status().as_u16());
        Ok(Reply {
            status: response.status().as_u16(),
            retry_after: response
                .headers()
                .get(RETRY_AFTER)
                .and_then(|value| value.to_str().ok())
                .and_then(|text| retry_after::parse(text, SystemTime::now())),
            response,
        })
    }
}

impl Reply {
    /// Reads the body, which must be whole, uncompressed and at most 64 KiB long.
    pub(super) async fn body(mut self) -> Result<Zeroizing<Vec<u8>>, FetchError> {
        const TOO_LONG: FetchError = FetchError::Malformed("it is longer than 64 KiB");
        if self
            .response
            .headers()
            .get_all(CONTENT_ENCODING)
            .iter()
            .any(|value| !value.as_bytes().eq_ignore_ascii_case(b"identity"))
        {
            return Err(FetchError::Malformed("it is compressed"));
        }
        let announced = self.response.content_length().unwrap_or(0);
        if announced > MAX_BODY as u64 {
            return Err(TOO_LONG);
        }
        let room = usize::try_from(announced).unwrap_or(0);
        let mut body = Zeroizing::new(Vec::with_capacity(room));
        while let Some(chunk) = self
            .response
            .chunk()
            .await
            .map_err(|error| transport(&error))?
        {
            if body.len() + chunk.len() > MAX_BODY {
                return Err(TOO_LONG);
            }
            append(&mut body, &chunk);
        }
        Ok(body)
    }
}

/// Adds a part to a body. A vector that grows by itself leaves copies of the token behind.
fn append(body: &mut Zeroizing<Vec<u8>>, chunk: &[u8]) {
    let length = body.len() + chunk.len();
    if length > body.capacity() {
        let mut larger = Zeroizing::new(Vec::with_capacity(length.next_power_of_two()));
        larger.extend_from_slice(body);
        *body = larger;
    }
    body.extend_from_slice(chunk);
}

/// Resolves names to permitted addresses only. What it judged is what is connected to,
/// so DNS cannot change its answer in between.
struct PermittedAddresses(AddressRule);

impl Resolve for PermittedAddresses {
    fn resolve(&self, name: Name) -> Resolving {
        let rule = self.0;
        Box::pin(async move {
            let addresses = rule.resolve(name.as_str()).await?;
            Ok(Box::new(addresses.into_iter()) as Addrs)
        })
    }
}

/// Says what broke in a fixed sentence: reqwest's own words hold the URL.
fn transport(error: &reqwest::Error) -> FetchError {
    if error.is_timeout() {
        return FetchError::TimedOut;
    }
    if let Some(unreachable) = cause::<Unreachable>(error) {
        return FetchError::Transport(match unreachable {
            Unreachable::NoAddress => Broken::NoAddress,
            Unreachable::Refused => Broken::AddressRefused,
        });
    }
    FetchError::Transport(match cause::<rustls::Error>(error) {
        Some(rustls::Error::InvalidCertificate(_)) => Broken::Untrusted,
        Some(_) => Broken::Handshake,
        None if error.is_connect() => Broken::NoConnection,
        None => Broken::Off,
    })
}

/// The innermost reason of a type, if there is one.
fn cause<'a, T: Error + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a T> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        // An `io::Error` does not name the error it wraps as its source, but that one's source.
        let wrapped = error
            .downcast_ref::<io::Error>()
            .and_then(io::Error::get_ref);
        next = match wrapped {
            Some(wrapped) => Some(wrapped),
            None => error.source(),
        };
    }
    None
}
