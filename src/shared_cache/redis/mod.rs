//! The store behind a Redis server.

use std::sync::Arc;

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::{News, Settings, store::Store};
use crate::metrics::Metrics;

/// What reaches the servers, for as long as it is run.
pub struct Link {}

pub(super) fn link(
    _settings: Option<Settings>,
    _metrics: Arc<Metrics>,
    _news: mpsc::Sender<News>,
) -> (Arc<dyn Store>, Link) {
    unimplemented!()
}

impl Link {
    /// Keeps up the connection until `stop` is cancelled.
    pub async fn run(self, stop: CancellationToken) {
        stop.cancelled().await;
    }

    /// Goes on with other settings, or with none.
    pub fn replace(&self, _settings: Option<Settings>) {}
}
