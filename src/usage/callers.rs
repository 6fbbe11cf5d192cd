//! The first hundred callers of something, noted without a lock.

use std::{
    iter,
    sync::{
        OnceLock,
        atomic::{AtomicUsize, Ordering},
    },
};

use crate::identity::CallerId;

/// More names than these are not kept.
pub const MOST_CALLERS: usize = 100;
/// Where names are kept when there is more than one. A search looks at so many places of a tier
/// before it goes on to the next.
const TIERS: [Tier; 3] = [
    Tier {
        places: 4,
        looked_at: 4,
    },
    Tier {
        places: 32,
        looked_at: 8,
    },
    // More than there are names, so that a search ends soon.
    Tier {
        places: 256,
        looked_at: 256,
    },
];

struct Tier {
    places: usize,
    looked_at: usize,
}

/// The first callers of something. A name that is known costs a look at its place, and at no
/// more than a dozen others before.
#[derive(Debug, Default)]
pub struct Callers {
    /// Most have one caller, and there may be ten thousand of them.
    first: Place,
    others: OnceLock<Box<Others>>,
    count: AtomicUsize,
}

/// A place for a name. It is never left again, so whoever once found those before it taken
/// still does.
type Place = OnceLock<CallerId>;

/// Places of each tier.
type Others = [OnceLock<Box<[Place]>>; TIERS.len()];

impl Callers {
    /// Notes a caller, unless there are too many.
    pub fn note(&self, caller: &CallerId) {
        // Who is known already need not be found, once nobody new is taken in.
        if self.count.load(Ordering::Relaxed) >= MOST_CALLERS {
            return;
        }
        if self.is_at(&self.first, caller) {
            return;
        }
        let first = place(caller);
        let others = self.others.get_or_init(Box::default);
        for (places, tier) in others.iter().zip(TIERS) {
            let places = places.get_or_init(|| (0..tier.places).map(|_| Place::new()).collect());
            let from_there = places.iter().cycle().skip(first % tier.places);
            let mut looked_at = from_there.take(tier.looked_at);
            if looked_at.any(|place| self.is_at(place, caller)) {
                return;
            }
        }
    }

    /// Whether this is the caller's place, who takes it if it is free.
    fn is_at(&self, place: &Place, caller: &CallerId) -> bool {
        let there = place.get_or_init(|| {
            self.count.fetch_add(1, Ordering::Relaxed);
            caller.clone()
        });
        there == caller
    }

    /// Their names in order, no more than [`MOST_CALLERS`].
    pub fn names(&self) -> Vec<&CallerId> {
        let others = self
            .others
            .get()
            .into_iter()
            .flat_map(|others| others.iter());
        let others = others.filter_map(OnceLock::get).flatten();
        let places = iter::once(&self.first).chain(others);
        let mut names: Vec<_> = places.filter_map(OnceLock::get).collect();
        names.sort_unstable();
        names.truncate(MOST_CALLERS);
        names
    }
}

/// Where a search begins. Names differ at their ends, and a poor spread only costs a few
/// comparisons, so a hash of the whole would be too much.
fn place(caller: &CallerId) -> usize {
    let text = caller.as_str().as_bytes();
    let end = text.last_chunk().copied().unwrap_or([0; 8]);
    let mixed = u64::from_le_bytes(end).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    usize::from(mixed.to_be_bytes()[0])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn caller(n: usize) -> CallerId {
        CallerId::parse(&format!("spiffe://td/ns/shop/sa/caller-{n:04}")).unwrap()
    }

    #[test]
    fn every_caller_is_noted_once() {
        let callers = Callers::default();
        assert!(callers.names().is_empty());
        for n in [3, 1, 2, 1, 3, 3] {
            callers.note(&caller(n));
        }
        let short = CallerId::parse("a.b").unwrap();
        callers.note(&short);
        let expected = [short, caller(1), caller(2), caller(3)];
        assert_eq!(callers.names(), expected.iter().collect::<Vec<_>>());
    }

    #[test]
    fn no_more_than_a_hundred_are_kept_whoever_comes_at_once() {
        let callers = Callers::default();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..5000).for_each(|n| callers.note(&caller(n % 250))));
            }
        });
        let names = callers.names();
        assert_eq!(names.len(), MOST_CALLERS);
        assert!(names.windows(2).all(|pair| pair[0] < pair[1]), "each once");
    }
}
