//! When every grant and every credential was used last.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use super::{Callers, Stamp, register::Register};
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
    grants: Register<GrantName, Entry>,
    credentials: Register<Arc<str>, Mark>,
    served: Register<ServedName, Arc<Callers>>,
}

/// A ledger that is being made.
#[derive(Debug)]
pub struct OpenLedger<'a> {
    last: &'a Ledger,
    now: Stamp,
    grants: Vec<(GrantName, Entry)>,
    credentials: Vec<(Arc<str>, Mark)>,
    served: Vec<(ServedName, Arc<Callers>)>,
}

/// A destination, and an application of it.
type ServedName = (Arc<str>, Arc<str>);

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

impl OpenLedger<'_> {
    /// Makes room for so many grants, and for the callers of so many applications.
    pub fn reserve(&mut self, grants: usize, applications: usize) {
        self.grants.reserve_exact(grants);
        self.served.reserve_exact(applications);
    }

    /// Takes up a grant, and what its tokens are minted with.
    pub fn grant(&mut self, name: GrantName, credential: Option<&Arc<str>>) -> Arc<Mark> {
        let known = self.last.grants.get(&name).map(|entry| &entry.mark);
        let mark = match known {
            Some(known) => Arc::clone(known),
            None => Arc::new(Mark::of(self.now, None)),
        };
        let entry = Entry {
            mark: Arc::clone(&mark),
            credential: credential.map(Arc::clone),
        };
        // Two lines may say the same; the second is never asked, and the first one counts.
        self.grants.push((name, entry));
        mark
    }

    /// Takes up credentials, whether or not a grant leads to them.
    pub fn keep_credentials(&mut self, names: impl IntoIterator<Item = Arc<str>>) {
        let used = self.last.credentials_used();
        self.credentials.extend(names.into_iter().map(|name| {
            let known = self.last.credentials.get(&name);
            let known_since = known.map_or(self.now, |mark| mark.known_since);
            let mark = Mark::of(known_since, used.get(&*name).copied());
            (name, mark)
        }));
    }

    /// Who was served with the tokens of an application at a destination. All applications of
    /// one destination come one after the other.
    pub fn keep_callers(&mut self, destination: &Arc<str>, application: Arc<str>) -> Arc<Callers> {
        let mut of_destination =
            (self.served.iter().rev()).take_while(|((known, _), _)| known == destination);
        let known = of_destination.find(|((_, known), _)| *known == application);
        if let Some((_, callers)) = known {
            return Arc::clone(callers);
        }
        let name = (Arc::clone(destination), application);
        let last = self.last.served.get(&name);
        let callers = last.map_or_else(Arc::default, Arc::clone);
        self.served.push((name, Arc::clone(&callers)));
        callers
    }

    /// The whole.
    pub fn close(self) -> Ledger {
        Ledger {
            grants: Register::new(self.grants),
            credentials: Register::new(self.credentials),
            served: Register::new(self.served),
        }
    }
}

impl Ledger {
    /// What a file has of grants and credentials.
    pub fn restored(
        grants: impl IntoIterator<Item = (GrantName, Mark)>,
        credentials: impl IntoIterator<Item = (Arc<str>, Mark)>,
    ) -> Self {
        let grants = grants.into_iter().map(|(name, mark)| {
            let entry = Entry {
                mark: Arc::new(mark),
                credential: None,
            };
            (name, entry)
        });
        Self {
            grants: Register::new(grants.collect()),
            credentials: Register::new(credentials.into_iter().collect()),
            served: Register::default(),
        }
    }

    /// The next one, which is made `now`.
    pub fn next(&self, now: Stamp) -> OpenLedger<'_> {
        OpenLedger {
            last: self,
            now,
            grants: Vec::new(),
            credentials: Vec::new(),
            served: Vec::new(),
        }
    }

    /// Who was served with them, as far as this configuration has that application.
    pub fn callers(&self, destination: &str, application: &str) -> Vec<CallerId> {
        let name = (destination.into(), application.into());
        let callers = self.served.get(&name).map(|callers| callers.names());
        callers.into_iter().flatten().cloned().collect()
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
        let grants = self.grants.iter().map(|(_, entry)| entry);
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
        let none = Ledger::default();
        let mut first = none.next(Stamp(10));
        let a = first.grant(name("a"), Some(&"file:one".into()));
        let b = first.grant(name("b"), Some(&"file:one".into()));
        first.grant(name("c"), Some(&"file:two".into()));
        // The same once more is never asked.
        first.grant(name("a"), Some(&"file:two".into()));
        first.keep_credentials(["file:one", "file:two", "sealed:spare", "file:one"].map(Arc::from));
        let first = first.close();
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
        let mut second = first.next(Stamp(30));
        let again = second.grant(name("b"), Some(&"file:one".into()));
        second.grant(name("d"), None);
        second.keep_credentials(["file:one".into()]);
        let second = second.close();
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
        let none = Ledger::default();
        let mut first = none.next(Stamp(10));
        let cart = CallerId::parse("spiffe://td/cart").unwrap();
        let d = Arc::from("d");
        let noted = [first.keep_callers(&d, "shop".into()), {
            first.keep_callers(&d, "depot".into());
            first.keep_callers(&d, "shop".into())
        }];
        assert!(Arc::ptr_eq(&noted[0], &noted[1]));
        noted[0].note(&cart);
        let first = first.close();
        let mut second = first.next(Stamp(20));
        second.keep_callers(&d, "shop".into());
        second.keep_callers(&d, "depot".into());
        let second = second.close();
        assert_eq!(second.callers("d", "shop"), [cart]);
        assert_eq!(second.callers("d", "depot"), []);
        assert_eq!(second.callers("other", "shop"), []);
    }
}
