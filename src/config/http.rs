//! `[http]`: health, metrics and the status page.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use super::{reader::Section, values};

/// The plain HTTP port for health, metrics and the status page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Http {
    /// The address to listen on.
    pub listen: SocketAddr,
    /// Whether the status page is at `/`.
    pub status_page: bool,
}

const DEFAULT_LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9464);

impl Http {
    pub(super) fn read(section: Section<'_>, server: Option<SocketAddr>) -> Option<Self> {
        let enabled = section.or("enabled", true, values::boolean);
        let listen = section.or("listen", DEFAULT_LISTEN, values::address);
        if enabled && server == Some(listen) && listen.port() != 0 {
            section.report(
                "listen",
                "is also the address of [server]: write another port",
            );
        }
        // It names callers, who are nobody's business on the network of a pod.
        let on_loopback = listen.ip().to_canonical().is_loopback();
        let status_page = section.or("status_page", on_loopback, values::boolean);
        section.finish();
        enabled.then_some(Self {
            listen,
            status_page,
        })
    }
}
