//! A store in memory, on tokio's clock, for tests: what the servers do, without them.

use std::{
    collections::HashMap,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures_util::future::{BoxFuture, FutureExt as _};
use tokio::sync::{mpsc, watch};

use super::{
    News,
    record::Kind,
    sealed::{Head, Sealed},
    store::{Beginning, Entry, Kept, MOST_REPLICAS, Message, Name, Store, Trouble, Turn},
};
use crate::clock::Instant;

/// A store in memory.
#[derive(Default)]
pub(crate) struct Shelf {
    slots: Mutex<HashMap<Name, Slot>>,
    pauses: Mutex<HashMap<Name, (Sealed, Instant)>>,
    quarantines: Mutex<HashMap<Name, Sealed>>,
    replicas: Mutex<HashMap<Name, (Sealed, Instant)>>,
    listeners: Mutex<Vec<mpsc::Sender<News>>>,
    gone: AtomicBool,
    deaf: AtomicBool,
    hangs: watch::Sender<bool>,
    lists: AtomicUsize,
}

#[derive(Default)]
struct Slot {
    entries: HashMap<Kind, (Sealed, Instant)>,
    turn: Option<(Turn, Instant)>,
    fence: u64,
    kept: u64,
    /// Somebody puts something else there before each wish for the turn.
    changes: bool,
}

impl Shelf {
    /// Tells a replica the news from now on.
    pub(crate) fn tell(&self, listener: mpsc::Sender<News>) {
        lock(&self.listeners).push(listener);
    }

    /// Cannot be reached while it is `gone`.
    pub(crate) fn go(&self, gone: bool) {
        self.gone.store(gone, Ordering::SeqCst);
    }

    /// Tells nobody anything while it is `deaf`.
    pub(crate) fn deafen(&self, deaf: bool) {
        self.deaf.store(deaf, Ordering::SeqCst);
    }

    /// Does not answer what has to do with quarantines and replicas while it `hangs`.
    pub(crate) fn hang(&self, hangs: bool) {
        self.hangs.send_replace(hangs);
    }

    async fn hanging(&self) {
        // The sender is at hand, so this ends with the hanging and not before.
        let _ = self.hangs.subscribe().wait_for(|hangs| !hangs).await;
    }

    /// How often it was asked what it has of quarantines.
    pub(crate) fn lists(&self) -> usize {
        self.lists.load(Ordering::SeqCst)
    }

    /// Has somebody put something else into a slot, again and again.
    pub(crate) fn change_all_the_time(&self, name: &Name) {
        lock(&self.slots).entry(*name).or_default().changes = true;
    }

    /// Puts what is kept for one slot in the place of another's.
    pub(crate) fn swap(&self, one: &Name, other: &Name) {
        let mut slots = lock(&self.slots);
        let (a, b) = (slots.remove(one), slots.remove(other));
        slots.extend(a.map(|slot| (*other, slot)));
        slots.extend(b.map(|slot| (*one, slot)));
    }

    /// All that is kept, as somebody who reads the store sees it.
    pub(crate) fn everything(&self) -> Vec<(Name, Vec<u8>)> {
        let mut everything = Vec::new();
        for (name, slot) in lock(&self.slots).iter() {
            let entries = slot.entries.values();
            everything.extend(entries.map(|(sealed, _)| (*name, sealed.0.clone())));
        }
        let pauses = lock(&self.pauses);
        everything.extend(
            pauses
                .iter()
                .map(|(name, (sealed, _))| (*name, sealed.0.clone())),
        );
        let quarantines = lock(&self.quarantines);
        everything.extend(
            quarantines
                .iter()
                .map(|(name, sealed)| (*name, sealed.0.clone())),
        );
        let replicas = lock(&self.replicas);
        everything.extend(
            replicas
                .iter()
                .map(|(name, (sealed, _))| (*name, sealed.0.clone())),
        );
        everything
    }

    /// Changes all that is kept, as somebody who writes to the store can.
    pub(crate) fn tamper(&self, mut change: impl FnMut(&Name, &mut Vec<u8>)) {
        for (name, slot) in lock(&self.slots).iter_mut() {
            for (sealed, _) in slot.entries.values_mut() {
                change(name, &mut sealed.0);
            }
        }
        for (name, (sealed, _)) in lock(&self.pauses).iter_mut() {
            change(name, &mut sealed.0);
        }
        for (name, sealed) in lock(&self.quarantines).iter_mut() {
            change(name, &mut sealed.0);
        }
        for (name, (sealed, _)) in lock(&self.replicas).iter_mut() {
            change(name, &mut sealed.0);
        }
    }

    /// Forgets everything, as FLUSHALL does.
    pub(crate) fn flush(&self) {
        lock(&self.slots).clear();
        lock(&self.pauses).clear();
        lock(&self.quarantines).clear();
        lock(&self.replicas).clear();
    }

    /// Takes the turn of a slot for so long, as a replica would that dies then.
    pub(crate) fn take_turn(&self, name: &Name, life: Duration) {
        let mut slots = lock(&self.slots);
        let slot = slots.entry(*name).or_default();
        slot.fence += 1;
        let turn = Turn {
            owner: rand::random(),
            fence: slot.fence,
        };
        slot.turn = Some((turn, Instant::now() + life));
    }

    /// What is kept for a slot.
    pub(crate) fn copy(&self, name: &Name) -> Vec<Entry> {
        let slots = lock(&self.slots);
        let slot = slots.get(name);
        slot.map(|slot| slot.alive(Instant::now()))
            .unwrap_or_default()
    }

    /// Puts what was kept once in the place of what is kept now, and tells of it.
    pub(crate) fn put_back(&self, name: &Name, entries: &[Entry]) {
        for entry in entries {
            let until = Instant::now() + Duration::from_secs(3600);
            let sealed = entry.sealed.clone();
            let mut slots = lock(&self.slots);
            let slot = slots.entry(*name).or_default();
            slot.entries.insert(entry.kind, (sealed, until));
            drop(slots);
            self.publish(entry.kind, name, &entry.sealed);
        }
    }

    fn here<T>(&self, value: T) -> Result<T, Trouble> {
        if self.gone.load(Ordering::SeqCst) {
            Err(Trouble::Unreachable)
        } else {
            Ok(value)
        }
    }

    fn publish(&self, kind: Kind, name: &Name, sealed: &Sealed) {
        if self.deaf.load(Ordering::SeqCst) {
            return;
        }
        for listener in lock(&self.listeners).iter() {
            let _ = listener.try_send(News::Told(Message {
                kind,
                name: *name,
                sealed: sealed.clone(),
            }));
        }
    }

    fn read<T>(&self, read: impl FnOnce() -> T) -> Result<T, Trouble> {
        self.here(())?;
        Ok(read())
    }
}

impl Slot {
    fn alive(&self, now: Instant) -> Vec<Entry> {
        let alive = self.entries.iter().filter(|(_, (_, until))| now < *until);
        alive
            .map(|(kind, (sealed, _))| Entry {
                kind: *kind,
                sealed: sealed.clone(),
            })
            .collect()
    }
}

impl Store for Shelf {
    fn settled(&self) -> BoxFuture<'_, ()> {
        async {}.boxed()
    }

    fn trouble(&self) -> Option<Trouble> {
        self.here(()).err()
    }

    fn look<'a>(&'a self, name: &'a Name) -> BoxFuture<'a, Result<Vec<Entry>, Trouble>> {
        let read = || {
            let slots = lock(&self.slots);
            let slot = slots.get(name);
            slot.map(|slot| slot.alive(Instant::now()))
                .unwrap_or_default()
        };
        async move { self.read(read) }.boxed()
    }

    fn begin<'a>(
        &'a self,
        name: &'a Name,
        seen: &'a [Head],
        life: Duration,
    ) -> BoxFuture<'a, Result<Beginning, Trouble>> {
        let begin = move || {
            let now = Instant::now();
            let mut slots = lock(&self.slots);
            let slot = slots.entry(*name).or_default();
            if slot.changes {
                let garbage = rand::random::<[u8; 32]>();
                let value = (Sealed(garbage.to_vec()), now + life);
                slot.entries.insert(Kind::Token, value);
            }
            let entries = slot.alive(now);
            if entries
                .iter()
                .any(|entry| !seen.contains(&entry.sealed.head()))
            {
                return Beginning::Found(entries);
            }
            if let Some((_, until)) = slot.turn
                && now < until
            {
                return Beginning::Held(until - now);
            }
            slot.fence = slot.fence.max(slot.kept) + 1;
            let turn = Turn {
                owner: rand::random(),
                fence: slot.fence,
            };
            slot.turn = Some((turn, now + life));
            Beginning::Granted(turn)
        };
        async move { self.read(begin) }.boxed()
    }

    fn finish<'a>(
        &'a self,
        name: &'a Name,
        turn: Option<&'a Turn>,
        outcome: Option<Kept>,
    ) -> BoxFuture<'a, Result<bool, Trouble>> {
        let finish = move || {
            let now = Instant::now();
            let mut slots = lock(&self.slots);
            let slot = slots.entry(*name).or_default();
            let held = slot.turn.filter(|(_, until)| now < *until);
            let lasted = turn.is_none_or(|turn| held.is_some_and(|(held, _)| held == *turn));
            if turn.is_some() && lasted {
                slot.turn = None;
            }
            let fence = turn.map_or(slot.fence.max(slot.kept) + 1, |turn| turn.fence);
            if let Some(Kept { entry, lasts }) = outcome
                && slot.kept < fence
            {
                slot.kept = fence;
                if entry.kind == Kind::Token {
                    slot.entries.clear();
                }
                slot.entries
                    .insert(entry.kind, (entry.sealed.clone(), now + lasts));
                drop(slots);
                self.publish(entry.kind, name, &entry.sealed);
            }
            lasted
        };
        async move { self.read(finish) }.boxed()
    }

    fn abandon(&self, name: &Name, turn: &Turn) {
        if let Some(slot) = lock(&self.slots).get_mut(name)
            && slot.turn.is_some_and(|(held, _)| held == *turn)
        {
            slot.turn = None;
        }
    }

    fn forget<'a>(&'a self, name: &'a Name) -> BoxFuture<'a, Result<(), Trouble>> {
        let forget = move || {
            if let Some(slot) = lock(&self.slots).get_mut(name) {
                slot.entries.clear();
                slot.fence = slot.fence.max(slot.kept) + 1;
                slot.kept = slot.fence;
                slot.turn = None;
            }
        };
        async move {
            self.hanging().await;
            self.read(forget)
        }
        .boxed()
    }

    fn pause<'a>(&'a self, name: &'a Name) -> BoxFuture<'a, Result<Option<Sealed>, Trouble>> {
        let read = move || {
            let pauses = lock(&self.pauses);
            let pause = pauses
                .get(name)
                .filter(|(_, until)| Instant::now() < *until);
            pause.map(|(sealed, _)| sealed.clone())
        };
        async move { self.read(read) }.boxed()
    }

    fn keep_pause<'a>(
        &'a self,
        name: &'a Name,
        sealed: Sealed,
        lasts: Duration,
    ) -> BoxFuture<'a, Result<(), Trouble>> {
        let keep = move || {
            let until = Instant::now() + lasts;
            let mut pauses = lock(&self.pauses);
            let is_longer = pauses.get(name).is_none_or(|(_, other)| *other < until);
            if is_longer {
                pauses.insert(*name, (sealed.clone(), until));
                drop(pauses);
                self.publish(Kind::Pause, name, &sealed);
            }
        };
        async move { self.read(keep) }.boxed()
    }

    fn quarantines(&self) -> BoxFuture<'_, Result<Vec<(Name, Sealed)>, Trouble>> {
        let read = || {
            let kept = lock(&self.quarantines);
            kept.iter()
                .map(|(name, sealed)| (*name, sealed.clone()))
                .collect()
        };
        self.lists.fetch_add(1, Ordering::SeqCst);
        async move {
            self.hanging().await;
            self.read(read)
        }
        .boxed()
    }

    fn keep_quarantine<'a>(
        &'a self,
        names: &'a [Name],
        sealed: Sealed,
    ) -> BoxFuture<'a, Result<(), Trouble>> {
        let keep = move || {
            let Some(name) = names.first() else { return };
            let mut kept = lock(&self.quarantines);
            kept.retain(|name, _| !names.contains(name));
            kept.insert(*name, sealed.clone());
            drop(kept);
            self.publish(Kind::Quarantine, name, &sealed);
        };
        async move {
            self.hanging().await;
            self.read(keep)
        }
        .boxed()
    }

    fn beat<'a>(
        &'a self,
        names: &'a [Name],
        told: Option<Sealed>,
        lasts: Duration,
    ) -> BoxFuture<'a, Result<Vec<(Name, Sealed)>, Trouble>> {
        let beat = move || {
            let now = Instant::now();
            let mut replicas = lock(&self.replicas);
            replicas.retain(|name, (_, until)| now < *until && !names.contains(name));
            let others = replicas
                .iter()
                .map(|(name, (sealed, _))| (*name, sealed.clone()));
            let others = others.take(MOST_REPLICAS).collect();
            if let (Some(name), Some(sealed)) = (names.first(), told) {
                replicas.insert(*name, (sealed, now + lasts));
            }
            others
        };
        async move {
            self.hanging().await;
            self.read(beat)
        }
        .boxed()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
