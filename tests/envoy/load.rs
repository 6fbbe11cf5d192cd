//! Requests without a pause.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::{
    proxy::Proxy,
    site::{client, send},
    trial::GIVE_UP,
};

/// How many requests are under way at once.
const AT_ONCE: usize = 4;

/// Requests through a proxy, one after the other, until it is stopped.
pub(crate) struct Load {
    seen: Arc<Mutex<HashSet<String>>>,
    stop: CancellationToken,
    senders: JoinSet<usize>,
}

impl Load {
    pub(crate) fn start(proxy: &Proxy) -> Self {
        let seen = Arc::new(Mutex::new(HashSet::new()));
        let stop = CancellationToken::new();
        let mut senders = JoinSet::new();
        for _ in 0..AT_ONCE {
            let url = format!("http://{}/orders", proxy.address);
            let (seen, stop) = (Arc::clone(&seen), stop.clone());
            senders.spawn(async move {
                let client = client();
                let mut sent = 0;
                while !stop.is_cancelled() {
                    let answer = send(&client, &url, &["Bearer forged"]).await.unwrap();
                    assert_eq!(answer.status, 200, "{answer:?}");
                    seen.lock().unwrap().insert(answer.body);
                    sent += 1;
                }
                sent
            });
        }
        Self {
            seen,
            stop,
            senders,
        }
    }

    /// Waits for a request with this authorization.
    pub(crate) async fn sees(&self, authorization: &str) {
        let looking = async {
            while !self.seen.lock().unwrap().contains(authorization) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let seen = tokio::time::timeout(GIVE_UP, looking).await;
        seen.expect("a request with this authorization");
    }

    /// How many requests there were, all of them answered by the destination, and each
    /// authorization that they came with.
    pub(crate) async fn stop(self) -> (usize, HashSet<String>) {
        self.stop.cancel();
        let sent = self.senders.join_all().await.into_iter().sum();
        let seen = self.seen.lock().unwrap().clone();
        (sent, seen)
    }
}
