//! Callers that go on asking.

use std::{
    collections::BTreeMap,
    error::Error as _,
    mem,
    sync::{Arc, Mutex},
    time::Duration,
};

use token_broker::api::v1::token_broker_client::TokenBrokerClient;
use tokio::{
    sync::watch,
    task::JoinSet,
    time::{Instant, MissedTickBehavior, interval},
};
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status, transport::Channel};

use crate::trial::ask;

/// Callers of replicas, each of which asks for one key after the other.
pub(crate) struct Load {
    outcomes: Arc<Mutex<Outcomes>>,
    stop: CancellationToken,
    callers: JoinSet<()>,
}

/// The replicas that answer now. A caller begins with the one of its own number, and goes on to
/// the next where that is of no use.
pub(crate) type Directory = watch::Receiver<Vec<TokenBrokerClient<Channel>>>;

/// What became of calls.
#[derive(Debug, Default)]
pub(crate) struct Outcomes {
    pub(crate) answered: usize,
    /// How many of them were answered by another replica only.
    pub(crate) on_retry: usize,
    /// What failed for good, and how often.
    pub(crate) failed: BTreeMap<String, usize>,
    /// What each answered call took.
    pub(crate) took: Vec<Duration>,
}

impl Load {
    /// One caller for each of these clients, who asks once in every `pace`.
    pub(crate) fn start(
        clients: Vec<TokenBrokerClient<Channel>>,
        keys: &[String],
        pace: Duration,
    ) -> Self {
        let alone = |client| watch::channel(vec![client]).1;
        let callers = clients.into_iter().map(|client| (alone(client), 0));
        Self::of(callers, keys, pace)
    }

    /// So many callers, who ask another replica where one is of no use.
    pub(crate) fn anywhere(
        directory: &Directory,
        callers: usize,
        keys: &[String],
        pace: Duration,
    ) -> Self {
        let callers = (0..callers).map(|number| (directory.clone(), number));
        Self::of(callers, keys, pace)
    }

    /// Callers, each with its directory and where in it the caller begins.
    fn of(
        callers: impl Iterator<Item = (Directory, usize)>,
        keys: &[String],
        pace: Duration,
    ) -> Self {
        let (outcomes, stop) = (Arc::default(), CancellationToken::new());
        let mut calling = JoinSet::new();
        for (number, (directory, first)) in callers.enumerate() {
            let (outcomes, keys) = (Arc::clone(&outcomes), keys.to_vec());
            let stop = stop.clone();
            calling.spawn(call(directory, first, keys, number, pace, stop, outcomes));
        }
        Self {
            outcomes,
            stop,
            callers: calling,
        }
    }

    /// What became of the calls since the last look.
    pub(crate) fn look(&self) -> Outcomes {
        mem::take(&mut self.outcomes.lock().unwrap())
    }

    /// What became of the calls since the last look. Nobody asks any more.
    pub(crate) async fn stop(self) -> Outcomes {
        self.stop.cancel();
        self.callers.join_all().await;
        mem::take(&mut self.outcomes.lock().unwrap())
    }
}

impl Outcomes {
    /// There were calls, and none of them failed.
    pub(crate) fn assert_all_answered(&self, when: &str) {
        assert!(self.failed.is_empty(), "{when}: {:?}", self.failed);
        assert!(self.answered > 0, "{when}: nobody asked");
    }

    /// What 99 of 100 answered calls took at most.
    pub(crate) fn p99(&self) -> Duration {
        let mut took = self.took.clone();
        took.sort_unstable();
        took[took.len() * 99 / 100]
    }
}

async fn call(
    directory: Directory,
    first: usize,
    keys: Vec<String>,
    begin_with: usize,
    pace: Duration,
    stop: CancellationToken,
    outcomes: Arc<Mutex<Outcomes>>,
) {
    let mut ticks = interval(pace);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut keys = keys.iter().cycle().skip(begin_with);
    while stop.run_until_cancelled(ticks.tick()).await.is_some() {
        let key = keys.next().unwrap();
        let replicas = directory.borrow().clone();
        let tries = replicas.len();
        let begun = Instant::now();
        let mut asked = 0;
        let result = loop {
            let mut replica = replicas[(first + asked) % tries].clone();
            let result = ask(&mut replica, key).await;
            asked += 1;
            if asked == tries || !result.as_ref().is_err_and(is_worth_a_retry) {
                break result;
            }
        };
        let mut outcomes = outcomes.lock().unwrap();
        match result {
            // A stand-in's tokens begin with the destination that they are for.
            Ok(token) if token.access_token.starts_with(&format!("{key}~")) => {
                outcomes.answered += 1;
                outcomes.on_retry += usize::from(asked > 1);
                outcomes.took.push(begun.elapsed());
            }
            Ok(_) => {
                let said = "another's token".to_owned();
                *outcomes.failed.entry(said).or_default() += 1;
            }
            Err(status) => {
                let said = format!("{:?}: {}", status.code(), status.message());
                *outcomes.failed.entry(said).or_default() += 1;
            }
        }
    }
}

/// Whether a call was refused for now, or found its connection gone: tonic has no code
/// of its own for that, but then the status has a cause, which no broker's answer has.
fn is_worth_a_retry(status: &Status) -> bool {
    status.code() == Code::Unavailable || status.source().is_some()
}
