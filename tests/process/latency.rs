//! How long a client's calls take, at a steady pace.

use std::{fmt, time::Duration};

use token_broker::api::v1::token_broker_client::TokenBrokerClient;
use tokio::{
    task::JoinHandle,
    time::{Instant, MissedTickBehavior, interval},
};
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;

use crate::trial::ask;

/// What a number of calls took, all of which were answered.
pub(crate) struct Latency(Vec<Duration>);

/// A client that keeps asking for its token.
pub(crate) struct Calling {
    stop: CancellationToken,
    calls: JoinHandle<Latency>,
}

impl Calling {
    /// Asks once in every `pace`, and panics if a call fails.
    pub(crate) fn start(mut client: TokenBrokerClient<Channel>, pace: Duration) -> Self {
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let calls = tokio::spawn(async move {
            let mut took = Vec::new();
            let mut ticks = interval(pace);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            while stopped.run_until_cancelled(ticks.tick()).await.is_some() {
                let asked = Instant::now();
                ask(&mut client, "d0").await.unwrap();
                took.push(asked.elapsed());
            }
            took.sort_unstable();
            Latency(took)
        });
        Self { stop, calls }
    }

    pub(crate) async fn stop(self) -> Latency {
        self.stop.cancel();
        self.calls.await.unwrap()
    }
}

impl Latency {
    /// What 99 of 100 calls took at most.
    pub(crate) fn p99(&self) -> Duration {
        self.0[self.0.len() * 99 / 100]
    }
}

impl fmt::Display for Latency {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(took) = self;
        let (median, longest) = (took[took.len() / 2], took[took.len() - 1]);
        let (calls, p99) = (took.len(), self.p99());
        write!(
            formatter,
            "{calls} calls answered: median {median:?}, p99 {p99:?}, longest {longest:?}"
        )
    }
}
