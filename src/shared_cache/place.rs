//! Where a slot and its host are kept.

use std::{fmt, iter, sync::Arc};

use super::{
    record::Kind,
    ring::{Key, Ring, VERSION},
    sealed::Sealed,
    store::Name,
};
use crate::{
    credential::CredentialSet,
    destination::{ApplicationName, AskedFor, DestinationId, TokenKey},
};

/// Where replicas keep what they share of one registration.
pub struct Place {
    pub(super) ring: Arc<Ring>,
    pub(super) slot: Spot,
    pub(super) host: Spot,
}

/// Where one thing is kept, and what it is sealed for.
pub struct Spot {
    /// The name for each key of the ring: the one under which it is kept, and during a
    /// rotation the one under which it may still be found.
    names: Vec<Name>,
    /// All that says what it is, spelt out, for each key in the same order; it is never sent.
    subjects: Vec<Vec<u8>>,
}

/// What a spot is for. Equal subjects of two classes have different names.
#[derive(Clone, Copy)]
enum Class {
    Slot = 1,
    Host = 2,
    Quarantine = 3,
    Replica = 4,
}

impl Place {
    /// The place of whatever is minted for this key by this host with these credentials.
    pub fn new(ring: &Arc<Ring>, key: &TokenKey, credentials: &CredentialSet, host: &str) -> Self {
        let slot = |ring_key: &Key| {
            let mut slot = Subject::default();
            let TokenKey {
                protocol,
                endpoint,
                destination,
                application,
                client_id,
                generation: _, // good for one process only: replicas go by the fingerprint
                asked,
            } = key;
            let AskedFor {
                scope,
                audience,
                resource,
                parameters,
            } = &**asked;
            slot.text(protocol);
            slot.text(endpoint);
            slot.text(destination.as_str());
            slot.text(application.as_str());
            slot.text(client_id);
            // By the same key as the name, whichever key another replica has first.
            slot.bytes(&ring_key.fingerprint(credentials));
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
            slot
        };
        let of_host = |_: &Key| {
            let mut of_host = Subject::default();
            of_host.text(host);
            of_host
        };
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
    fn new(ring: &Ring, class: Class, subject: impl Fn(&Key) -> Subject) -> Self {
        let keys = ring.keys();
        let subjects: Vec<_> = keys.iter().map(|key| subject(key).0).collect();
        let names = keys.iter().zip(&subjects);
        Self {
            names: names
                .map(|(key, subject)| key.name(class as u8, subject))
                .collect(),
            subjects,
        }
    }

    /// Where the stop of an application at a destination, or of all of them, is kept.
    pub(super) fn of_quarantine(
        ring: &Ring,
        destination: &DestinationId,
        application: Option<&ApplicationName>,
    ) -> Self {
        Self::new(ring, Class::Quarantine, |_| {
            let mut subject = Subject::default();
            subject.text(destination.as_str());
            subject.option(application.map(ApplicationName::as_str));
            subject
        })
    }

    /// Where a replica of this namespace tells of itself.
    pub(super) fn of_replica(ring: &Ring, namespace: &str, id: u128) -> Self {
        Self::new(ring, Class::Replica, |_| {
            let mut subject = Subject::default();
            subject.text(namespace);
            subject.bytes(&id.to_be_bytes());
            subject
        })
    }

    /// The name under which it is kept.
    pub(super) fn name(&self) -> Option<&Name> {
        self.names.first()
    }

    /// All names under which it may be found.
    pub(super) fn names(&self) -> &[Name] {
        &self.names
    }

    /// Seals a value of this kind for here, with the first key.
    pub(super) fn seal(&self, ring: &Ring, kind: Kind, value: &[u8]) -> Option<Sealed> {
        let context = self.contexts(kind).next()?;
        ring.seal(&context, value)
    }

    /// What a value of this kind is sealed for, with each key.
    pub(super) fn contexts(&self, kind: Kind) -> impl Iterator<Item = Vec<u8>> {
        let subjects = self.subjects.iter();
        subjects.map(move |subject| context(kind, subject))
    }
}

/// What any quarantine is sealed for: whoever opens it does not know yet whose it is, and
/// compares its name with what it says.
pub(super) fn of_any_quarantine() -> impl Iterator<Item = Vec<u8>> {
    iter::repeat_with(|| context(Kind::Quarantine, &[]))
}

/// What the word of any replica of this namespace is sealed for, for the same reason. Fleets with
/// one key may share a server by namespaces, and whoever writes there could show one's to another.
pub(super) fn of_any_replica(namespace: &str) -> impl Iterator<Item = Vec<u8>> {
    let mut subject = Subject::default();
    subject.text(namespace);
    iter::repeat_with(move || context(Kind::Replica, &subject.0))
}

/// What a value is sealed for: the format, what it is, and whose.
fn context(kind: Kind, subject: &[u8]) -> Vec<u8> {
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{
        credential::{Credential, CredentialRef, Proof},
        destination::{Generation, any_key},
        secret::Secret,
    };

    /// What a credential is made of: the client id, the secret or the key, and the key's id.
    type Parts = (String, bool, String, Option<String>);

    fn credentials(parts: &[Parts]) -> CredentialSet {
        let credential = |(client_id, is_key, text, key_id): &Parts| {
            let secret = Secret::new(text.clone());
            let proof = if *is_key {
                Proof::PrivateKey {
                    pem: secret,
                    key_id: key_id.clone(),
                }
            } else {
                Proof::ClientSecret(secret)
            };
            let reference = CredentialRef::File("app".to_owned());
            Arc::new(Credential::new(&reference, client_id.clone(), proof))
        };
        CredentialSet {
            current: credential(&parts[0]),
            next: parts.get(1).map(credential),
        }
    }

    /// Parts that often agree, and that often look like one another.
    fn any_parts() -> impl Strategy<Value = Vec<Parts>> {
        let text = || {
            prop_oneof![
                "[a-b]{0,2}",
                Just("key".to_owned()),
                Just("secret".to_owned())
            ]
        };
        let key_id = proptest::option::of("[a-b]{0,1}");
        let one = (text(), any::<bool>(), text(), key_id).prop_map(|(id, is_key, text, key_id)| {
            let key_id = key_id.filter(|_| is_key);
            (id, is_key, text, key_id)
        });
        proptest::collection::vec(one, 1..3)
    }

    fn place(ring: &Arc<Ring>, key: &TokenKey, parts: &[Parts], host: &str) -> Place {
        Place::new(ring, key, &credentials(parts), host)
    }

    /// Whether what is sealed for one place opens at another.
    fn opens(one: &Place, other: &Place, pick: fn(&Place) -> &Spot, kind: Kind) -> bool {
        let context = pick(one).contexts(kind).next().unwrap();
        let sealed = one.ring.seal(&context, b"canary").unwrap();
        let opened = other.ring.open(pick(other).contexts(kind), &sealed);
        opened.is_ok_and(|value| *value == b"canary")
    }

    fn meet(one: &Spot, other: &Spot) -> bool {
        one.names.iter().any(|name| other.names.contains(name))
    }

    proptest! {
        #[test]
        fn any_changed_field_is_another_place(
            (key, other) in (any_key(), any_key()),
            (parts, other_parts) in (any_parts(), any_parts()),
            field in 0..11_usize,
        ) {
            let mut changed = key.clone();
            let mut changed_parts = parts.clone();
            let (asked, other_asked) = (Arc::make_mut(&mut changed.asked), AskedFor::clone(&other.asked));
            match field {
                0 => changed.protocol = other.protocol,
                1 => changed.endpoint = other.endpoint,
                2 => changed.destination = other.destination,
                3 => changed.application = other.application,
                4 => changed.client_id = other.client_id,
                5 => asked.scope = other_asked.scope,
                6 => asked.audience = other_asked.audience,
                7 => asked.resource = other_asked.resource,
                8 => asked.parameters = other_asked.parameters,
                9 => changed_parts = other_parts,
                // Good for one process only.
                _ => changed.generation = Generation(7),
            }
            let same = field == 10 || (key == changed && parts == changed_parts);
            // Each replica has a ring of its own.
            let one = place(&Ring::sample(&[1, 2]), &key, &parts, "host:443");
            let another = place(&Ring::sample(&[1, 2]), &changed, &changed_parts, "host:443");
            prop_assert_eq!(meet(&one.slot, &another.slot), same);
            for kind in [Kind::Token, Kind::Failure] {
                prop_assert_eq!(opens(&one, &another, |place| &place.slot, kind), same);
            }
            prop_assert!(opens(&one, &another, |place| &place.host, Kind::Pause));
        }

        #[test]
        fn another_host_is_another_place(one in "[a-c]{0,2}:[0-9]", other in "[a-c]{0,2}:[0-9]") {
            let same = one == other;
            let (key, parts) = (TokenKey::sample("d"), [Parts::default()]);
            let [one, other] = [one, other].map(|host| place(&Ring::sample(&[1]), &key, &parts, &host));
            prop_assert_eq!(meet(&one.host, &other.host), same);
            prop_assert_eq!(opens(&one, &other, |place| &place.host, Kind::Pause), same);
        }
    }

    #[test]
    fn replicas_meet_while_they_share_a_key_whichever_is_first() {
        let (key, parts) = (TokenKey::sample("d"), [Parts::default()]);
        let rings: [&[u8]; 6] = [&[1], &[2], &[1, 2], &[2, 1], &[3], &[3, 1]];
        for one in rings {
            for other in rings {
                let at = |keys| place(&Ring::sample(keys), &key, &parts, "host:443");
                let [a, b] = [at(one), at(other)];
                let share = one.iter().any(|key| other.contains(key));
                assert_eq!(meet(&a.slot, &b.slot), share, "{one:?} {other:?}");
                assert_eq!(meet(&a.host, &b.host), share, "{one:?} {other:?}");
                // The first key seals.
                let opened = other.contains(&one[0]);
                assert_eq!(opens(&a, &b, |place| &place.slot, Kind::Token), opened);
                assert_eq!(opens(&a, &b, |place| &place.host, Kind::Pause), opened);
                let found = b.slot.names.contains(a.slot.name().unwrap());
                assert_eq!(found, opened, "{one:?} {other:?}: it is looked for as well");
            }
        }
    }

    #[test]
    fn a_kind_does_not_pass_for_another() {
        let (key, parts) = (TokenKey::sample("d"), [Parts::default()]);
        let place = place(&Ring::sample(&[1]), &key, &parts, "host:443");
        for sealed_as in Kind::ALL {
            let context = place.slot.contexts(sealed_as).next().unwrap();
            let sealed = place.ring.seal(&context, b"canary").unwrap();
            for opened_as in Kind::ALL {
                let opened = place.ring.open(place.slot.contexts(opened_as), &sealed);
                assert_eq!(opened.is_ok(), sealed_as == opened_as);
            }
        }
    }

    #[test]
    fn subjects_of_two_classes_have_different_names() {
        let ring = Ring::sample(&[1]);
        let subject = |_: &Key| {
            let mut subject = Subject::default();
            subject.text("d");
            subject.option(None);
            subject
        };
        let classes = [Class::Slot, Class::Host, Class::Quarantine, Class::Replica];
        let spots = classes.map(|class| Spot::new(&ring, class, subject));
        for (i, one) in spots.iter().enumerate() {
            for (j, other) in spots.iter().enumerate() {
                assert_eq!(meet(one, other), i == j);
            }
        }
    }

    #[test]
    fn replicas_have_names_of_their_own_in_each_namespace() {
        let ring = Ring::sample(&[1]);
        let all = [("a", 1), ("a", 2), ("b", 1), ("", 1)];
        let spots = all.map(|(namespace, id)| Spot::of_replica(&ring, namespace, id));
        for (i, one) in spots.iter().enumerate() {
            for (j, other) in spots.iter().enumerate() {
                assert_eq!(meet(one, other), i == j);
            }
        }
        for (one, _) in all {
            let sealed = of_any_replica(one).next();
            let sealed = ring.seal(&sealed.unwrap(), b"canary").unwrap();
            for (other, _) in all {
                let opened = ring.open(of_any_replica(other), &sealed);
                assert_eq!(opened.is_ok(), one == other);
            }
        }
    }

    #[test]
    fn a_stop_of_all_applications_has_no_name_of_one() {
        let ring = Ring::sample(&[1]);
        let destination = |id| DestinationId::parse(id).unwrap();
        let application = |name| ApplicationName::parse(name).unwrap();
        let (shop, d) = (application("shop"), application("d"));
        let spots = [
            ("d", None),
            ("d", Some(&shop)),
            ("d", Some(&d)),
            ("shop", None),
            ("shop", Some(&d)),
        ]
        .map(|(id, application)| Spot::of_quarantine(&ring, &destination(id), application));
        for (i, one) in spots.iter().enumerate() {
            for (j, other) in spots.iter().enumerate() {
                assert_eq!(meet(one, other), i == j);
            }
        }
    }
}
