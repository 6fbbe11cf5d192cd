//! `[server]`: where and how callers are answered.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    num::NonZeroU32,
    ops::RangeInclusive,
    path::PathBuf,
    time::Duration,
};

use toml::de::DeValue;

use super::{folder::Folder, reader::Section, suggestion::quoted, values};
use crate::{admission::Shares, identity::is_trust_domain};

/// The port on which callers are answered, over mutual TLS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// The address to listen on.
    pub listen: SocketAddr,
    /// How both sides prove themselves.
    pub tls: TlsFiles,
    /// What a connection may take.
    pub connections: ConnectionLimits,
    /// What a caller may take.
    pub shares: Shares,
}

/// The files that decide about both sides of a connection, all of them PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// The server's certificate chain.
    pub cert: PathBuf,
    /// Its private key.
    pub key: PathBuf,
    /// The authorities of clients.
    pub client_ca: PathBuf,
    /// Revocation lists of those authorities and their intermediates. If there are any,
    /// a client is believed only where a list of each issuer in its chain clears it.
    pub crl: Vec<PathBuf>,
    /// Whether a list past its next update, or none for some issuer, is good enough.
    pub crl_lenient: bool,
    /// The oldest version of TLS that is spoken.
    pub min_version: TlsVersion,
}

/// A version of TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsVersion {
    /// TLS 1.2 (RFC 5246), for clients that know nothing newer.
    Tls12,
    /// TLS 1.3 (RFC 8446).
    Tls13,
}

/// How many connections there may be, and how long each of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectionLimits {
    /// How many connections may be open at once.
    pub count: usize,
    /// How long a peer may take for its TLS handshake.
    pub handshake: Duration,
    /// How long a peer may take from there to its first request; and in HTTP/1.1 from the
    /// first byte of any request to the end of its headers.
    pub first_request: Duration,
    /// How long a connection may be without a request.
    pub idle: Duration,
    /// How old a connection may become, give or take a tenth.
    pub age: Duration,
    /// How long calls under way may take to end when their connection has come of age: as
    /// long as any call may take.
    pub last_calls: Duration,
    /// How long calls under way may take to end when the broker stops.
    pub drain: Duration,
    /// The only SPIFFE trust domains whose callers are known; all of them if empty.
    pub trust_domains: Vec<String>,
}

const DEFAULT_LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 7443);
const DEFAULT_REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
const DEFAULT_HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(3);
const DEFAULT_FIRST_REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
const DEFAULT_IDLE_TIMEOUT: Duration = Duration::from_secs(60 * 60);
const DEFAULT_MAX_CONNECTION_AGE: Duration = Duration::from_secs(2 * 60 * 60);
const DEFAULT_DRAIN_TIMEOUT: Duration = Duration::from_secs(10);
const DEFAULT_MAX_CONNECTIONS: usize = 10_000;
const DEFAULT_MAX_CONNECTIONS_PER_CALLER: usize = 2000;
const DEFAULT_MAX_CALLS: usize = 20_000;
const DEFAULT_CALLS_PER_SECOND: usize = 10_000;

const TIMEOUTS: RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(600);
const AGES: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(24 * 60 * 60);
const COUNTS: RangeInclusive<usize> = 1..=1_000_000;
const VERSIONS: [(&str, TlsVersion); 2] = [("1.2", TlsVersion::Tls12), ("1.3", TlsVersion::Tls13)];

impl Server {
    pub(super) fn read(section: Section<'_>, folder: &Folder) -> Option<Self> {
        let listen = section.or("listen", DEFAULT_LISTEN, values::address);
        let tls = TlsFiles::read(&section, folder);
        let request_timeout = section.or(
            "request_timeout",
            DEFAULT_REQUEST_TIMEOUT,
            values::duration(TIMEOUTS),
        );
        let connections = ConnectionLimits::read(&section, request_timeout);
        let shares = read_shares(&section, request_timeout);
        section.finish();
        Some(Self {
            listen,
            tls: tls?,
            connections,
            shares,
        })
    }
}

impl TlsFiles {
    fn read(section: &Section<'_>, folder: &Folder) -> Option<Self> {
        let cert = section.required("cert", "\"server.pem\"", |value| folder.certificates(value));
        let key = section.required("key", "\"server-key.pem\"", |value| {
            folder.private_key(value)
        });
        let client_ca = section.required("client_ca", "\"client-ca.pem\"", |value| {
            folder.certificates(value)
        });
        let crl = section.one_or_list("crl", |value| folder.revocation_lists(value));
        let crl_lenient = section.or("crl_lenient", false, values::boolean);
        let min_version = section.or(
            "min_tls_version",
            TlsVersion::Tls13,
            values::choice(&VERSIONS),
        );
        Some(Self {
            cert: cert?,
            key: key?,
            client_ca: client_ca?,
            crl,
            crl_lenient,
            min_version,
        })
    }
}

impl ConnectionLimits {
    fn read(section: &Section<'_>, request_timeout: Duration) -> Self {
        let timeout = |key, default| section.or(key, default, values::duration(TIMEOUTS));
        let age = |key, default| section.or(key, default, values::duration(AGES));
        Self {
            count: section.or(
                "max_connections",
                DEFAULT_MAX_CONNECTIONS,
                values::number(COUNTS),
            ),
            handshake: timeout("handshake_timeout", DEFAULT_HANDSHAKE_TIMEOUT),
            first_request: timeout("first_request_timeout", DEFAULT_FIRST_REQUEST_TIMEOUT),
            idle: age("idle_timeout", DEFAULT_IDLE_TIMEOUT),
            age: age("max_connection_age", DEFAULT_MAX_CONNECTION_AGE),
            last_calls: request_timeout,
            drain: timeout("drain_timeout", DEFAULT_DRAIN_TIMEOUT),
            trust_domains: section.one_or_list("trust_domains", trust_domain),
        }
    }
}

fn read_shares(section: &Section<'_>, longest_call: Duration) -> Shares {
    let count = |key, default| section.or(key, default, values::number(COUNTS));
    let calls_per_second = count("max_calls_per_second", DEFAULT_CALLS_PER_SECOND);
    Shares {
        connections_per_caller: count(
            "max_connections_per_caller",
            DEFAULT_MAX_CONNECTIONS_PER_CALLER,
        ),
        // Within the bounds of COUNTS, so that both conversions succeed.
        calls_per_second: u32::try_from(calls_per_second)
            .ok()
            .and_then(NonZeroU32::new)
            .unwrap_or(NonZeroU32::MIN),
        calls: count("max_calls", DEFAULT_MAX_CALLS),
        longest_call,
    }
}

fn trust_domain(value: &DeValue<'_>) -> Result<String, String> {
    let text = values::text(value)?;
    if is_trust_domain(text) {
        return Ok(text.to_owned());
    }
    Err(format!(
        "has {}, but a trust domain is lower-case, such as \"corp.example\", without spiffe://",
        quoted(text)
    ))
}
