//! When every grant and every credential was used last.

use std::{
    collections::{BTreeMap, HashMap},
    mem,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use super::{Callers, Stamp};
use crate::identity::CallerId;

/// A grant as it stands in the configuration.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct GrantName {
    /// The id of the destination.
    pub destination: Arc<str>,
    /// The caller pattern.
    pub callers: Arc<str>,
    /// The application; none where the destination is public.
    pub application: Option<Arc<str>>,
}

/// When something was used last, and since when it is known.
#[derive(Debug)]
pub struct Mark {
    known_since: Stamp,
    /// Unix time in seconds; zero when never.
    last_used: AtomicU64,
}

/// The marks of everything that one configuration names. A reload makes the next one, which
/// goes on with the marks of what is in both.
#[derive(Debug, Default)]
pub struct Ledger {
    grants: BTreeMap<GrantName, Entry>,
    credentials: BTreeMap<Arc<str>, Mark>,
    /// By destination and application.
    served: BTreeMap<(Arc<str>, Arc<str>), Arc<Callers>>,
}

#[derive(Debug)]
struct Entry {
    mark: Arc<Mark>,
    /// The credential that its tokens are minted with.
    credential: Option<Arc<str>>,
}

impl Mark {
    /// The mark of something that was known and used then.
    pub fn of(known_since: Stamp, last_used: Option<Stamp>) -> Self {
        Self {
            known_since,
            last_used: AtomicU64::new(last_used.map_or(0, |last| last.0)),
        }
    }

    /// It is used.
    pub fn touch(&self, now: Stamp) {
        // Written once a second, so that callers at other cores can go on reading it.
        if self.last_used.load(Ordering::Relaxed) != now.0 {
            self.last_used.store(now.0, Ordering::Relaxed);
        }
    }

    /// Since when it is known.
    pub fn known_since(&self) -> Stamp {
        self.known_since
    }

    /// When it was used last.
    pub fn last_used(&self) -> Option<Stamp> {
        match self.last_used.load(Ordering::Relaxed) {
            0 => None,
            last => Some(Stamp(last)),
        }
    }

    /// Since when nobody used it; what was never used counts from when it became known.
    pub fn idle_since(&self) -> Stamp {
        self.last_used()
            .map_or(self.known_since, |last| last.max(self.known_since))
    }
}

impl Ledger {
    /// Takes up a grant, and what its tokens are minted with.
    pub fn grant(
        &mut self,
        name: GrantName,
        credential: Option<&Arc<str>>,
        last: &Self,
        now: Stamp,
    ) -> Arc<Mark> {
        // Two lines may say the same; the second is never asked.
        let entry = self.grants.entry(name).or_insert_with_key(|name| {
            let known = last.grants.get(name).map(|entry| Arc::clone(&entry.mark));
            Entry {
                mark: known.unwrap_or_else(|| Arc::new(Mark::of(now, None))),
                credential: credential.map(Arc::clone),
            }
        });
        Arc::clone(&entry.mark)
    }

    /// Takes up credentials, whether or not a grant leads to them.
    pub fn keep_credentials(
        &mut self,
        names: impl IntoIterator<Item = Arc<str>>,
        last: &Self,
        now: Stamp,
    ) {
        let used = last.credentials_used();
        for name in names {
            let known_since = last.credentials.get(&name).map(|mark| mark.known_since);
            let mark = Mark::of(known_since.unwrap_or(now), used.get(&*name).copied());
            self.credentials.insert(name, mark);
        }
    }

    /// Who was served with the tokens of an application at a destination.
    pub fn keep_callers(
        &mut self,
        destination: Arc<str>,
        application: Arc<str>,
        last: &Self,
    ) -> Arc<Callers> {
        let name = (destination, application);
        let callers = self.served.entry(name).or_insert_with_key(|name| {
            let known = last.served.get(name);
            known.map_or_else(Arc::default, Arc::clone)
        });
        Arc::clone(callers)
    }

    /// Gives back what was only of use while more came: nodes that were filled in order are
    /// half empty.
    pub fn shrink(&mut self) {
        fn rebuilt<K: Ord, V>(map: &mut BTreeMap<K, V>) {
            *map = mem::take(map).into_iter().collect();
        }
        rebuilt(&mut self.grants);
        rebuilt(&mut self.credentials);
        rebuilt(&mut self.served);
    }

    /// Who was served with them, as far as this configuration has that application.
    pub fn callers(&self, destination: &str, application: &str) -> Vec<CallerId> {
        let name = (destination.into(), application.into());
        let callers = self.served.get(&name).map(|callers| callers.names());
        callers.into_iter().flatten().cloned().collect()
    }

    /// Takes up a grant as a file has it.
    pub fn restore_grant(&mut self, name: GrantName, mark: Mark) {
        let entry = Entry {
            mark: Arc::new(mark),
            credential: None,
        };
        self.grants.insert(name, entry);
    }

    /// Takes up a credential as a file has it.
    pub fn restore_credential(&mut self, name: String, mark: Mark) {
        self.credentials.insert(name.into(), mark);
    }

    /// Every grant.
    pub fn grants(&self) -> impl Iterator<Item = (&GrantName, &Mark)> {
        self.grants.iter().map(|(name, entry)| (name, &*entry.mark))
    }

    /// Every credential, with the last use of all grants that lead to it.
    pub fn credentials(&self) -> impl Iterator<Item = (&str, Mark)> {
        let used = self.credentials_used();
        let credentials = self.credentials.iter();
        credentials.map(move |(name, mark)| {
            let last_used = used.get(&**name).copied();
            (&**name, Mark::of(mark.known_since, last_used))
        })
    }

    /// A call is noted at its grant alone; here is where that reaches the credential.
    fn credentials_used(&self) -> HashMap<&str, Stamp> {
        let grants = self.grants.values();
        let grants = grants.filter_map(|entry| Some((entry.credential.as_deref()?, &*entry.mark)));
        let before = self.credentials.iter();
        let before = before.map(|(name, mark)| (&**name, mark));
        let mut used = HashMap::new();
        for (name, mark) in grants.chain(before) {
            if let Some(last) = mark.last_used() {
                let latest = used.entry(name).or_insert(last);
                *latest = last.max(*latest);
            }
        }
        used
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(callers: &str) -> GrantName {
        GrantName {
            destination: "d".into(),
            callers: callers.into(),
            application: Some("shop".into()),
        }
    }

    fn shown(ledger: &Ledger) -> Vec<(String, u64, Option<u64>)> {
        let shown = |name: &str, mark: &Mark| {
            let last = mark.last_used().map(|last| last.0);
            (name.to_owned(), mark.known_since().0, last)
        };
        let grants = ledger
            .grants()
            .map(|(name, mark)| shown(&name.callers, mark));
        let credentials = ledger.credentials().map(|(name, mark)| shown(name, &mark));
        grants.chain(credentials).collect()
    }

    #[test]
    fn marks_go_on_by_their_name_and_a_credential_is_used_with_its_grants() {
        let (mut first, none) = (Ledger::default(), Ledger::default());
        let a = first.grant(name("a"), Some(&"file:one".into()), &none, Stamp(10));
        let b = first.grant(name("b"), Some(&"file:one".into()), &none, Stamp(10));
        first.grant(name("c"), Some(&"file:two".into()), &none, Stamp(10));
        let credentials = ["file:one", "file:two", "sealed:spare"];
        first.keep_credentials(credentials.map(Arc::from), &none, Stamp(10));
        a.touch(Stamp(20));
        b.touch(Stamp(15));
        let row = |name: &str, since, last| (name.to_owned(), since, last);
        assert_eq!(
            shown(&first),
            [
                row("a", 10, Some(20)),
                row("b", 10, Some(15)),
                row("c", 10, None),
                row("file:one", 10, Some(20)),
                row("file:two", 10, None),
                row("sealed:spare", 10, None),
            ]
        );

        // The grant that used the credential goes; that it was used stays known.
        let mut second = Ledger::default();
        let again = second.grant(name("b"), Some(&"file:one".into()), &first, Stamp(30));
        second.grant(name("d"), None, &first, Stamp(30));
        second.keep_credentials(["file:one".into()], &first, Stamp(30));
        assert!(Arc::ptr_eq(&again, &b), "a call under way counts as well");
        assert_eq!(
            shown(&second),
            [
                row("b", 10, Some(15)),
                row("d", 30, None),
                row("file:one", 10, Some(20)),
            ]
        );
        assert_eq!(Mark::of(Stamp(10), None).idle_since(), Stamp(10));
        assert_eq!(a.idle_since(), Stamp(20));
    }

    #[test]
    fn callers_go_on_by_destination_and_application() {
        let (mut first, none) = (Ledger::default(), Ledger::default());
        let cart = CallerId::parse("spiffe://td/cart").unwrap();
        first
            .keep_callers("d".into(), "shop".into(), &none)
            .note(&cart);
        let mut second = Ledger::default();
        second.keep_callers("d".into(), "shop".into(), &first);
        second.keep_callers("d".into(), "depot".into(), &first);
        assert_eq!(second.callers("d", "shop"), [cart]);
        assert_eq!(second.callers("d", "depot"), []);
        assert_eq!(second.callers("other", "shop"), []);
    }
}
