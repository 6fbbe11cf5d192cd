//! Where a registration found its slot last, so that hardly any call has to look it up.

use std::{
    sync::{
        Arc, Weak,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwapOption;

use super::entry::Entry;
use crate::clock::Instant;

/// What is used is looked up at least so often, so that the cache never takes it for idle. It
/// is far less than `IDLE_OUT`.
const LOOK_AGAIN: Duration = Duration::from_secs(60 * 60);

/// Tells findings from before the last change of a cache from those after it. No number is of
/// two caches.
pub(super) struct Changes(AtomicU64);

/// The number of the last change, as of before something was looked up.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Change(u64);

/// Where a registration found its slot last.
#[derive(Default)]
pub struct Whereabouts(ArcSwapOption<Finding>);

struct Finding {
    /// It is the cache that keeps it.
    entry: Weak<Entry>,
    after: Change,
    until: Instant,
}

impl Changes {
    pub(super) fn new() -> Self {
        Self(AtomicU64::new(draw()))
    }

    /// The last change so far. To be asked before the cache is.
    pub(super) fn last(&self) -> Change {
        Change(self.0.load(Ordering::Acquire))
    }

    /// What was found before does not count any more. To be called when the cache has changed,
    /// so that whoever sees the number finds what has become of it.
    pub(super) fn add(&self) {
        self.0.store(draw(), Ordering::Release);
    }
}

/// A number that was not drawn before.
fn draw() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

impl Whereabouts {
    /// The slot that was found after the last change, and not long ago.
    pub(super) fn recall(&self, last: Change, now: Instant) -> Option<Arc<Entry>> {
        let finding = self.0.load();
        let finding = finding.as_ref()?;
        let counts = finding.after == last && now < finding.until;
        counts.then(|| finding.entry.upgrade())?
    }

    /// Remembers a slot that was looked up after that change.
    pub(super) fn remember(&self, entry: &Arc<Entry>, after: Change, now: Instant) {
        let entry = Arc::downgrade(entry);
        let until = now + LOOK_AGAIN;
        self.0.store(Some(Arc::new(Finding {
            entry,
            after,
            until,
        })));
    }
}
