//! The other replicas: joining them at the start, and listening to them until the end.

use std::sync::Arc;

use tokio::{sync::mpsc, task::JoinHandle};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    broker::{Broker, Operator},
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

/// This broker as one of them.
struct Member {
    shared: Arc<SharedCache>,
    broker: Arc<Broker>,
    operator: Arc<Operator>,
}

/// What has to do with the other replicas, for as long as it runs.
pub(super) struct Replicas {
    tasks: TaskTracker,
    stop: CancellationToken,
    attending: JoinHandle<()>,
    leaving: CancellationToken,
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
    pub(super) fn begin(
        self,
        shared: &Arc<SharedCache>,
        broker: &Arc<Broker>,
        operator: &Arc<Operator>,
    ) -> Replicas {
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        tasks.spawn(self.link.run(stop.clone()));
        let member = Member {
            shared: Arc::clone(shared),
            broker: Arc::clone(broker),
            operator: Arc::clone(operator),
        };
        let following = member.follow(self.told);
        tasks.spawn(stop.clone().run_until_cancelled_owned(following));
        let (attending, leaving) = (Arc::clone(shared), CancellationToken::new());
        let left = leaving.clone();
        let attending = tasks.spawn(async move { attending.attend(left).await });
        Replicas {
            tasks,
            stop,
            attending,
            leaving,
        }
    }
}

impl Replicas {
    /// Takes this broker out of the list of those that are there, soon and without waiting for it.
    pub(super) fn leave(&self) {
        self.leaving.cancel();
    }

    /// Parts with the others. To be called when the last flight has landed: they wait for what
    /// it brought.
    pub(super) async fn end(self) {
        self.leave();
        // While the store can still be reached. It has an end of its own, and no result.
        let _ = self.attending.await;
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

impl Member {
    /// Joins the others, and takes in what they tell from then on.
    async fn follow(self, mut told: mpsc::Receiver<News>) {
        self.shared.settled().await;
        // What is stopped before what is handed out.
        self.operator.rejoin().await;
        self.broker.join().await;
        self.broker.warm();
        while let Some(news) = told.recv().await {
            match news {
                News::Connected => {
                    self.operator.rejoin().await;
                    self.broker.cache().catch_up().await;
                }
                News::Told(message) => {
                    self.broker.cache().heard(&message);
                    if let Some(act) = self.shared.open_act(&message) {
                        self.operator.heard(&act);
                    }
                }
            }
        }
    }
}
