//! One connection, from its handshake to its end.

use std::{pin::pin, sync::Arc, time::Duration};

use http::Request;
use hyper::{body::Incoming, server::conn::http2, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::{net::TcpStream, time::timeout};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use tower::Service as _;
use tracing::debug;

use super::{
    certificate,
    meter::{Flood, Metered},
};
use crate::{
    identity::{CallerId, IdentityError, Peer},
    metrics::Metrics,
};

/// How many calls one connection may have under way. Clients assume 100 until they have
/// read the limit (RFC 9113 §6.5.2), so with less the first burst of calls would be refused.
const MAX_STREAMS: u32 = 100;
/// What the headers of one call may take, in bytes.
const MAX_HEADERS: u32 = 8 * 1024;
/// A peer that does not answer pings for this long is gone.
const KEEP_ALIVE: Duration = Duration::from_secs(20);

/// What a connection is served with.
pub(super) struct Connection {
    pub(super) acceptor: TlsAcceptor,
    pub(super) routes: Routes,
    pub(super) handshake_timeout: Duration,
    pub(super) metrics: Arc<Metrics>,
    pub(super) stop: CancellationToken,
}

impl Connection {
    /// Serves the connection until its end, or gracefully ends it once `stop` is cancelled.
    pub(super) async fn serve(self, stream: TcpStream) {
        // Replies are small and complete: waiting for more to send only adds latency.
        let _ = stream.set_nodelay(true);
        let handshake = timeout(self.handshake_timeout, self.acceptor.accept(stream)).await;
        let stream = match handshake {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => {
                self.metrics.connection("handshake_failed");
                debug!(%error, "the handshake failed");
                return;
            }
            Err(_) => {
                self.metrics.connection("handshake_timed_out");
                return;
            }
        };
        self.metrics.connection("ok");
        let _open = self.metrics.open_connection();
        self.answer(stream).await;
    }

    async fn answer(self, stream: TlsStream<TcpStream>) {
        let peer = Peer(identify(&stream));
        let (stream, verdict) = Metered::new(stream);
        let routes = self.routes;
        let service = service_fn(move |mut request: Request<Incoming>| {
            // Whatever the request claims, this is the one identity it gets.
            request.extensions_mut().insert(peer.clone());
            let mut routes = routes.clone();
            routes.call(request)
        });
        let connection = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .max_concurrent_streams(MAX_STREAMS)
            .max_header_list_size(MAX_HEADERS)
            .keep_alive_interval(KEEP_ALIVE)
            .keep_alive_timeout(KEEP_ALIVE)
            .serve_connection(TokioIo::new(stream), service);
        let mut connection = pin!(connection);
        let ended = tokio::select! {
            ended = connection.as_mut() => ended,
            () = self.stop.cancelled() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = ended {
            let flood = verdict.flood().map(Flood::label);
            debug!(%error, flood, "the connection broke");
        }
    }
}

fn identify(stream: &TlsStream<TcpStream>) -> Result<CallerId, IdentityError> {
    let (_, session) = stream.get_ref();
    let leaf = session
        .peer_certificates()
        .and_then(|chain| chain.first())
        .ok_or(IdentityError::Nameless)?;
    certificate::caller(leaf)
}
