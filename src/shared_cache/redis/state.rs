//! Whether there is a line to the servers, as all operations see it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use super::{Trouble, line::Line};
use crate::metrics::Metrics;

/// What the store and its link have in common.
pub(super) struct Shared {
    state: watch::Sender<State>,
    /// Why nothing can be written, although there is a line.
    complaint: Mutex<Option<Trouble>>,
    pub(super) metrics: Arc<Metrics>,
}

/// Whether there is a line.
#[derive(Clone)]
pub(super) enum State {
    /// Nobody has tried yet.
    Unsettled,
    Up(Arc<Line>),
    Down(Trouble),
}

impl Shared {
    pub(super) fn new(is_configured: bool, metrics: Arc<Metrics>) -> Self {
        let state = if is_configured {
            State::Unsettled
        } else {
            State::Down(Trouble::Unreachable)
        };
        Self {
            state: watch::Sender::new(state),
            complaint: Mutex::new(None),
            metrics,
        }
    }

    /// Waits for the first success or the first failure.
    pub(super) async fn settled(&self) {
        let mut state = self.state.subscribe();
        // It fails only when the sender is gone, which is borrowed here.
        let _ = state
            .wait_for(|state| !matches!(state, State::Unsettled))
            .await;
    }

    /// The line, or why there is none.
    pub(super) fn line(&self) -> Result<Arc<Line>, Trouble> {
        match &*self.state.borrow() {
            State::Up(line) => Ok(Arc::clone(line)),
            State::Down(trouble) => Err(*trouble),
            State::Unsettled => Err(Trouble::Unreachable),
        }
    }

    /// Why there is no line, if that is known.
    pub(super) fn trouble(&self) -> Option<Trouble> {
        match &*self.state.borrow() {
            State::Down(trouble) => Some(*trouble),
            State::Unsettled => None,
            State::Up(_) => *self.complaint(),
        }
    }

    /// Goes over to another state.
    pub(super) fn set(&self, state: State) {
        self.metrics.shared_cache_up(matches!(state, State::Up(_)));
        self.state.send_replace(state);
    }

    /// Notices whether writing to these servers works, which reading says nothing about.
    pub(super) fn wrote<T>(
        &self,
        servers: &str,
        written: Result<T, Trouble>,
    ) -> Result<T, Trouble> {
        let complaint = match &written {
            Ok(_) => None,
            Err(
                trouble @ (Trouble::Denied
                | Trouble::Full
                | Trouble::ReadOnly
                | Trouble::Unsafe
                | Trouble::Loading
                | Trouble::Moved),
            ) => Some(*trouble),
            // The link notices these, or they are about one value.
            Err(Trouble::Unreachable | Trouble::Slow | Trouble::Garbage) => return written,
        };
        let mut last = self.complaint();
        let before = std::mem::replace(&mut *last, complaint);
        match (before, complaint.map(Trouble::code)) {
            (None, Some(code)) => {
                tracing::warn!(%servers, code, "the shared cache takes no writes: nothing is shared");
            }
            (Some(before), Some(code)) if before.code() != code => {
                tracing::debug!(%servers, code, "the shared cache takes no writes for another reason");
            }
            (Some(_), None) => tracing::info!(%servers, "the shared cache takes writes again"),
            (Some(_), Some(_)) | (None, None) => {}
        }
        drop(last);
        written
    }

    /// The same for what also works at a server that is full: it says nothing if it works.
    pub(super) fn gave_back<T>(
        &self,
        servers: &str,
        given: Result<T, Trouble>,
    ) -> Result<T, Trouble> {
        match given {
            Ok(given) => Ok(given),
            Err(trouble) => self.wrote(servers, Err(trouble)),
        }
    }

    fn complaint(&self) -> MutexGuard<'_, Option<Trouble>> {
        self.complaint
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}
