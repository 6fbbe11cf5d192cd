//! The configured destinations, by every name that callers use for them.

use std::{collections::HashMap, sync::Arc};

use crate::{
    cache::{Edition, Registration},
    destination::{DestinationId, TokenKey},
    policy::Grants,
};

/// All configured destinations. Nothing else gets a slot.
pub struct Catalogue {
    edition: Edition,
    by_name: HashMap<DestinationId, Arc<Listing>>,
    registrations: Vec<Arc<Registration>>,
}

/// A destination with its grants.
pub struct Listing {
    /// Its configured id.
    pub id: DestinationId,
    /// Who may have the tokens of which registration; of none where it is unprotected.
    pub grants: Grants<Option<Arc<Registration>>>,
}

impl Catalogue {
    /// An empty catalogue.
    pub fn new(edition: Edition) -> Self {
        Self {
            edition,
            by_name: HashMap::new(),
            registrations: Vec::new(),
        }
    }

    /// Which catalogue this is.
    pub fn edition(&self) -> Edition {
        self.edition
    }

    /// Adds a destination under its id and, if it has one, its name; and what mints its
    /// tokens. Ids and names are unique: the configuration sees to that.
    pub fn add(
        &mut self,
        listing: Listing,
        name: Option<DestinationId>,
        registrations: impl IntoIterator<Item = Arc<Registration>>,
    ) {
        let listing = Arc::new(listing);
        for name in name.into_iter().chain([listing.id.clone()]) {
            self.by_name.insert(name, Arc::clone(&listing));
        }
        self.registrations.extend(registrations);
    }

    /// The destination with this id or name.
    pub fn find(&self, id_or_name: &DestinationId) -> Option<&Arc<Listing>> {
        self.by_name.get(id_or_name)
    }

    /// Every application that is registered for some destination.
    pub fn registrations(&self) -> impl Iterator<Item = &Arc<Registration>> {
        self.registrations.iter()
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
            let name = (&key.destination, &key.application);
            keys.entry(name).or_default().push(key);
        }
        self.registrations().filter_map(move |registration| {
            let key = &*registration.key;
            let last = keys.get(&(&key.destination, &key.application))?;
            let predecessor = last
                .iter()
                .find(|last| **last != key && last.is_same_but_for_credentials(key))?;
            Some((*predecessor, registration))
        })
    }
}
