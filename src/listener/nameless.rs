//! How many peers without an identity are connected: no caller's share counts them, so that
//! without one of their own they could take the places of all callers.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

/// All of them together may have this part of all places, and one at least.
const SHARE: usize = 16;

/// The connected peers whose certificate names no caller.
#[derive(Debug)]
pub(super) struct Nameless(Arc<AtomicUsize>);

/// One of them, until it is dropped.
#[derive(Debug)]
pub(super) struct Stranger(Arc<AtomicUsize>);

impl Nameless {
    /// Nobody yet.
    pub(super) fn new() -> Self {
        Self(Arc::default())
    }

    /// Lets one more in, unless too many of them are, where there are so many places in all.
    pub(super) fn enter(&self, places: usize) -> Option<Stranger> {
        let most = (places / SHARE).max(1);
        let one_more = |count| (count < most).then_some(count + 1);
        let (set, read) = (Ordering::Relaxed, Ordering::Relaxed);
        let entered = self.0.fetch_update(set, read, one_more);
        entered.is_ok().then(|| Stranger(Arc::clone(&self.0)))
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_have_a_sixteenth_of_the_places_and_one_at_least() {
        for (places, most) in [(1, 1), (16, 1), (32, 2), (10_000, 625)] {
            let nameless = Nameless::new();
            let mut inside: Vec<_> = (0..=places).map_while(|_| nameless.enter(places)).collect();
            assert_eq!(inside.len(), most);
            inside.pop();
            assert!(nameless.enter(places).is_some(), "one has gone");
        }
    }
}
