//! Work that takes a while, done where no caller waits for it.

use std::sync::Arc;

use tokio::{
    sync::Semaphore,
    task::{JoinError, spawn_blocking},
};

/// Does one thing after the other on a thread that answers nobody. A clone is the same queue.
#[derive(Clone)]
pub struct Aside(Arc<Semaphore>);

impl Aside {
    /// Does work when it is its turn. Whoever leaves before that has nothing done.
    ///
    /// # Errors
    /// [`JoinError`] if the work panics, or if the runtime ends before it begins.
    pub async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, JoinError> {
        // Never closed, so there is always a turn.
        let turn = Arc::clone(&self.0).acquire_owned().await;
        let work = spawn_blocking(move || {
            // Until the work is done, even when nobody is left to have it.
            let _turn = turn;
            work()
        });
        work.await
    }

    /// The one turn.
    #[cfg(test)]
    pub(crate) fn turn(&self) -> &Arc<Semaphore> {
        &self.0
    }
}

impl Default for Aside {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(1)))
    }
}
