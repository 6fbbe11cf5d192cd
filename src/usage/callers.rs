//! The first hundred callers of something, noted without a lock.

use std::sync::{
    OnceLock,
    atomic::{AtomicUsize, Ordering},
};

use crate::identity::CallerId;

/// More names than these are not kept.
pub const MOST_CALLERS: usize = 100;
/// Where names are kept: most destinations have few callers, so there are few places at first.
/// A search looks at so many places of a tier before it goes on to the next.
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
    tiers: [OnceLock<Box<[OnceLock<CallerId>]>>; TIERS.len()],
    count: AtomicUsize,
}

impl Callers {
    /// Notes a caller, unless there are too many.
    pub fn note(&self, caller: &CallerId) {
        // Who is known already need not be found, once nobody new is taken in.
        if self.count.load(Ordering::Relaxed) >= MOST_CALLERS {
            return;
        }
        let first = place(caller);
        // A place is never left again, so whoever once found those before it taken still does.
        for (places, tier) in self.tiers.iter().zip(TIERS) {
            let places = places.get_or_init(|| (0..tier.places).map(|_| OnceLock::new()).collect());
            let from_there = places.iter().cycle().skip(first % tier.places);
            for place in from_there.take(tier.looked_at) {
                let mut is_new = false;
                let there = place.get_or_init(|| {
                    is_new = true;
                    caller.clone()
                });
                if is_new {
                    self.count.fetch_add(1, Ordering::Relaxed);
                }
                if there == caller {
                    return;
                }
            }
        }
    }

    /// Their names in order, no more than [`MOST_CALLERS`].
    pub fn names(&self) -> Vec<&CallerId> {
        let tiers = self.tiers.iter().filter_map(OnceLock::get);
        let mut names: Vec<_> = tiers.flatten().filter_map(OnceLock::get).collect();
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
