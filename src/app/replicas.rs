//! The other replicas: joining them at the start, and listening to them.

use std::sync::Arc;

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::{
    broker::Broker,
    shared_cache::{News, SharedCache},
};

/// As much may be told before somebody listens. What is told above that is found out when it
/// is needed.
pub(super) const NEWS: usize = 1024;

/// Takes in what the others have, before anything is minted.
pub(super) async fn join(shared: Arc<SharedCache>, broker: Arc<Broker>) {
    shared.settled().await;
    broker.join().await;
    broker.warm();
}

/// Takes in what the others tell, until `stop` is cancelled.
pub(super) async fn listen(
    mut news: mpsc::Receiver<News>,
    broker: Arc<Broker>,
    stop: CancellationToken,
) {
    while let Some(Some(told)) = stop.run_until_cancelled(news.recv()).await {
        match told {
            News::Connected => {}
            News::Told(message) => broker.cache().heard(&message),
        }
    }
}
