//! The whole broker: wired from a configuration, started, and stopped in order.

mod wiring;

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use tokio::sync::watch;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{error, info, warn};

use crate::{
    broker::Broker,
    cache::Cache,
    config::Config,
    grpc::{Door, Readiness},
    http::PlainHttp,
    listener::{self, Limits, Listener, TlsError},
    metrics::Metrics,
    upstream::SetupError,
};

/// A broker that runs.
pub struct App {
    address: SocketAddr,
    http_address: Option<SocketAddr>,
    broker: Arc<Broker>,
    drain_timeout: Duration,
    /// No new callers, no readiness.
    stopping: CancellationToken,
    /// No schedule and no plain HTTP any more.
    stopped: CancellationToken,
    doors: TaskTracker,
    house: TaskTracker,
}

/// Why a broker does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The listener's certificates or key are not usable.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// An upstream's settings are not usable.
    #[error("upstream {name:?}: {source}")]
    Upstream {
        /// The name of the upstream.
        name: String,
        /// What is wrong.
        source: SetupError,
    },
    /// A destination cannot be asked for tokens.
    #[error("destination {destination:?}, application {application:?}: {source}")]
    Destination {
        /// The id of the destination.
        destination: String,
        /// The application.
        application: String,
        /// What is wrong.
        source: SetupError,
    },
    /// A port cannot be listened on.
    #[error("cannot listen on {address}: {source}: choose another address in {section} listen")]
    Listen {
        /// The configured address.
        address: SocketAddr,
        /// The section that configures it.
        section: &'static str,
        /// The system's reason.
        source: io::Error,
    },
    /// The compiled-in protocol definitions are broken.
    #[error("the protocol definitions cannot be served: {0}")]
    Reflection(#[from] tonic_reflection::server::Error),
}

impl App {
    /// Starts a broker and returns once it answers. Nothing listens if it fails.
    ///
    /// # Errors
    /// [`StartError`], which names what to change.
    pub async fn start(config: &Config) -> Result<Self, StartError> {
        let server = &config.server;
        let tls = listener::server_config(&server.cert, &server.key, &server.client_ca)?;
        let metrics = Arc::new(Metrics::new());
        let catalogue = wiring::catalogue(config)?;
        let (cache, schedule) = Cache::new(Arc::clone(&metrics));
        let broker = Arc::new(Broker::new(catalogue, cache));
        let (stopping, stopped) = (CancellationToken::new(), CancellationToken::new());

        let limits = Limits {
            connections: server.max_connections,
            handshake: server.handshake_timeout,
            drain: server.drain_timeout,
        };
        let listener = Listener::bind(server.listen, Arc::new(tls), limits, Arc::clone(&metrics))
            .await
            .and_then(|listener| Ok((listener.address()?, listener)));
        let (address, listener) = listener.map_err(|source| StartError::Listen {
            address: server.listen,
            section: "[server]",
            source,
        })?;
        let http = match &config.http {
            Some(http) => Some(bind_http(http.listen, &broker, &metrics, &stopping).await?),
            None => None,
        };
        let (readiness, readiness_seen) = watch::channel(Readiness::Unready);
        let routes = Door {
            broker: Arc::clone(&broker),
            metrics,
            max_deadline: server.request_timeout,
            readiness: readiness_seen,
            stop: stopping.clone(),
        }
        .routes()?;

        // Nothing can fail any more: from here on there are tasks.
        let (doors, house) = (TaskTracker::new(), TaskTracker::new());
        house.spawn(schedule.run(stopped.clone()));
        broker.warm();
        house.spawn(look_after(readiness, Arc::clone(&broker), stopping.clone()));
        doors.spawn(listener.serve(routes, stopping.clone()));
        let mut http_address = None;
        if let Some((address, http)) = http {
            http_address = Some(address);
            let stopped = stopped.clone();
            house.spawn(async move {
                if let Err(error) = http.serve(stopped).await {
                    error!(%error, "the plain HTTP port is gone");
                }
            });
        }
        info!(%address, ?http_address, destinations = config.destinations.len(), "answering");
        Ok(Self {
            address,
            http_address,
            broker,
            drain_timeout: server.drain_timeout,
            stopping,
            stopped,
            doors,
            house,
        })
    }

    /// Where callers are answered.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where health and metrics are served, if anywhere.
    pub fn http_address(&self) -> Option<SocketAddr> {
        self.http_address
    }

    /// Whether the broker can hand out tokens.
    pub fn is_ready(&self) -> bool {
        !self.stopping.is_cancelled() && self.broker.is_ready()
    }

    /// Stops in order: unready, no new connections, calls under way end, flights land.
    /// It takes little longer than the drain deadline at most.
    pub async fn stop(self) {
        info!("stopping");
        self.stopping.cancel();
        self.doors.close();
        self.doors.wait().await;
        self.stopped.cancel();
        self.house.close();
        let quiet = async {
            self.house.wait().await;
            self.broker.cache().drain().await;
        };
        // Half a second for what nobody waits for: a flight whose callers have gone, a
        // scraper that holds its connection.
        let grace = self.drain_timeout.min(Duration::from_millis(500));
        if tokio::time::timeout(grace, quiet).await.is_err() {
            warn!("not everything ended in time");
        }
        info!("stopped");
    }
}

async fn bind_http(
    address: SocketAddr,
    broker: &Arc<Broker>,
    metrics: &Arc<Metrics>,
    stopping: &CancellationToken,
) -> Result<(SocketAddr, PlainHttp), StartError> {
    PlainHttp::bind(
        address,
        Arc::clone(broker),
        Arc::clone(metrics),
        stopping.clone(),
    )
    .await
    .and_then(|http| Ok((http.address()?, http)))
    .map_err(|source| StartError::Listen {
        address,
        section: "[http]",
        source,
    })
}

/// Keeps the readiness up to date until the broker stops: it may change when a flight has
/// landed, and when a token dies.
async fn look_after(
    readiness: watch::Sender<Readiness>,
    broker: Arc<Broker>,
    stopping: CancellationToken,
) {
    /// A token can die without any event.
    const LOOK_AGAIN: Duration = Duration::from_secs(1);
    let mut landings = broker.cache().landings();
    loop {
        let now = if broker.is_ready() {
            Readiness::Ready
        } else {
            Readiness::Unready
        };
        readiness.send_if_modified(|before| std::mem::replace(before, now) != now);
        tokio::select! {
            () = stopping.cancelled() => break,
            _ = landings.changed() => {}
            () = tokio::time::sleep(LOOK_AGAIN) => {}
        }
    }
    readiness.send_replace(Readiness::Stopping);
}
