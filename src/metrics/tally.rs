//! Calls to destinations that were answered as asked, which costs one addition.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, OnceLock, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use super::Door;
use crate::destination::DestinationId;

/// Where calls to one destination are counted, for as long as it is configured so. One that
/// counts the same destination later goes on from there.
#[derive(Debug)]
pub struct Tally {
    destination: DestinationId,
    /// Found when the first call is counted: most of ten thousand destinations rest.
    counts: OnceLock<Arc<Counts>>,
}

/// How many calls each door has answered. A series is absent while its count is nought.
type Counts = [AtomicU64; Door::ALL.len()];

/// What was counted of all destinations. A clone is the same.
#[derive(Clone, Debug, Default)]
pub(super) struct Tallies(Arc<RwLock<BTreeMap<DestinationId, Arc<Counts>>>>);

impl Tally {
    /// Counts calls to this destination.
    pub fn new(destination: DestinationId) -> Self {
        Self {
            destination,
            counts: OnceLock::new(),
        }
    }

    /// The configured id of the destination.
    pub fn destination(&self) -> &DestinationId {
        &self.destination
    }
}

impl Tallies {
    /// A call was answered as asked.
    pub(super) fn count(&self, door: Door, tally: &Tally) {
        let counts = tally.counts.get_or_init(|| self.at(&tally.destination));
        door.of(counts).fetch_add(1, Relaxed);
    }

    fn at(&self, destination: &DestinationId) -> Arc<Counts> {
        let mut all = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let counts = all.entry(destination.clone()).or_default();
        Arc::clone(counts)
    }

    /// Ends the series of all other destinations. Where somebody can still count one, it
    /// begins at nought: a last call, or a destination that comes back, is not lost.
    pub(super) fn keep(&self, is_kept: impl Fn(&DestinationId) -> bool) {
        // Mostly there is nothing to end, and whoever counts need not wait then.
        let all = self.0.read().unwrap_or_else(PoisonError::into_inner);
        if all.keys().all(&is_kept) {
            return;
        }
        drop(all);
        let mut all = self.0.write().unwrap_or_else(PoisonError::into_inner);
        all.retain(|id, counts| {
            is_kept(id) || {
                counts.iter().for_each(|count| count.store(0, Relaxed));
                Arc::strong_count(counts) > 1
            }
        });
    }

    /// Every series: door, destination and count.
    pub(super) fn series(&self) -> Vec<(Door, DestinationId, u64)> {
        let all = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let series = all.iter().flat_map(|(id, counts)| {
            let counts = Door::ALL.into_iter().zip(counts.iter());
            counts.map(move |(door, count)| (door, id.clone(), count.load(Relaxed)))
        });
        series.filter(|(.., count)| *count > 0).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally(destination: &str) -> Tally {
        Tally::new(DestinationId::parse(destination).unwrap())
    }

    fn shown(tallies: &Tallies) -> Vec<(&'static str, String, u64)> {
        let series = tallies.series().into_iter();
        let series = series.map(|(door, id, count)| (door.name(), id.to_string(), count));
        series.collect()
    }

    #[test]
    fn doors_and_destinations_are_counted_apart() {
        let (tallies, a, b) = (Tallies::default(), tally("a"), tally("b"));
        assert_eq!(shown(&tallies), []);
        tallies.count(Door::Grpc, &a);
        tallies.count(Door::Grpc, &a);
        tallies.count(Door::Sds, &a);
        tallies.count(Door::OAuth2, &b);
        let (a, b) = ("a".to_owned(), "b".to_owned());
        let counted = [("grpc", a.clone(), 2), ("sds", a, 1), ("oauth2", b, 1)];
        assert_eq!(shown(&tallies), counted);
    }

    #[test]
    fn the_next_tally_of_a_destination_goes_on_where_the_last_one_is() {
        let (tallies, last, next) = (Tallies::default(), tally("a"), tally("a"));
        for tally in [&last, &next, &last] {
            tallies.count(Door::Grpc, tally);
        }
        drop(last);
        tallies.keep(|_| true);
        tallies.count(Door::Grpc, &next);
        assert_eq!(shown(&tallies), [("grpc", "a".to_owned(), 4)]);
    }

    #[test]
    fn what_is_not_kept_ends_and_nobody_brings_its_counts_back() {
        let (tallies, last) = (Tallies::default(), tally("a"));
        tallies.count(Door::Grpc, &last);
        tallies.keep(|_| false);
        assert_eq!(shown(&tallies), []);
        // Somebody has held on to it, and another one comes.
        tallies.count(Door::Grpc, &last);
        tallies.keep(|_| false);
        assert_eq!(shown(&tallies), []);
        let next = tally("a");
        tallies.count(Door::Grpc, &next);
        tallies.count(Door::Grpc, &last);
        assert_eq!(shown(&tallies), [("grpc", "a".to_owned(), 2)]);
        drop((last, next));
        tallies.keep(|_| false);
        assert!(
            tallies.0.read().unwrap().is_empty(),
            "nothing is left behind"
        );
    }

    #[test]
    fn a_look_at_what_was_configured_before_loses_nothing_that_comes_after_it() {
        let (tallies, new) = (Tallies::default(), tally("new"));
        tallies.count(Door::Grpc, &new);
        tallies.keep(|id| id.as_str() == "old");
        tallies.count(Door::Grpc, &new);
        tallies.keep(|id| id.as_str() == "new");
        assert_eq!(shown(&tallies), [("grpc", "new".to_owned(), 1)]);
    }
}
