//! `[server]`: where and how callers are answered.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    ops::RangeInclusive,
    path::PathBuf,
    time::Duration,
};

use super::{folder::Folder, reader::Section, values};

/// The port on which callers are answered, over mutual TLS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// The address to listen on.
    pub listen: SocketAddr,
    /// The server's certificate chain, a PEM file.
    pub cert: PathBuf,
    /// The private key of that certificate, a PEM file.
    pub key: PathBuf,
    /// The certificates that sign callers' certificates, a PEM file.
    pub client_ca: PathBuf,
    /// The longest deadline that a call may have.
    pub request_timeout: Duration,
    /// How long a peer may take for its TLS handshake.
    pub handshake_timeout: Duration,
    /// How long calls under way may take to end when the broker stops.
    pub drain_timeout: Duration,
    /// How many connections may be open at once.
    pub max_connections: usize,
}

const DEFAULT_LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 7443);
const DEFAULT_REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
const DEFAULT_HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(3);
const DEFAULT_DRAIN_TIMEOUT: Duration = Duration::from_secs(10);
const DEFAULT_MAX_CONNECTIONS: usize = 10_000;

const TIMEOUTS: RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(600);
const CONNECTIONS: RangeInclusive<usize> = 1..=1_000_000;

impl Server {
    pub(super) fn read(section: Section<'_>, folder: &Folder) -> Option<Self> {
        let timeout = |key, default| section.or(key, default, values::duration(TIMEOUTS));
        let listen = section.or("listen", DEFAULT_LISTEN, values::address);
        let cert = section.required("cert", "\"server.pem\"", |value| folder.certificates(value));
        let key = section.required("key", "\"server-key.pem\"", |value| {
            folder.private_key(value)
        });
        let client_ca = section.required("client_ca", "\"client-ca.pem\"", |value| {
            folder.certificates(value)
        });
        let request_timeout = timeout("request_timeout", DEFAULT_REQUEST_TIMEOUT);
        let handshake_timeout = timeout("handshake_timeout", DEFAULT_HANDSHAKE_TIMEOUT);
        let drain_timeout = timeout("drain_timeout", DEFAULT_DRAIN_TIMEOUT);
        let max_connections = section.or(
            "max_connections",
            DEFAULT_MAX_CONNECTIONS,
            values::number(CONNECTIONS),
        );
        section.finish();
        Some(Self {
            listen,
            cert: cert?,
            key: key?,
            client_ca: client_ca?,
            request_timeout,
            handshake_timeout,
            drain_timeout,
            max_connections,
        })
    }
}
