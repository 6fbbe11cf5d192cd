//! The other replicas: joining them at the start, and listening to them until the end.

use std::sync::Arc;

use tokio::sync::mpsc;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    broker::Broker,
    metrics::Metrics,
    shared_cache::{Link, News, Settings, SharedCache},
};

/// As much may be told before somebody listens. What is told above that is found out when it
/// is needed.
const NEWS: usize = 1024;

/// Where the others are heard, and what reaches them; nothing runs yet.
pub(super) struct Connection {
    link: Link,
    told: mpsc::Receiver<News>,
}

/// What has to do with the other replicas, for as long as it runs.
pub(super) struct Replicas {
    tasks: TaskTracker,
    stop: CancellationToken,
}

/// What is shared by this configuration, and the way to it.
pub(super) fn connection(
    settings: Option<Settings>,
    metrics: &Arc<Metrics>,
) -> (Arc<SharedCache>, Connection) {
    let (news, told) = mpsc::channel(NEWS);
    let (shared, link) = SharedCache::new(settings, metrics, news);
    (Arc::new(shared), Connection { link, told })
}

impl Connection {
    /// Reaches for the others, takes in what they have before anything is minted, and listens.
    pub(super) fn begin(self, shared: &Arc<SharedCache>, broker: &Arc<Broker>) -> Replicas {
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        tasks.spawn(self.link.run(stop.clone()));
        let joining = join(Arc::clone(shared), Arc::clone(broker));
        tasks.spawn(stop.clone().run_until_cancelled_owned(joining));
        let listening = listen(self.told, Arc::clone(broker));
        tasks.spawn(stop.clone().run_until_cancelled_owned(listening));
        Replicas { tasks, stop }
    }
}

impl Replicas {
    /// Parts with the others. To be called when the last flight has landed: they wait for what
    /// it brought.
    pub(super) async fn end(self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

async fn join(shared: Arc<SharedCache>, broker: Arc<Broker>) {
    shared.settled().await;
    broker.join().await;
    broker.warm();
}

async fn listen(mut told: mpsc::Receiver<News>, broker: Arc<Broker>) {
    while let Some(news) = told.recv().await {
        match news {
            News::Connected => {}
            News::Told(message) => broker.cache().heard(&message),
        }
    }
}
