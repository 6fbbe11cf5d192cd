//! Whether anything is going on on a connection.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::time::sleep_until;

use crate::clock::Instant;

/// The requests of one connection.
#[derive(Debug)]
pub(super) struct Activity {
    since: Instant,
    under_way: AtomicUsize,
    /// Milliseconds from `since` to the last beginning or end of a request.
    last: AtomicU64,
    requests: AtomicU64,
}

/// A request, from its beginning to the end of its reply.
#[derive(Debug)]
pub(super) struct UnderWay(Arc<Activity>);

/// Why a connection has nothing to do any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Idle {
    /// It never asked anything.
    NoRequest,
    /// It has not asked for a long time.
    Unused,
}

impl Activity {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            since: Instant::now(),
            under_way: AtomicUsize::new(0),
            last: AtomicU64::new(0),
            requests: AtomicU64::new(0),
        })
    }

    pub(super) fn begin(self: &Arc<Self>) -> UnderWay {
        self.under_way.fetch_add(1, Ordering::Relaxed);
        self.requests.fetch_add(1, Ordering::Relaxed);
        UnderWay(Arc::clone(self))
    }

    /// How many requests have begun so far.
    pub(super) fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    /// Whether no request is under way.
    pub(super) fn is_quiet(&self) -> bool {
        self.under_way.load(Ordering::Relaxed) == 0
    }

    /// Waits until the connection is idle: without a first request after `first`, or
    /// without any for `idle`.
    pub(super) async fn idle(&self, first: Duration, idle: Duration) -> Idle {
        sleep_until(self.since + first).await;
        if self.requests.load(Ordering::Relaxed) == 0 {
            return Idle::NoRequest;
        }
        loop {
            let now = Instant::now();
            let last = self.since + Duration::from_millis(self.last.load(Ordering::Relaxed));
            let busy = self.under_way.load(Ordering::Relaxed) > 0;
            let idle_at = if busy { now + idle } else { last + idle };
            if idle_at <= now {
                return Idle::Unused;
            }
            sleep_until(idle_at).await;
        }
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        let now = Instant::now().saturating_duration_since(self.0.since);
        let now = u64::try_from(now.as_millis()).unwrap_or(u64::MAX);
        self.0.last.store(now, Ordering::Relaxed);
        self.0.under_way.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::{advance, timeout};

    use super::*;

    const FIRST: Duration = Duration::from_secs(10);
    const IDLE: Duration = Duration::from_secs(900);

    #[tokio::test(start_paused = true)]
    async fn a_connection_without_a_first_request_is_idle_after_ten_seconds() {
        let activity = Activity::new();
        let before = Instant::now();
        assert_eq!(activity.idle(FIRST, IDLE).await, Idle::NoRequest);
        assert_eq!(before.elapsed(), FIRST);
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_is_idle_some_time_after_its_last_request_has_ended() {
        let activity = Activity::new();
        let request = activity.begin();
        assert!(
            timeout(10 * IDLE, activity.idle(FIRST, IDLE))
                .await
                .is_err(),
            "busy"
        );
        let ended = Instant::now();
        drop(request);
        assert_eq!(activity.idle(FIRST, IDLE).await, Idle::Unused);
        assert_eq!(ended.elapsed(), IDLE);

        advance(IDLE).await;
        drop(activity.begin());
        let ended = Instant::now();
        assert_eq!(activity.idle(FIRST, IDLE).await, Idle::Unused);
        assert_eq!(ended.elapsed(), IDLE);
    }
}
