//! `[http]`: health and metrics.

use std::net::SocketAddr;

/// The plain HTTP port for health and metrics.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Http {
    /// The address to listen on.
    pub listen: SocketAddr,
}
