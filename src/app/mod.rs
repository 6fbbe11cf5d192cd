//! The whole broker: wired from a configuration, started, reloaded, and stopped in order.

mod books;
mod changes;
mod expiries;
mod exports;
mod reload;
mod replicas;
mod wiring;

use std::{
    io,
    net::SocketAddr,
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::sync::{Notify, watch};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic::service::Routes;
use tracing::{info, warn};

use self::{
    exports::{Exports, traces},
    reload::Live,
    replicas::Replicas,
    wiring::Kept,
};
use crate::{
    admission::Admission,
    aside::Aside,
    audit::{Audit, AuditError},
    broker::{Broker, Operator},
    cache::Cache,
    config::{Config, Mistakes, Reading},
    grpc::{self, Readiness},
    http::{self, PlainHttp},
    listener::{Doors, Listener, Terms, Tls, TlsError},
    mesh::LiveMesh,
    metrics::Metrics,
    port::Port,
    telemetry::Calls,
    upstream::SetupError,
    usage::StateError,
    web,
};

/// A broker that runs.
pub struct App {
    address: SocketAddr,
    http_address: Option<SocketAddr>,
    broker: Arc<Broker>,
    operator: Arc<Operator>,
    audit: Arc<Audit>,
    reload: Arc<Notify>,
    /// No new callers, no readiness.
    stopping: CancellationToken,
    /// No schedule and no plain HTTP any more.
    stopped: CancellationToken,
    doors: TaskTracker,
    house: TaskTracker,
    exports: Exports,
    /// They hear of the last flights, too.
    replicas: Replicas,
}

/// Why a broker does not start, or does not take in a changed configuration.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The configuration has mistakes.
    #[error(transparent)]
    Config(#[from] Mistakes),
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
    /// What was remembered cannot be read, or nothing can be.
    #[error(transparent)]
    State(#[from] StateError),
    /// What is handed out cannot be recorded.
    #[error(transparent)]
    Audit(#[from] AuditError),
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
    /// Starts a broker and returns once it answers. Nothing listens if it fails. From then
    /// on it takes in what changes in the file, and in the files that it names.
    ///
    /// # Errors
    /// [`StartError`], which names what to change.
    pub async fn start(file: &Path) -> Result<Self, StartError> {
        Self::start_with(file, Reading::of(file)).await
    }

    /// Starts a broker with what was read from this file just now.
    ///
    /// # Errors
    /// [`StartError`], which names what to change.
    #[expect(
        clippy::unused_async,
        reason = "it begins tasks, so it must be called where they can run"
    )]
    #[expect(
        clippy::too_many_lines,
        reason = "what is made of what is read from top to bottom"
    )]
    pub async fn start_with(file: &Path, reading: Reading) -> Result<Self, StartError> {
        let Reading { files, config } = reading;
        let config = config?;
        let server = &config.server;
        let terms = Terms::of(server)?;
        let metrics = Arc::new(Metrics::new());
        metrics.configured();
        expiries::show(&metrics, &terms);
        let (terms, terms_seen) = watch::channel(Arc::new(terms));
        let terms_shown = terms_seen.clone();
        let admission = Admission::new(server.shares);
        let (address, port) = bind("[server]", server.listen)?;
        let http = config.http.as_ref();
        let has_page = http.is_some_and(|http| http.status_page);
        let http = http.map(|http| bind("[http]", http.listen)).transpose()?;
        let (state_file, state) = books::open(&config.admin)?;
        let last = Kept::with(state.ledger);
        let (catalogue, kept) = wiring::catalogue(&config, None, &last, &metrics)?;
        let mesh = Arc::new(LiveMesh::from_pointee(wiring::mesh(&config)));
        let audit = Arc::new(Audit::start(&config.audit, &metrics)?);
        let (shared, others) = replicas::connection(config.shared_cache.clone(), &metrics);
        let (traces, export) = traces(config.telemetry.collector.as_ref(), &metrics);
        let (of_cache, trail) = (Arc::clone(&metrics), Arc::clone(&audit));
        let (cache, schedule) = Cache::new(of_cache, trail, Arc::clone(&shared), traces.clone());
        let broker = Arc::new(Broker::new(catalogue, cache, Arc::clone(&audit)));
        let (operator, wishes) = Operator::new(
            Arc::clone(&broker),
            reload::rules(&config),
            state_file,
            state.quarantines,
            Arc::clone(&metrics),
            Arc::clone(&shared),
        );
        let (stopping, stopped) = (CancellationToken::new(), CancellationToken::new());

        let (readiness, readiness_seen) = watch::channel(Readiness::Unready);
        let grpc = grpc::Door {
            broker: Arc::clone(&broker),
            operator: Arc::clone(&operator),
            calls: Calls::new(Arc::clone(&metrics), traces),
            mesh: Arc::clone(&mesh),
            readiness: readiness_seen,
            stop: stopping.clone(),
        };
        let answering = doors(grpc)?;
        // Once the port is its own: another broker would have the same file.
        operator.write_state()?;

        // Nothing can fail any more: from here on there are tasks.
        let (doors, house) = (TaskTracker::new(), TaskTracker::new());
        let exports = Exports::begin(export);
        house.spawn(schedule.run(stopped.clone()));
        let replicas = others.begin(&shared, &broker, &operator);
        house.spawn(look_after(
            readiness,
            Arc::clone(&broker),
            Arc::clone(&metrics),
            stopping.clone(),
        ));
        house.spawn(books::look(Arc::clone(&operator), stopping.clone()));
        house.spawn(books::keep(Arc::clone(&operator), stopping.clone()));
        doors.spawn(Listener::new(port).serve(
            answering,
            terms_seen,
            Arc::clone(&admission),
            Arc::clone(&metrics),
            stopping.clone(),
        ));
        let http_address = http.map(|(address, port)| {
            let door = http::Door {
                broker: Arc::clone(&broker),
                operator: Arc::clone(&operator),
                metrics: Arc::clone(&metrics),
                terms: terms_shown,
                stopping: stopping.clone(),
                has_page,
                aside: Aside::default(),
            };
            let http = PlainHttp::new(port, address, door);
            house.spawn(http.serve(stopped.clone()));
            address
        });
        info!(%address, http_address = http_address.map(tracing::field::display), destinations = config.destinations.len(), "answering");
        let reload = Arc::new(Notify::new());
        let live = Live {
            file: file.to_owned(),
            broker: Arc::clone(&broker),
            operator: Arc::clone(&operator),
            kept: Mutex::new(kept),
            mesh,
            terms,
            admission,
            metrics,
            asked: Arc::clone(&reload),
            shared,
        };
        house.spawn(live.keep_up(files, config, wishes, stopping.clone()));
        Ok(Self {
            address,
            http_address,
            broker,
            operator,
            audit,
            reload,
            stopping,
            stopped,
            doors,
            house,
            exports,
            replicas,
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

    /// Takes in the configuration anew, without waiting for a change to be noticed, and
    /// begins a new audit file.
    pub fn reload(&self) {
        self.audit.rotate();
        self.reload.notify_one();
    }

    /// Stops in order: unready, no new connections, calls under way end, flights land, and
    /// the audit trail is closed.
    /// It takes little longer than the drain deadline at most.
    pub async fn stop(self) {
        /// For what nobody waits for: a flight whose callers have gone.
        const GRACE: Duration = Duration::from_millis(500);
        /// For the last records; a sink that is stuck is left behind.
        const LAST_RECORDS: Duration = Duration::from_millis(400);
        info!("stopping");
        self.stopping.cancel();
        self.doors.close();
        self.doors.wait().await;
        self.stopped.cancel();
        self.replicas.leave();
        self.house.close();
        let quiet = async {
            self.house.wait().await;
            self.broker.cache().drain().await;
            self.operator.drain().await;
            self.replicas.end().await;
        };
        if tokio::time::timeout(GRACE, quiet).await.is_err() {
            warn!("not everything ended in time");
        }
        books::close(self.operator).await;
        // The spans of the last calls and flights have ended.
        self.exports.end().await;
        // Last, since whatever lands until now is recorded.
        self.audit.close(LAST_RECORDS).await;
        info!("stopped");
    }
}

/// Everything that starting would find wrong with a configuration, short of listening.
///
/// # Errors
/// [`StartError`], which names what to change.
pub fn check(config: &Config) -> Result<(), StartError> {
    Tls::load(&config.server.tls)?;
    books::open(&config.admin)?;
    let (last, metrics) = (Kept::default(), Metrics::new());
    wiring::catalogue(config, None, &last, &metrics)?;
    Ok(())
}

/// Everything that answers callers, in gRPC and without.
fn doors(grpc: grpc::Door) -> Result<Doors, tonic_reflection::server::Error> {
    let web = web::Door {
        broker: Arc::clone(&grpc.broker),
        calls: grpc.calls.clone(),
    };
    let (grpc, shortcut) = grpc.open()?;
    Ok(Doors {
        shortcut,
        routes: Routes::from(web.router().merge(grpc)).prepare(),
    })
}

fn bind(section: &'static str, address: SocketAddr) -> Result<(SocketAddr, Port), StartError> {
    Port::bind(address)
        .and_then(|port| Ok((port.address()?, port)))
        .map_err(|source| StartError::Listen {
            address,
            section,
            source,
        })
}

/// Keeps the readiness up to date until the broker stops: it may change when a flight has
/// landed, and when a token dies.
async fn look_after(
    readiness: watch::Sender<Readiness>,
    broker: Arc<Broker>,
    metrics: Arc<Metrics>,
    stopping: CancellationToken,
) {
    /// A token can die without any event.
    const LOOK_AGAIN: Duration = Duration::from_secs(1);
    /// A look is at every slot, and a thousand flights may land together.
    const REST: Duration = Duration::from_millis(20);
    let mut landings = broker.cache().landings();
    loop {
        let now = if broker.is_ready() {
            Readiness::Ready
        } else {
            Readiness::Unready
        };
        metrics.ready(now == Readiness::Ready);
        readiness.send_if_modified(|before| std::mem::replace(before, now) != now);
        tokio::select! {
            () = stopping.cancelled() => break,
            _ = landings.changed() => tokio::time::sleep(REST).await,
            () = tokio::time::sleep(LOOK_AGAIN) => {}
        }
    }
    metrics.ready(false);
    readiness.send_replace(Readiness::Stopping);
}
