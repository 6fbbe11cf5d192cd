//! A store with its link, as one replica has it.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::{mpsc, watch},
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;

use super::super::{Name, News, Sealed, Settings, Store, link};
use crate::{
    metrics::Metrics,
    shared_cache::{
        record::Kind,
        ring::Ring,
        settings::{HostPort, Login, Servers},
        store::{Entry, Kept},
    },
};

/// One replica.
pub(super) struct Replica {
    pub(super) store: Arc<dyn Store>,
    pub(super) news: mpsc::Receiver<News>,
    pub(super) settings: watch::Sender<Option<Settings>>,
    pub(super) metrics: Arc<Metrics>,
    stop: CancellationToken,
    running: JoinHandle<()>,
}

impl Replica {
    pub(super) fn start(settings: Option<Settings>) -> Self {
        Self::with_room_for(1024, settings)
    }

    pub(super) fn with_room_for(news: usize, settings: Option<Settings>) -> Self {
        let metrics = Arc::new(Metrics::new());
        let (sender, news) = mpsc::channel(news);
        let settings = watch::Sender::new(settings);
        let (store, link) = link(settings.subscribe(), Arc::clone(&metrics), sender);
        let stop = CancellationToken::new();
        let running = tokio::spawn(link.run(stop.clone()));
        Self {
            store,
            news,
            settings,
            metrics,
            stop,
            running,
        }
    }

    /// Starts it, and waits until the servers answer.
    pub(super) async fn connected(settings: Settings) -> Self {
        let replica = Self::start(Some(settings));
        replica.answers().await;
        replica
    }

    pub(super) async fn answers(&self) {
        super::server::until("the store answers", async || {
            self.store.look(&name()).await.is_ok()
        })
        .await;
    }

    /// What it hears next; `None` if that is nothing.
    pub(super) async fn hears(&mut self) -> Option<News> {
        let heard = tokio::time::timeout(super::server::PATIENCE, self.news.recv());
        heard.await.ok().flatten()
    }

    /// How often an operation had this outcome.
    pub(super) fn count(&self, operation: &str, outcome: &str) -> u64 {
        let exposition = self.metrics.exposition().unwrap();
        let labels = format!("operation=\"{operation}\",outcome=\"{outcome}\"}} ");
        let line = exposition.lines().find_map(|line| line.split_once(&labels));
        line.map_or(0, |(_, count)| count.parse().unwrap())
    }

    pub(super) fn is_up(&self) -> bool {
        let exposition = self.metrics.exposition().unwrap();
        exposition.contains("shared_cache_up 1")
    }

    pub(super) async fn stop(self) {
        self.stop.cancel();
        self.running.await.unwrap();
    }
}

/// Settings for one server on this port.
pub(super) fn settings(port: u16) -> Settings {
    Settings {
        servers: Servers::One(local(port)),
        login: Login::default(),
        tls: None,
        database: 0,
        namespace: "fleet".to_owned(),
        timeout: Duration::from_secs(2),
        ring: Arc::new(Ring::new("MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=", None).unwrap()),
    }
}

pub(super) fn local(port: u16) -> HostPort {
    HostPort {
        host: "127.0.0.1".to_owned(),
        port,
    }
}

/// A name that nobody has used.
pub(super) fn name() -> Name {
    Name(rand::random::<u128>().to_be_bytes())
}

/// A value that is unlike any other.
pub(super) fn sealed() -> Sealed {
    Sealed(rand::random_iter().take(100).collect())
}

pub(super) fn kept(kind: Kind, sealed: &Sealed, lasts: Duration) -> Kept {
    let sealed = sealed.clone();
    Kept {
        entry: Entry { kind, sealed },
        lasts,
    }
}
