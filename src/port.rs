//! A port, and the peers that connect to it, come what may.

use std::{io, net::SocketAddr, time::Duration};

use tokio::{
    net::{TcpListener, TcpSocket, TcpStream},
    time::sleep,
};
use tracing::{info, warn};

/// How many connections the system completes before they are accepted; it may allow fewer
/// (`net.core.somaxconn`). Peers beyond are not refused but left in the dark: they believe
/// that they are connected, and nobody knows of them.
const BACKLOG: u32 = 4096;
/// How long accepting rests after it failed, so that running out of descriptors does not
/// spin.
const REST: Duration = Duration::from_millis(100);

/// A bound port.
pub struct Port {
    socket: TcpListener,
}

impl Port {
    /// Binds the port.
    ///
    /// # Errors
    /// The system's, for example when the port is taken.
    pub fn bind(address: SocketAddr) -> io::Result<Self> {
        let socket = match address {
            SocketAddr::V4(_) => TcpSocket::new_v4(),
            SocketAddr::V6(_) => TcpSocket::new_v6(),
        }?;
        // A successor need not wait for the last connections of its predecessor to be forgotten.
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        let socket = socket.listen(BACKLOG)?;
        Ok(Self { socket })
    }

    /// The bound address, with the port that was found for port 0.
    ///
    /// # Errors
    /// The system's.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// The next peer.
    pub async fn next(&self) -> TcpStream {
        let mut failed = false;
        loop {
            match self.socket.accept().await {
                Ok((stream, _)) => {
                    if failed {
                        info!("accepting connections again");
                    }
                    return stream;
                }
                Err(error) => {
                    if !failed {
                        warn!(%error, "cannot accept connections at the moment");
                    }
                    failed = true;
                    sleep(REST).await;
                }
            }
        }
    }
}
