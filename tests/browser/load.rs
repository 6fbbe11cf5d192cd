//! Callers who ask all the time, and probes that must be answered meanwhile.

use std::time::Duration;

use token_broker::api::v1::token_broker_client::TokenBrokerClient;
use tokio::{task::JoinSet, time::sleep};
use tokio_util::sync::CancellationToken;

use crate::{
    desk::Desk,
    trial::{ask, http},
};

/// Between two questions of one caller.
const BREATH: Duration = Duration::from_millis(5);
/// Between two probes.
const PROBE: Duration = Duration::from_millis(100);

/// Callers of these destinations, and a probe.
pub(crate) struct Load {
    stop: CancellationToken,
    tasks: JoinSet<()>,
}

impl Load {
    pub(crate) fn on(desk: &Desk) -> Self {
        let mut load = Self {
            stop: CancellationToken::new(),
            tasks: JoinSet::new(),
        };
        let address = desk.app.http_address().unwrap();
        let probing = async move {
            loop {
                for path in ["/readyz", "/metrics"] {
                    let (status, _) = http(address, path).await.unwrap();
                    assert_eq!(status, 200, "{path}");
                }
                sleep(PROBE).await;
            }
        };
        load.spawn(probing);
        load
    }

    /// A caller who asks for this destination all the time, whatever it gets.
    pub(crate) async fn asks(&mut self, desk: &Desk, caller: &str, destination: &'static str) {
        let caller = format!("spiffe://corp.example/ns/shop/sa/{caller}");
        let mut client = TokenBrokerClient::new(desk.connect(&caller).await);
        self.spawn(async move {
            loop {
                let _ = ask(&mut client, destination).await;
                sleep(BREATH).await;
            }
        });
    }

    fn spawn(&mut self, endless: impl Future<Output = ()> + Send + 'static) {
        let stop = self.stop.clone();
        self.tasks.spawn(async move {
            stop.run_until_cancelled(endless).await;
        });
    }

    /// Ends it. No probe went unanswered.
    pub(crate) async fn end(mut self) {
        self.stop.cancel();
        while let Some(ended) = self.tasks.join_next().await {
            ended.unwrap();
        }
    }
}
