//! The plain HTTP port: health for probes and metrics for a scraper. It serves nothing
//! that is secret, and no tokens.

use std::{io, net::SocketAddr, sync::Arc};

use axum::{
    Router,
    extract::State,
    http::{StatusCode, header::CONTENT_TYPE},
    response::IntoResponse,
    routing,
};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::{broker::Broker, metrics::Metrics};

/// The media type of the exposition (`OpenMetrics` 1.0, "Overall Structure").
const EXPOSITION: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// A bound plain HTTP port.
pub struct PlainHttp {
    socket: TcpListener,
    routes: Router,
}

/// What the routes look at.
#[derive(Clone)]
struct House {
    broker: Arc<Broker>,
    metrics: Arc<Metrics>,
    stopping: CancellationToken,
}

impl PlainHttp {
    /// Binds the port. `stopping` makes the broker unready.
    ///
    /// # Errors
    /// The system's, for example when the port is taken.
    pub async fn bind(
        address: SocketAddr,
        broker: Arc<Broker>,
        metrics: Arc<Metrics>,
        stopping: CancellationToken,
    ) -> io::Result<Self> {
        let routes = Router::new()
            .route("/healthz", routing::get(|| async { "ok\n" }))
            .route("/readyz", routing::get(readiness))
            .route("/metrics", routing::get(exposition))
            .with_state(House {
                broker,
                metrics,
                stopping,
            });
        Ok(Self {
            socket: TcpListener::bind(address).await?,
            routes,
        })
    }

    /// The bound address, with the port that was found for port 0.
    ///
    /// # Errors
    /// The system's.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// Answers until `stop` is cancelled.
    ///
    /// # Errors
    /// Those of the socket.
    pub async fn serve(self, stop: CancellationToken) -> io::Result<()> {
        axum::serve(self.socket, self.routes)
            .with_graceful_shutdown(stop.cancelled_owned())
            .await
    }
}

async fn readiness(State(house): State<House>) -> (StatusCode, &'static str) {
    if house.stopping.is_cancelled() {
        (StatusCode::SERVICE_UNAVAILABLE, "not ready: stopping\n")
    } else if house.broker.is_ready() {
        (StatusCode::OK, "ready\n")
    } else {
        (
            StatusCode::SERVICE_UNAVAILABLE,
            "not ready: minting has only just begun, or fails for every destination\n",
        )
    }
}

async fn exposition(State(house): State<House>) -> impl IntoResponse {
    match house.metrics.exposition() {
        Ok(text) => ([(CONTENT_TYPE, EXPOSITION)], text).into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}
