//! The plain HTTP port: health for probes, metrics for a scraper, and a status page for
//! people. It serves nothing that is secret, and no tokens.

mod page;
mod readiness;

#[cfg(test)]
mod tests;

use std::{collections::VecDeque, net::SocketAddr, sync::Arc, time::Duration};

use axum::{
    Router,
    extract::State,
    http::{
        HeaderMap, StatusCode,
        header::{ACCEPT, CONTENT_TYPE, VARY},
    },
    response::IntoResponse,
    routing,
};
use hyper::server::conn::http1;
use hyper_util::{rt::TokioIo, service::TowerToHyperService};
use tokio::{
    net::TcpStream,
    sync::watch,
    task::{AbortHandle, JoinSet},
    time::sleep_until,
};
use tokio_util::sync::CancellationToken;
use tracing::debug;

use self::readiness::Readiness;
use crate::{
    aside::Aside,
    broker::{Broker, Operator},
    clock::Instant,
    listener::Terms,
    metrics::{Format, Metrics},
    port::Port,
};

/// How many peers are answered at once. They take descriptors that callers do without.
const PEERS: usize = 8;

/// How long a peer has its place for certain, however many come after it: time enough to
/// ask and to be answered.
const A_MOMENT: Duration = Duration::from_millis(10);

/// The plain HTTP port.
pub struct PlainHttp {
    port: Port,
    routes: Router,
}

/// What is looked at for an answer.
#[derive(Clone)]
pub struct Door {
    /// The broker.
    pub broker: Arc<Broker>,
    /// Who knows the state of its destinations.
    pub operator: Arc<Operator>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// Whose certificates run out.
    pub terms: watch::Receiver<Arc<Terms>>,
    /// Makes the broker unready.
    pub stopping: CancellationToken,
    /// Whether the status page is at `/`.
    pub has_page: bool,
    /// Where answers are worked out that take a while.
    pub aside: Aside,
}

impl PlainHttp {
    /// Answers who comes to this port, which is at this address.
    pub fn new(port: Port, address: SocketAddr, door: Door) -> Self {
        let page = door.has_page.then(|| page::router(address, door.clone()));
        let routes = Router::new()
            .route("/healthz", routing::get(|| async { "ok\n" }))
            .route("/readyz", routing::get(readiness))
            .route("/metrics", routing::get(exposition))
            .with_state(door)
            .merge(page.unwrap_or_default());
        Self { port, routes }
    }

    /// Answers until `stop` is cancelled.
    ///
    /// Whoever comes to a full house takes the place of the peer that has been there
    /// longest: a probe is answered soon, and only a peer that asks nothing stays.
    pub async fn serve(self, stop: CancellationToken) {
        let mut answering = JoinSet::new();
        let mut places = VecDeque::<(Instant, AbortHandle)>::with_capacity(PEERS);
        while let Some(stream) = stop.run_until_cancelled(self.port.next()).await {
            while answering.try_join_next().is_some() {}
            places.retain(|(_, peer)| !peer.is_finished());
            if places.len() == PEERS
                && let Some((came, longest)) = places.pop_front()
            {
                sleep_until(came + A_MOMENT).await;
                longest.abort();
            }
            if answering.len() == PEERS {
                // Only when it is gone is its descriptor free.
                answering.join_next().await;
            }
            let peer = answering.spawn(answer(stream, self.routes.clone()));
            places.push_back((Instant::now(), peer));
        }
    }
}

/// Answers one request, which is all that a connection is good for: none is kept from
/// one probe to the next.
async fn answer(stream: TcpStream, routes: Router) {
    let answered = http1::Builder::new()
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(routes))
        .await;
    if let Err(error) = answered {
        debug!(%error, "a peer of the plain HTTP port broke off");
    }
}

async fn readiness(State(door): State<Door>) -> (StatusCode, String) {
    let readiness = Readiness::of(&door.broker, &door.stopping);
    let status = match readiness {
        Readiness::Ready => StatusCode::OK,
        Readiness::Stopping | Readiness::Unready => StatusCode::SERVICE_UNAVAILABLE,
    };
    (status, format!("{}\n", readiness.words()))
}

async fn exposition(State(door): State<Door>, headers: HeaderMap) -> impl IntoResponse {
    let accept = headers.get_all(ACCEPT).into_iter();
    let format = Format::wanted(accept.filter_map(|value| value.to_str().ok()));
    // What is in between must not take the one format for the other.
    let head = [(CONTENT_TYPE, format.media_type()), (VARY, "accept")];
    let metrics = Arc::clone(&door.metrics);
    match door.aside.run(move || metrics.exposition_in(format)).await {
        Ok(Ok(text)) => (head, text).into_response(),
        Ok(Err(_)) | Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}
