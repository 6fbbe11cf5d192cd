//! The port on which callers are answered: connections, their TLS, and who is at their
//! other end.

mod certificate;
mod connection;
mod meter;
mod tls;

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{sleep, timeout},
};
use tokio_rustls::TlsAcceptor;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic::service::Routes;
use tracing::{debug, warn};

use self::connection::Connection;
pub use self::tls::{TlsError, server_config};
use crate::metrics::Metrics;

/// How long accepting rests after it failed, so that running out of descriptors does not
/// spin.
const ACCEPT_REST: Duration = Duration::from_millis(100);

/// How much the listener takes on.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// How many connections may be open at once.
    pub connections: usize,
    /// How long a peer may take for its TLS handshake.
    pub handshake: Duration,
    /// How long calls under way may take to end when the broker stops.
    pub drain: Duration,
}

/// A bound port.
pub struct Listener {
    socket: TcpListener,
    acceptor: TlsAcceptor,
    limits: Limits,
    metrics: Arc<Metrics>,
}

impl Listener {
    /// Binds the port. Nobody is answered before [`Listener::serve`].
    ///
    /// # Errors
    /// The system's, for example when the port is taken.
    pub async fn bind(
        address: SocketAddr,
        tls: Arc<rustls::ServerConfig>,
        limits: Limits,
        metrics: Arc<Metrics>,
    ) -> io::Result<Self> {
        Ok(Self {
            socket: TcpListener::bind(address).await?,
            acceptor: TlsAcceptor::from(tls),
            limits,
            metrics,
        })
    }

    /// The bound address, with the port that was found for port 0.
    ///
    /// # Errors
    /// The system's.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// Answers callers until `stop` is cancelled; then takes no more connections, lets the
    /// calls under way end, and cuts what is left after the drain deadline.
    pub async fn serve(self, routes: Routes, stop: CancellationToken) {
        let places = Arc::new(Semaphore::new(self.limits.connections));
        let connections = TaskTracker::new();
        let cut = CancellationToken::new();
        // A place first, then a peer: over the limit peers wait in the kernel's queue.
        while let Some((stream, place)) = self.next(&places, &stop).await {
            let connection = Connection {
                acceptor: self.acceptor.clone(),
                routes: routes.clone(),
                handshake_timeout: self.limits.handshake,
                metrics: Arc::clone(&self.metrics),
                stop: stop.clone(),
            };
            let cut = cut.clone();
            connections.spawn(async move {
                cut.run_until_cancelled(connection.serve(stream)).await;
                drop(place);
            });
        }
        drop(self.socket);
        connections.close();
        if timeout(self.limits.drain, connections.wait())
            .await
            .is_err()
        {
            warn!(
                connections = connections.len(),
                "cutting what did not end in time"
            );
            cut.cancel();
            connections.wait().await;
        }
    }

    /// The next peer, or nothing once the listener is to stop.
    async fn next(
        &self,
        places: &Arc<Semaphore>,
        stop: &CancellationToken,
    ) -> Option<(TcpStream, OwnedSemaphorePermit)> {
        let next = async {
            let place = Arc::clone(places).acquire_owned().await.ok()?;
            loop {
                match self.socket.accept().await {
                    Ok((stream, peer)) => {
                        debug!(%peer, "accepted");
                        return Some((stream, place));
                    }
                    Err(error) => {
                        warn!(%error, "cannot accept connections at the moment");
                        sleep(ACCEPT_REST).await;
                    }
                }
            }
        };
        stop.run_until_cancelled(next).await?
    }
}
