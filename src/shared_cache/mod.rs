//! What replicas of the broker share, so that a fleet mints each token once.
//!
//! A Redis server takes part, but is never trusted and never needed: what is kept there is
//! sealed, what comes from there is opened or thrown away, and whatever goes wrong with it is
//! a miss.
//!
//! | file | holds |
//! |---|---|
//! | `ring` | the keys that seal, name and fingerprint; one or, during a rotation, two |
//! | `place` | where a slot and its host are kept: their names, and what they are sealed for |
//! | `sealed` | a sealed value, as others see it |
//! | `record` | what is in it: a token, a failure, a pause, a quarantine or a replica |
//! | `presence` | how replicas know of each other, each of which is a `replica` |
//! | `store` | the seam: what any store can do, and how it fails |
//! | `redis/` | the one store that there is; the only room that names redis |
//! | `settings` | which servers, and how they are reached |

mod place;
mod presence;
mod record;
mod redis;
mod replica;
mod ring;
mod sealed;
mod settings;
#[cfg(test)]
pub(crate) mod shelf;
mod store;

use std::{
    collections::{HashMap, HashSet},
    fmt,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, SystemTime},
};

use arc_swap::ArcSwapOption;
use tokio::{
    sync::{mpsc, watch},
    time::timeout,
};
use tracing::warn;

use self::{
    place::of_any_quarantine,
    presence::Presence,
    record::{Kind, Pause},
    ring::{NotOurs, Unopened},
    sealed::{Head, Sealed},
    store::{Beginning, Entry, Kept, Store, Turn},
};
pub use self::{
    place::{Place, Spot},
    record::{CLOCKS_DIFFER, SharedFailure, SharedToken, Untimely},
    redis::Link,
    replica::Replica,
    ring::{InvalidKey, Ring},
    settings::{HostPort, Login, Servers, Settings, Tls},
    store::{Message, Name, Trouble},
};
pub use crate::usage::SharedQuarantine;
use crate::{
    clock::{self, Instant},
    metrics::Metrics,
    process,
    token::Token,
};

/// A flight of a broker that has just started waits no longer than this for the first
/// connection, since what it would mint may be there already.
const FIRST_CONNECTION: Duration = Duration::from_secs(1);

/// As many values as a flight remembers: each is told to the store when it asks for the turn.
const MOST_SEEN: usize = 16;

/// What replicas share. Without servers nothing is shared, and nothing waits.
pub struct SharedCache {
    store: Arc<dyn Store>,
    /// What everything that is not a slot's is sealed with; `None` while nothing is shared.
    ring: ArcSwapOption<Ring>,
    /// What the link goes by.
    settings: watch::Sender<Option<Settings>>,
    metrics: Arc<Metrics>,
    /// What was wrong with the last answer of the store, if anything was.
    trouble: Mutex<Option<Trouble>>,
    /// How many quarantines could not be opened the last time.
    unopened: AtomicUsize,
    /// What it tells the others of itself, and what it has heard of them.
    presence: Presence,
}

/// What was found at a slot's place.
#[derive(Debug)]
pub enum Found {
    /// A replica minted this token.
    Token(SharedToken),
    /// A replica's flight failed.
    Failure(SharedFailure),
}

/// What a flight is to do.
#[derive(Debug)]
pub enum Begun {
    /// Look at this, which was not seen before.
    Found(Vec<Found>),
    /// Mint, and tell the others: no other replica does.
    Granted(Lease),
    /// Wait: another replica mints, for at most so long.
    Held(Duration),
    /// Mint without knowing what the others do: the store cannot be asked.
    Alone,
}

/// What a flight has seen at its place, and does not want.
#[derive(Debug, Default)]
pub struct Seen(Vec<Head>);

/// The right to mint for all replicas, for a while. One that is dropped is given back.
pub struct Lease {
    store: Arc<dyn Store>,
    name: Name,
    /// `None` once it has ended.
    turn: Option<Turn>,
}

/// What there is to hear from the others.
#[derive(Debug)]
pub enum News {
    /// The store can be asked again: something may have been missed.
    Connected,
    /// Something was kept just now.
    Told(Message),
}

/// What came of minting, for all replicas.
#[derive(Clone, Copy, Debug)]
pub enum Outcome<'a> {
    /// A token.
    Token(&'a Token),
    /// A failure.
    Failure(SharedFailure),
    /// Nothing that is of use to them.
    Nothing,
}

impl SharedCache {
    /// What replicas share by these settings, if there are any, and the link that reaches it
    /// for as long as it is run. What others tell is sent to `news`.
    pub fn new(
        settings: Option<Settings>,
        metrics: &Arc<Metrics>,
        news: mpsc::Sender<News>,
    ) -> (Self, Link) {
        let ring = settings.as_ref().map(|settings| Arc::clone(&settings.ring));
        let settings = watch::Sender::new(settings);
        let (store, link) = redis::link(settings.subscribe(), Arc::clone(metrics), news);
        let shared = Self {
            settings,
            ..Self::over(store, ring, Arc::clone(metrics))
        };
        (shared, link)
    }

    /// Nothing that is shared, for tests.
    #[cfg(test)]
    pub(crate) fn off() -> Arc<Self> {
        let store = Arc::new(shelf::Shelf::default());
        Arc::new(Self::over(store, None, Arc::default()))
    }

    pub(crate) fn over(
        store: Arc<dyn Store>,
        ring: Option<Arc<Ring>>,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self {
            store,
            ring: ArcSwapOption::new(ring),
            settings: watch::Sender::new(None),
            metrics,
            trouble: Mutex::default(),
            unopened: AtomicUsize::new(0),
            presence: Presence::new(&process::host_name()),
        }
    }

    /// Whether anything is shared.
    pub fn is_on(&self) -> bool {
        self.ring.load().is_some()
    }

    /// Why the store cannot be asked, or else what was wrong with its last answer, if something
    /// is to be shared.
    pub fn trouble(&self) -> Option<Trouble> {
        let last = || *self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        let trouble = self.store.trouble().or_else(last);
        trouble.filter(|_| self.is_on())
    }

    /// Goes on with other settings from now on, or shares nothing any more. The connection is
    /// made anew only if they differ.
    pub fn replace(&self, settings: Option<Settings>) {
        let ring = settings.as_ref().map(|settings| Arc::clone(&settings.ring));
        self.ring.store(ring);
        self.settings.send_if_modified(|last| {
            let differ = *last != settings;
            *last = settings;
            differ
        });
    }

    /// Waits until the store was reached for the first time, but not for long.
    pub async fn settled(&self) {
        // Whoever waited in vain goes on alone.
        let _ = timeout(FIRST_CONNECTION, self.store.settled()).await;
    }

    /// What is kept for a slot and was not seen before; it is seen from now on. `None` if the
    /// store cannot be asked.
    pub async fn look(&self, place: &Place, seen: &mut Seen) -> Option<Vec<Found>> {
        let mut found = Vec::new();
        for name in place.slot.names() {
            let entries = self.ask("look", self.store.look(name)).await?;
            found.extend(self.open_all(place, entries, seen));
            if !found.is_empty() {
                break;
            }
        }
        Some(found)
    }

    /// Asks for the turn to mint, for as long as `life`.
    pub async fn begin(&self, place: &Place, seen: &mut Seen, life: Duration) -> Begun {
        /// So often may something else lie at the place that cannot be opened.
        const TRIES: usize = 3;
        let Some(name) = place.slot.name() else {
            return Begun::Alone;
        };
        for _ in 0..TRIES {
            let beginning = self.store.begin(name, &seen.0, life);
            match self.ask("begin", beginning).await {
                None => return Begun::Alone,
                Some(Beginning::Held(left)) => return Begun::Held(left),
                Some(Beginning::Granted(turn)) => {
                    return Begun::Granted(Lease {
                        store: Arc::clone(&self.store),
                        name: *name,
                        turn: Some(turn),
                    });
                }
                Some(Beginning::Found(entries)) => {
                    let found = self.open_all(place, entries, seen);
                    if !found.is_empty() {
                        return Begun::Found(found);
                    }
                }
            }
        }
        Begun::Alone
    }

    /// Keeps what came of minting for the others, and gives the lease back.
    pub async fn finish(&self, place: &Place, lease: Option<Lease>, outcome: Outcome<'_>) {
        let kept = match outcome {
            Outcome::Token(token) => {
                let (value, lasts) = SharedToken::encode(token);
                kept(place, Kind::Token, &value, lasts)
            }
            Outcome::Failure(failure) => {
                let lasts = left(failure.retry_at);
                kept(place, Kind::Failure, &failure.encode(), lasts)
            }
            Outcome::Nothing => None,
        };
        let Some(name) = place.slot.name() else {
            return;
        };
        if kept.is_none() && lease.is_none() {
            return;
        }
        let turn = lease.and_then(|mut lease| lease.turn.take());
        let finishing = self.store.finish(name, turn.as_ref(), kept);
        if self.ask("finish", finishing).await == Some(false) {
            self.metrics.shared_cache("finish", "lease_lost");
        }
    }

    /// Forgets what is kept for a slot, so that nobody takes it up again.
    pub async fn forget(&self, place: &Place) {
        for name in place.slot.names() {
            self.ask("forget", self.store.forget(name)).await;
        }
    }

    /// Until when the host of a place is to be left alone, if a replica knows.
    pub async fn pause(&self, place: &Place) -> Option<SystemTime> {
        for name in place.host.names() {
            let sealed = self.ask("pause", self.store.pause(name)).await.flatten();
            let pause = sealed.and_then(|sealed| self.open_pause(place, &sealed));
            if pause.is_some() {
                return pause;
            }
        }
        None
    }

    /// Tells the others that a host asks to be left alone.
    pub async fn keep_pause(&self, place: &Place, until: SystemTime) {
        let sealed = place
            .host
            .seal(&place.ring, Kind::Pause, &Pause { until }.encode());
        if let (Some(name), Some(sealed)) = (place.host.name(), sealed) {
            let keeping = self.store.keep_pause(name, sealed, left(until));
            self.ask("keep_pause", keeping).await;
        }
    }

    /// What operators stopped and released, as far as it is kept. `None` if nothing is
    /// shared, or if the store cannot be asked.
    pub async fn quarantines(&self) -> Option<Vec<SharedQuarantine>> {
        let ring = self.ring.load_full()?;
        let kept = self.ask("quarantines", self.store.quarantines()).await?;
        let mut last: HashMap<_, SharedQuarantine> = HashMap::new();
        let mut is_elsewhere = HashSet::new();
        let mut unopened = 0;
        for (name, sealed) in kept {
            let Some((act, spot)) = self.open_quarantine(&ring, &name, &sealed) else {
                unopened += 1;
                continue;
            };
            let Some(first) = spot.name() else { continue };
            if name != *first {
                is_elsewhere.insert(*first);
            }
            let known = last.entry(*first).or_insert_with(|| act.clone());
            if known.rank() < act.rank() {
                *known = act;
            }
        }
        let before = self.unopened.swap(unopened, Ordering::Relaxed);
        if unopened > 0 && before != unopened {
            warn!(
                unopened,
                "quarantines of other replicas cannot be opened: is the sealing key the same everywhere?"
            );
        }
        // What lies where another key names it moves to where the first one does: nobody could
        // open it any more when that other key is gone.
        for name in is_elsewhere {
            if let Some(act) = last.get(&name) {
                self.keep_quarantine(act).await;
            }
        }
        Some(last.into_values().collect())
    }

    /// Tells the others what an operator stopped or released. Says whether it is kept.
    pub async fn keep_quarantine(&self, quarantine: &SharedQuarantine) -> bool {
        let Some(ring) = self.ring.load_full() else {
            return false;
        };
        let SharedQuarantine {
            destination,
            application,
            ..
        } = quarantine;
        let spot = Spot::of_quarantine(&ring, destination, application.as_ref());
        let context = of_any_quarantine().next();
        let sealed = context.and_then(|context| ring.seal(&context, &quarantine.encode()));
        let Some(sealed) = sealed else {
            return false;
        };
        let keeping = self.store.keep_quarantine(spot.names(), sealed);
        self.ask("keep_quarantine", keeping).await.is_some()
    }

    /// What a message says about a slot, if it is about that.
    pub fn open(&self, place: &Place, message: &Message) -> Option<Found> {
        let about_this = place.slot.names().contains(&message.name);
        let entry = Entry {
            kind: message.kind,
            sealed: message.sealed.clone(),
        };
        about_this.then(|| self.open_entry(place, &entry)).flatten()
    }

    /// Until when a message says that the host of a place is to be left alone, if it is about that.
    pub fn open_host(&self, place: &Place, message: &Message) -> Option<SystemTime> {
        let about_this = message.kind == Kind::Pause && place.host.names().contains(&message.name);
        about_this
            .then(|| self.open_pause(place, &message.sealed))
            .flatten()
    }

    /// What a message says that an operator did, if it is about that.
    pub fn open_act(&self, message: &Message) -> Option<SharedQuarantine> {
        let about_this = message.kind == Kind::Quarantine;
        let ring = self.ring.load_full().filter(|_| about_this)?;
        let opened = self.open_quarantine(&ring, &message.name, &message.sealed);
        opened.map(|(act, _)| act)
    }

    /// Counts what became of something that was shared.
    pub fn count(&self, operation: &'static str, outcome: &'static str) {
        self.metrics.shared_cache(operation, outcome);
    }

    fn open_all(&self, place: &Place, entries: Vec<Entry>, seen: &mut Seen) -> Vec<Found> {
        let mut found = Vec::new();
        for entry in entries {
            let head = entry.sealed.head();
            if !seen.0.contains(&head) {
                if seen.0.len() == MOST_SEEN {
                    seen.0.remove(0);
                }
                seen.0.push(head);
                found.extend(self.open_entry(place, &entry));
            }
        }
        found
    }

    fn open_entry(&self, place: &Place, entry: &Entry) -> Option<Found> {
        let contexts = place.slot.contexts(entry.kind);
        let found = place.ring.open(contexts, &entry.sealed);
        let found = found.and_then(|value| {
            let found = match entry.kind {
                Kind::Token => SharedToken::decode(&value).map(Found::Token),
                Kind::Failure => SharedFailure::decode(&value).map(Found::Failure),
                Kind::Pause | Kind::Quarantine | Kind::Replica => Err(NotOurs),
            };
            Ok(found?)
        });
        self.opened(found)
    }

    fn open_pause(&self, place: &Place, sealed: &Sealed) -> Option<SystemTime> {
        let pause = place.ring.open(place.host.contexts(Kind::Pause), sealed);
        let pause = pause.and_then(|value| Ok(Pause::decode(&value)?));
        self.opened(pause).map(|pause| pause.until)
    }

    /// What was done, and where that is kept, which is where it has to lie.
    fn open_quarantine(
        &self,
        ring: &Ring,
        name: &Name,
        sealed: &Sealed,
    ) -> Option<(SharedQuarantine, Spot)> {
        let opened = ring.open(of_any_quarantine(), sealed);
        let opened = opened.and_then(|value| Ok(SharedQuarantine::decode(&value)?));
        let opened = opened.and_then(|act| {
            let spot = Spot::of_quarantine(ring, &act.destination, act.application.as_ref());
            let is_its_own = spot.names().contains(name);
            is_its_own.then_some((act, spot)).ok_or(Unopened::Forged)
        });
        self.opened(opened)
    }

    /// Counts what was not sealed for where it lies: it is as good as nothing.
    fn opened<T>(&self, opened: Result<T, Unopened>) -> Option<T> {
        let outcome = opened.as_ref().err().map_or("ok", |why| why.code());
        self.metrics.shared_cache("open", outcome);
        opened.ok()
    }

    /// The store's answer, if it has one.
    async fn ask<T>(
        &self,
        operation: &'static str,
        answering: impl Future<Output = Result<T, Trouble>>,
    ) -> Option<T> {
        let asked = Instant::now();
        let answer = answering.await;
        self.metrics.shared_cache_took(operation, asked.elapsed());
        let trouble = answer.as_ref().err().copied();
        let outcome = trouble.map_or("ok", Trouble::code);
        self.metrics.shared_cache(operation, outcome);
        *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = trouble;
        answer.ok()
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some(turn) = self.turn.take() {
            self.store.abandon(&self.name, &turn);
        }
    }
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Lease").field(&self.turn).finish()
    }
}

fn left(until: SystemTime) -> Duration {
    until.duration_since(clock::wall()).unwrap_or_default()
}

fn kept(place: &Place, kind: Kind, value: &[u8], lasts: Duration) -> Option<Kept> {
    let sealed = place.slot.seal(&place.ring, kind, value)?;
    let entry = Entry { kind, sealed };
    (!lasts.is_zero()).then_some(Kept { entry, lasts })
}

#[cfg(test)]
mod tests;
