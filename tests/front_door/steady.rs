//! A caller that keeps asking on one connection, and must never be refused.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{
    task::JoinHandle,
    time::{sleep, timeout},
};

use crate::{
    line::{Line, ask},
    trial::GIVE_UP,
};

/// A caller at work.
pub(crate) struct Steady {
    line: Line,
    stop: Arc<AtomicBool>,
    calls: Arc<AtomicUsize>,
    work: JoinHandle<()>,
}

impl Steady {
    /// Asks again and again for `d0`.
    pub(crate) fn start(line: Line) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let calls = Arc::new(AtomicUsize::new(0));
        let (stopped, counted) = (Arc::clone(&stop), Arc::clone(&calls));
        let mut client = line.client.clone();
        let work = tokio::spawn(async move {
            while !stopped.load(Ordering::Relaxed) {
                ask(&mut client, "d0").await.unwrap();
                counted.fetch_add(1, Ordering::Relaxed);
                // The machine is others' too.
                sleep(Duration::from_millis(1)).await;
            }
        });
        Self {
            line,
            stop,
            calls,
            work,
        }
    }

    /// Waits until it was answered once more: whatever happened before has not hurt it.
    pub(crate) async fn goes_on(&self) {
        let after = self.calls.load(Ordering::Relaxed) + 1;
        let answered = async {
            // The one under way may have been asked before.
            while self.calls.load(Ordering::Relaxed) <= after && !self.work.is_finished() {
                sleep(Duration::from_millis(1)).await;
            }
        };
        timeout(GIVE_UP, answered).await.expect("no answers");
        assert!(self.line.is_open() && !self.work.is_finished());
    }

    /// How many calls were answered, all of them on one connection; it panics if one was
    /// not.
    pub(crate) async fn stop(self) -> usize {
        self.goes_on().await;
        self.stop.store(true, Ordering::Relaxed);
        self.work.await.unwrap();
        assert!(self.line.is_open());
        self.calls.load(Ordering::Relaxed)
    }
}
