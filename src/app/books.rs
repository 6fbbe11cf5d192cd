//! What outlives the process, and what is looked at again and again.

use std::{sync::Arc, time::Duration};

use tokio::{
    task::spawn_blocking,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::{
    broker::Operator,
    config::Admin,
    usage::{State, StateError, StateFile},
};

/// Usage is written down no more often than this.
const WRITE_EVERY: Duration = Duration::from_secs(60);
/// A runway becomes short without any event.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How long the stop waits for a disk.
const LAST_WRITE: Duration = Duration::from_secs(2);

/// Opens the state file, if there is to be one.
pub(super) fn open(admin: &Admin) -> Result<(Option<StateFile>, State), StateError> {
    let Some(path) = &admin.state_file else {
        return Ok((None, State::default()));
    };
    let (file, state) = StateFile::open(path)?;
    Ok((Some(file), state))
}

/// Writes down what has changed, until `stop` is cancelled.
pub(super) async fn keep(operator: Arc<Operator>, stop: CancellationToken) {
    while stop.run_until_cancelled(sleep(WRITE_EVERY)).await.is_some() {
        write(Arc::clone(&operator)).await;
    }
}

/// Looks for what an operator should see to, until `stop` is cancelled.
pub(super) async fn look(operator: Arc<Operator>, stop: CancellationToken) {
    while stop.run_until_cancelled(sleep(LOOK_EVERY)).await.is_some() {
        operator.look();
    }
}

/// Writes down the last of it.
pub(super) async fn close(operator: Arc<Operator>) {
    if timeout(LAST_WRITE, write(operator)).await.is_err() {
        warn!("the state file takes too long to write");
    }
}

async fn write(operator: Arc<Operator>) {
    // What went wrong is in the log already.
    if spawn_blocking(move || operator.write_state())
        .await
        .is_err()
    {
        info!("the state file was not written");
    }
}
