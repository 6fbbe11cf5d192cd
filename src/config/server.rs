//! `[server]`: where and how callers are answered.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

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
