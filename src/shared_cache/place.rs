//! Where a slot and its host are kept.

use std::{fmt, sync::Arc};

use super::{
    record::Kind,
    ring::{Ring, VERSION},
    store::Name,
};
use crate::{
    credential::CredentialSet,
    destination::{ApplicationName, DestinationId, TokenKey},
};

/// Where replicas keep what they share of one registration.
pub struct Place {
    pub(super) ring: Arc<Ring>,
    pub(super) slot: Spot,
    pub(super) host: Spot,
}

/// Where one thing is kept, and what it is sealed for.
pub struct Spot {
    names: Vec<Name>,
    /// All that says what it is, spelt out; it is never sent.
    subject: Vec<u8>,
}

/// What a spot is for. Equal subjects of two classes have different names.
#[derive(Clone, Copy)]
enum Class {
    Slot = 1,
    Host = 2,
    Quarantine = 3,
}

impl Place {
    /// The place of whatever is minted for this key by this host with these credentials.
    pub fn new(ring: &Arc<Ring>, key: &TokenKey, credentials: &CredentialSet, host: &str) -> Self {
        let mut slot = Subject::default();
        let TokenKey {
            protocol,
            endpoint,
            destination,
            application,
            client_id,
            generation: _, // good for one process only: replicas go by the fingerprint
            scope,
            audience,
            resource,
            parameters,
        } = key;
        slot.text(protocol);
        slot.text(endpoint);
        slot.text(destination.as_str());
        slot.text(application.as_str());
        slot.text(client_id);
        slot.bytes(&ring.fingerprint(credentials));
        slot.option(scope.as_deref());
        slot.option(audience.as_deref());
        slot.count(resource.len());
        for one in resource {
            slot.text(one);
        }
        slot.count(parameters.len());
        for (name, value) in parameters {
            slot.text(name);
            slot.text(value);
        }
        let mut of_host = Subject::default();
        of_host.text(host);
        Self {
            slot: Spot::new(ring, Class::Slot, slot),
            host: Spot::new(ring, Class::Host, of_host),
            ring: Arc::clone(ring),
        }
    }

    /// The names under which a replica may keep this slot.
    pub fn slot_names(&self) -> &[Name] {
        &self.slot.names
    }

    /// The names under which a replica may keep the pause of this host.
    pub fn host_names(&self) -> &[Name] {
        &self.host.names
    }
}

impl Spot {
    fn new(ring: &Ring, class: Class, subject: Subject) -> Self {
        Self {
            names: ring.names(class as u8, &subject.0),
            subject: subject.0,
        }
    }

    /// Where the stop of an application at a destination, or of all of them, is kept.
    pub(super) fn of_quarantine(
        ring: &Ring,
        destination: &DestinationId,
        application: Option<&ApplicationName>,
    ) -> Self {
        let mut subject = Subject::default();
        subject.text(destination.as_str());
        subject.option(application.map(ApplicationName::as_str));
        Self::new(ring, Class::Quarantine, subject)
    }

    /// The name under which it is kept.
    pub(super) fn name(&self) -> Option<&Name> {
        self.names.first()
    }

    /// All names under which it may be found.
    pub(super) fn names(&self) -> &[Name] {
        &self.names
    }

    /// What a value of this kind is sealed for.
    pub(super) fn context(&self, kind: Kind) -> Vec<u8> {
        context(kind, &self.subject)
    }
}

/// What a value is sealed for: the format, what it is, and whose.
pub(super) fn context(kind: Kind, subject: &[u8]) -> Vec<u8> {
    let mut context = Vec::with_capacity(2 + subject.len());
    context.push(VERSION);
    context.push(kind.tag());
    context.extend(subject);
    context
}

/// A subject, spelt so that no two are spelt alike: each part says how long it is.
#[derive(Default)]
struct Subject(Vec<u8>);

impl Subject {
    fn count(&mut self, count: usize) {
        self.0
            .extend(u64::try_from(count).unwrap_or(u64::MAX).to_be_bytes());
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.count(bytes.len());
        self.0.extend(bytes);
    }

    fn text(&mut self, text: &str) {
        self.bytes(text.as_bytes());
    }

    fn option(&mut self, text: Option<&str>) {
        self.0.push(text.is_some().into());
        self.text(text.unwrap_or_default());
    }
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Place of {:?}", self.slot.names)
    }
}
