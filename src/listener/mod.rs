//! The port on which callers are answered: connections, their TLS, and who is at their
//! other end. A hostile network must not be able to tire it.

mod activity;
mod answering;
mod certificate;
mod connection;
mod crowd;
mod handshake;
mod meter;
mod tls;

use std::sync::Arc;

use tokio::{
    sync::{Semaphore, watch},
    time::timeout,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic::service::Routes;
use tracing::warn;

pub use self::tls::{Expiry, Tls, TlsError};
use self::{connection::Lobby, crowd::Crowd};
use crate::{admission::Admission, config::ConnectionLimits, metrics::Metrics, port::Port};

/// A bound port for callers.
pub struct Listener {
    port: Port,
}

impl Listener {
    /// Answers callers who come to this port. Nobody is before [`Listener::serve`].
    pub fn new(port: Port) -> Self {
        Self { port }
    }

    /// Answers callers until `stop` is cancelled; then takes no more connections, lets the
    /// calls under way end, and cuts what is left after the drain deadline.
    ///
    /// New connections are made with the newest `tls`, and open ones whose client it no
    /// longer believes are cut.
    pub async fn serve(
        self,
        routes: Routes,
        tls: watch::Receiver<Arc<Tls>>,
        admission: Arc<Admission>,
        limits: ConnectionLimits,
        metrics: Arc<Metrics>,
        stop: CancellationToken,
    ) {
        let places = Arc::new(Semaphore::new(limits.count));
        let drain = limits.drain;
        let lobby = Arc::new(Lobby {
            crowd: Crowd::new(limits.count),
            routes,
            tls,
            admission,
            limits,
            metrics,
            stop: stop.clone(),
        });
        let connections = TaskTracker::new();
        let cut = CancellationToken::new();
        while let Some(stream) = stop.run_until_cancelled(self.port.next()).await {
            // Whoever finds no place is told so at once, by a closed connection.
            let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
                lobby.metrics.connection("over_capacity");
                continue;
            };
            let (lobby, cut) = (Arc::clone(&lobby), cut.clone());
            connections.spawn(async move {
                if cut
                    .run_until_cancelled(lobby.receive(stream))
                    .await
                    .is_none()
                {
                    lobby.metrics.closed("drain_deadline");
                }
                drop(place);
            });
        }
        drop(self.port);
        connections.close();
        if timeout(drain, connections.wait()).await.is_err() {
            warn!(
                connections = connections.len(),
                "cutting what did not end in time"
            );
            cut.cancel();
            connections.wait().await;
        }
    }
}
