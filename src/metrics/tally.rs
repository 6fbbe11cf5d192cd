//! Calls to destinations that were answered as asked, which costs one addition.

use std::{
    borrow::Borrow,
    cmp::Ordering,
    collections::BTreeSet,
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use super::{Door, Metrics};
use crate::destination::DestinationId;

/// Where calls to one destination are counted, for as long as somebody has it.
#[derive(Debug)]
pub struct Tally {
    destination: DestinationId,
    /// How many calls each door has answered. A series is absent while its count is nought.
    counts: [AtomicU64; Door::ALL.len()],
}

/// The tallies of all destinations, by the names of these. A clone is the same.
#[derive(Clone, Debug, Default)]
pub(super) struct Tallies(Arc<RwLock<BTreeSet<Named>>>);

/// A tally that is found by its destination.
#[derive(Debug)]
struct Named(Arc<Tally>);

impl Tally {
    fn new(destination: DestinationId) -> Self {
        Self {
            destination,
            counts: Default::default(),
        }
    }

    /// The configured id of the destination.
    pub fn destination(&self) -> &DestinationId {
        &self.destination
    }

    /// A call was answered as asked.
    pub(super) fn count(&self, door: Door) {
        door.of(&self.counts).fetch_add(1, Relaxed);
    }
}

impl Metrics {
    /// Where calls to this destination are counted: the tally that others have of it, if
    /// somebody does.
    pub fn tally(&self, destination: &DestinationId) -> Arc<Tally> {
        self.calls.tallies().at(destination)
    }
}

impl Tallies {
    fn at(&self, destination: &DestinationId) -> Arc<Tally> {
        let mut all = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(Named(known)) = all.get(destination) {
            return Arc::clone(known);
        }
        let tally = Arc::new(Tally::new(destination.clone()));
        all.insert(Named(Arc::clone(&tally)));
        tally
    }

    /// Ends the series of destinations whose tally nobody has any more.
    pub(super) fn keep(&self) {
        // Mostly there is nothing to end, and nobody need wait then.
        let is_kept = |Named(tally): &Named| Arc::strong_count(tally) > 1;
        let all = self.0.read().unwrap_or_else(PoisonError::into_inner);
        if all.iter().all(is_kept) {
            return;
        }
        drop(all);
        let mut all = self.0.write().unwrap_or_else(PoisonError::into_inner);
        all.retain(is_kept);
    }

    /// Whether calls to this destination are counted.
    pub(super) fn has(&self, destination: &DestinationId) -> bool {
        let all = self.0.read().unwrap_or_else(PoisonError::into_inner);
        all.contains(destination)
    }

    /// Every series: door, destination and count.
    pub(super) fn series(&self) -> Vec<(Door, DestinationId, u64)> {
        let all = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let series = all.iter().flat_map(|Named(tally)| {
            let counts = Door::ALL.into_iter().zip(&tally.counts);
            counts.map(|(door, count)| (door, tally.destination.clone(), count.load(Relaxed)))
        });
        series.filter(|(.., count)| *count > 0).collect()
    }
}

impl Borrow<DestinationId> for Named {
    fn borrow(&self) -> &DestinationId {
        &self.0.destination
    }
}

impl PartialEq for Named {
    fn eq(&self, other: &Self) -> bool {
        self.0.destination == other.0.destination
    }
}

impl Eq for Named {}

impl PartialOrd for Named {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Named {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.destination.cmp(&other.0.destination)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally(tallies: &Tallies, destination: &str) -> Arc<Tally> {
        tallies.at(&DestinationId::parse(destination).unwrap())
    }

    fn shown(tallies: &Tallies) -> Vec<(&'static str, String, u64)> {
        let series = tallies.series().into_iter();
        let series = series.map(|(door, id, count)| (door.name(), id.to_string(), count));
        series.collect()
    }

    #[test]
    fn doors_and_destinations_are_counted_apart() {
        let tallies = Tallies::default();
        let (b, a) = (tally(&tallies, "b"), tally(&tallies, "a"));
        assert_eq!(shown(&tallies), []);
        a.count(Door::Grpc);
        a.count(Door::Grpc);
        a.count(Door::Sds);
        b.count(Door::OAuth2);
        let (a, b) = ("a".to_owned(), "b".to_owned());
        let counted = [("grpc", a.clone(), 2), ("sds", a, 1), ("oauth2", b, 1)];
        assert_eq!(shown(&tallies), counted);
    }

    #[test]
    fn the_next_tally_of_a_destination_goes_on_where_the_last_one_is() {
        let tallies = Tallies::default();
        let last = tally(&tallies, "a");
        last.count(Door::Grpc);
        let next = tally(&tallies, "a");
        for tally in [&next, &last] {
            tally.count(Door::Grpc);
        }
        drop(last);
        tallies.keep();
        next.count(Door::Grpc);
        assert_eq!(shown(&tallies), [("grpc", "a".to_owned(), 4)]);
    }

    #[test]
    fn what_nobody_has_any_more_ends_alone_and_begins_at_nought() {
        let tallies = Tallies::default();
        let [a, b] = ["a", "b"].map(|destination| tally(&tallies, destination));
        a.count(Door::Grpc);
        b.count(Door::Grpc);
        drop(a);
        tallies.keep();
        assert_eq!(shown(&tallies), [("grpc", "b".to_owned(), 1)]);
        let [has_a, has_b] = ["a", "b"].map(|id| tallies.has(&DestinationId::parse(id).unwrap()));
        assert!(!has_a && has_b);
        let a = tally(&tallies, "a");
        assert_eq!(shown(&tallies), [("grpc", "b".to_owned(), 1)]);
        a.count(Door::Grpc);
        assert_eq!(
            shown(&tallies),
            ["a", "b"].map(|id| ("grpc", id.to_owned(), 1))
        );
    }
}
