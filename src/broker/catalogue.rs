//! The configured destinations, by every name that callers use for them.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use foldhash::fast::RandomState;

use crate::{
    cache::{Edition, Registration},
    destination::{DestinationId, DestinationName, TokenKey},
    metrics::Tally,
    policy::Grants,
    usage::{Callers, Ledger, Mark},
};

/// All configured destinations. Nothing else gets a slot.
pub struct Catalogue {
    edition: Edition,
    ledger: Arc<Ledger>,
    /// All names in it are configured, so a fast hash will do.
    by_name: HashMap<DestinationId, Arc<Listing>, RandomState>,
    listings: Vec<Arc<Listing>>,
    /// So many registrations, from the first on, need not be looked at again for a first try.
    tried: AtomicUsize,
}

/// A destination with its grants.
pub struct Listing {
    /// Its configured id.
    pub id: DestinationId,
    /// Its second name.
    pub name: Option<DestinationId>,
    /// Who may have the tokens of which registration.
    pub grants: Grants<Opening>,
    /// One for each application; none where it is unprotected.
    pub registrations: Vec<Arc<Registration>>,
    /// Where calls to it are counted.
    pub tally: Arc<Tally>,
}

/// What a grant opens, and where its use is noted.
pub struct Opening {
    /// What mints the tokens; nothing where the destination is unprotected.
    pub registration: Option<Arc<Registration>>,
    /// Which grant of its destination this is, counted from one as in the file.
    pub number: usize,
    /// When it was used last.
    pub used: Arc<Mark>,
    /// Who was served with the tokens of that registration, by whichever grant.
    pub served: Arc<Callers>,
}

#[cfg(test)]
impl Listing {
    /// A destination with one registration, whose calls are counted there, for tests.
    pub(crate) fn sample(
        registration: Arc<Registration>,
        callers: crate::policy::CallerPattern,
        metrics: &crate::metrics::Metrics,
    ) -> Self {
        let opening = Opening {
            registration: Some(Arc::clone(&registration)),
            number: 1,
            used: Arc::new(Mark::of(crate::usage::Stamp(0), None)),
            served: Arc::default(),
        };
        let id = registration.key.destination.clone();
        Self {
            tally: metrics.tally(&id),
            id,
            name: None,
            grants: Grants::new([(callers, opening)]),
            registrations: vec![registration],
        }
    }
}

impl Catalogue {
    /// An empty catalogue, with the books on what is going to be in it.
    pub fn new(edition: Edition, ledger: Arc<Ledger>) -> Self {
        Self {
            edition,
            ledger,
            by_name: HashMap::default(),
            listings: Vec::new(),
            tried: AtomicUsize::new(0),
        }
    }

    /// Makes room for so many destinations. There may be ten thousand of them, and whatever
    /// has to grow leaves holes in memory.
    pub fn reserve(&mut self, destinations: usize) {
        self.by_name.reserve(destinations);
        self.listings.reserve_exact(destinations);
    }

    /// Keeps the books on what is in it from now on.
    pub fn keep(&mut self, ledger: Arc<Ledger>) {
        self.ledger = ledger;
    }

    /// Which catalogue this is.
    pub fn edition(&self) -> Edition {
        self.edition
    }

    /// Adds a destination under its id and, if it has one, its name. Ids and names are
    /// unique: the configuration sees to that.
    pub fn add(&mut self, listing: Listing) {
        let listing = Arc::new(listing);
        for name in listing.name.iter().chain([&listing.id]) {
            self.by_name.insert(name.clone(), Arc::clone(&listing));
        }
        self.listings.push(listing);
    }

    /// When everything in it was used last.
    pub fn ledger(&self) -> &Arc<Ledger> {
        &self.ledger
    }

    /// Every destination, in file order.
    pub fn listings(&self) -> impl Iterator<Item = &Arc<Listing>> {
        self.listings.iter()
    }

    /// The destination with this id or name.
    pub fn find<'a>(&self, name: impl Into<DestinationName<'a>>) -> Option<&Arc<Listing>> {
        self.by_name.get(name.into().as_str())
    }

    /// What is registered with this key.
    pub fn registration(&self, key: &TokenKey) -> Option<&Arc<Registration>> {
        let mut registrations = self.find(&key.destination)?.registrations.iter();
        registrations.find(|registration| *registration.key == *key)
    }

    /// Every application that is registered for some destination.
    pub fn registrations(&self) -> impl Iterator<Item = &Arc<Registration>> + Clone {
        let listings = self.listings.iter();
        listings.flat_map(|listing| &listing.registrations)
    }

    /// Whether all that are to be kept warm had their first try. Each is looked at until it had.
    pub(super) fn are_all_tried(&self, is_tried: impl Fn(&Registration) -> bool) -> bool {
        let tried = self.tried.load(Ordering::Relaxed);
        let mut rest = self.registrations().skip(tried);
        let untried = rest.position(|registration| registration.warm && !is_tried(registration));
        if let Some(more) = untried {
            self.tried.fetch_max(tried + more, Ordering::Relaxed);
        }
        untried.is_none()
    }

    /// The registrations that are new, each with the key it had when only its credentials
    /// were others.
    pub(super) fn renewed_since<'a>(
        &'a self,
        last: &'a Self,
    ) -> impl Iterator<Item = (&'a TokenKey, &'a Arc<Registration>)> {
        let mut keys: HashMap<_, Vec<_>> = HashMap::new();
        for registration in last.registrations() {
            let key = &*registration.key;
            let name = key.name();
            keys.entry(name).or_default().push(key);
        }
        self.registrations().filter_map(move |registration| {
            let key = &*registration.key;
            let last = keys.get(&key.name())?;
            let predecessor = last
                .iter()
                .find(|last| **last != key && last.is_same_but_for_credentials(key))?;
            Some((*predecessor, registration))
        })
    }
}
