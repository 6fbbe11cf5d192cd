//! The port on which callers are answered: connections, their TLS, and who is at their
//! other end. A hostile network must not be able to tire it.

mod activity;
mod answering;
mod certificate;
mod connection;
mod crowd;
mod handshake;
mod http1;
mod http2;
mod meter;
mod nameless;
mod pace;
mod streams;
mod talk;
mod terms;
mod tls;

use std::sync::Arc;

use tokio::{sync::watch, time::timeout};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::warn;

pub use self::{
    answering::Doors,
    terms::Terms,
    tls::{Expiry, Tls, TlsError},
};
use self::{connection::Lobby, crowd::Crowd, nameless::Nameless};
use crate::{admission::Admission, metrics::Metrics, port::Port};

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
    /// New connections are made on the newest `terms`, and open ones whose client they no
    /// longer believe are cut.
    pub async fn serve(
        self,
        doors: Doors,
        terms: watch::Receiver<Arc<Terms>>,
        admission: Arc<Admission>,
        metrics: Arc<Metrics>,
        stop: CancellationToken,
    ) {
        let lobby = Arc::new(Lobby {
            crowd: Crowd::new(),
            nameless: Nameless::new(),
            doors,
            terms,
            admission,
            metrics,
            stop: stop.clone(),
        });
        let connections = TaskTracker::new();
        let cut = CancellationToken::new();
        while let Some(stream) = stop.run_until_cancelled(self.port.next()).await {
            // Whoever finds no place is told so at once, by a closed connection.
            if connections.len() >= lobby.terms.borrow().limits.count {
                lobby.metrics.connection("over_capacity");
                continue;
            }
            let (lobby, cut) = (Arc::clone(&lobby), cut.clone());
            connections.spawn(async move {
                // Boxed, since what can be cancelled takes its place twice.
                let connection = Box::pin(lobby.receive(stream));
                if cut.run_until_cancelled(connection).await.is_none() {
                    lobby.metrics.closed("drain_deadline");
                }
            });
        }
        drop(self.port);
        connections.close();
        let drain = lobby.terms.borrow().limits.drain;
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
