//! How replicas know of each other: each tells of itself every few seconds, and learns in the
//! same breath who else does.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::{
    Replica, SharedCache,
    place::{Spot, of_any_replica},
    record::Beat,
    replica::printable,
    ring::{Ring, Unopened},
    sealed::Sealed,
    store::Name,
};
use crate::clock::{self, Instant, Moment};

/// A replica tells of itself again after so long at most.
const EVERY: Duration = Duration::from_secs(5);
/// It does so up to this part of it sooner, so that those that start together do not all come at
/// once.
const SPREAD: f64 = 0.2;
/// Whoever was not heard of for so long is gone. Two words in a row may be lost.
const LASTS: Duration = Duration::from_secs(15);
/// Whoever stops waits no longer for the store to take it out.
const LEAVING: Duration = Duration::from_millis(250);

/// This replica, and what it has heard of the others.
pub(super) struct Presence {
    /// At random: two replicas may have one name, and a restarted one is another.
    id: u128,
    name: String,
    since: SystemTime,
    others: Mutex<HashMap<u128, Other>>,
}

/// Another replica, and how long it is shown if it tells no more.
struct Other {
    replica: Replica,
    until: Instant,
}

impl Presence {
    pub(super) fn new(host: &str) -> Self {
        Self {
            id: rand::random(),
            name: printable(host),
            since: clock::wall(),
            others: Mutex::default(),
        }
    }

    fn beat(&self, now: SystemTime) -> Beat {
        Beat {
            id: self.id,
            name: self.name.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            since: self.since,
            at: now,
        }
    }

    /// All that are known, this one first.
    fn all(&self, now: Moment) -> Vec<Replica> {
        let others = self.others();
        let others = others.values().filter(|other| now.instant < other.until);
        let mut others: Vec<_> = others.map(|other| other.replica.clone()).collect();
        others.sort_by(|one, other| (&one.name, one.since).cmp(&(&other.name, other.since)));
        let beat = self.beat(now.wall);
        let this = Replica {
            name: beat.name,
            version: beat.version,
            since: beat.since,
            seen: beat.at,
            is_this: true,
        };
        [vec![this], others].concat()
    }

    fn others(&self) -> MutexGuard<'_, HashMap<u128, Other>> {
        self.others.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl SharedCache {
    /// The replicas that were heard of lately, this one first; none while nothing is shared.
    pub fn replicas(&self) -> Vec<Replica> {
        self.replicas_at(Moment::now())
    }

    /// Tells the others of this replica again and again until it is `leaving`, and takes it out
    /// then. Nobody waits for it.
    pub async fn attend(&self, leaving: CancellationToken) {
        let attending = async {
            self.settled().await;
            loop {
                self.beat(Moment::now()).await;
                sleep(rest(rand::random())).await;
            }
        };
        leaving.run_until_cancelled(attending).await;
        if let Some(ring) = self.ring.load_full() {
            let spot = Spot::of_replica(&ring, &self.namespace(), self.presence.id);
            let leaving = self.ask("leave", self.store.beat(spot.names(), None, LASTS));
            // Where it does not get through, the others forget it soon enough.
            let _ = timeout(LEAVING, leaving).await;
        }
    }

    /// Tells the others of this replica, and learns of them.
    async fn beat(&self, now: Moment) {
        if let Some(ring) = self.ring.load_full() {
            // Read once: in another namespace, what is learned would look forged.
            let namespace = self.namespace();
            let told = self.exchange(&ring, &namespace, now).await;
            // Else those that are known are shown until they are too old.
            if let Some(told) = told {
                *self.presence.others() = self.arrived(&ring, &namespace, told, now);
            }
        }
        self.metrics.replicas(self.replicas_at(now).len());
    }

    /// What others tell; `None` if the store cannot be asked.
    async fn exchange(
        &self,
        ring: &Ring,
        namespace: &str,
        now: Moment,
    ) -> Option<Vec<(Name, Sealed)>> {
        let spot = Spot::of_replica(ring, namespace, self.presence.id);
        let context = of_any_replica(namespace).next()?;
        let sealed = ring.seal(&context, &self.presence.beat(now.wall).encode())?;
        let telling = self.store.beat(spot.names(), Some(sealed), LASTS);
        self.ask("beat", telling).await
    }

    /// Those that told it, by what they tell.
    fn arrived(
        &self,
        ring: &Ring,
        namespace: &str,
        told: Vec<(Name, Sealed)>,
        now: Moment,
    ) -> HashMap<u128, Other> {
        let mut others = HashMap::<_, Other>::new();
        for (name, sealed) in told {
            let Some(beat) = self.open_beat(ring, namespace, &name, &sealed) else {
                continue;
            };
            let id = beat.id;
            match beat.arrive(LASTS, now.wall) {
                Err(untimely) => self.count("beat", untimely.code()),
                // Its own word, which somebody has put elsewhere.
                Ok(_) if id == self.presence.id => {}
                Ok((replica, left)) => {
                    let known = others.get(&id);
                    // Under two names while its keys are replaced.
                    if known.is_none_or(|known| known.replica.seen < replica.seen) {
                        let until = now.instant + left;
                        others.insert(id, Other { replica, until });
                    }
                }
            }
        }
        others
    }

    /// What a replica tells, if it lies where that one's word has to.
    fn open_beat(
        &self,
        ring: &Ring,
        namespace: &str,
        name: &Name,
        sealed: &Sealed,
    ) -> Option<Beat> {
        let opened = ring.open(of_any_replica(namespace), sealed);
        let opened = opened.and_then(|value| Ok(Beat::decode(&value)?));
        let opened = opened.and_then(|beat| {
            let spot = Spot::of_replica(ring, namespace, beat.id);
            let is_its_own = spot.names().contains(name);
            is_its_own.then_some(beat).ok_or(Unopened::Forged)
        });
        self.opened(opened)
    }

    fn replicas_at(&self, now: Moment) -> Vec<Replica> {
        if self.is_on() {
            self.presence.all(now)
        } else {
            Vec::new()
        }
    }

    fn namespace(&self) -> String {
        let settings = self.settings.borrow();
        let namespace = settings.as_ref().map(|settings| settings.namespace.clone());
        namespace.unwrap_or_default()
    }
}

/// How long a replica rests before it tells of itself again, by a number below one.
fn rest(random: f64) -> Duration {
    EVERY.mul_f64(1.0 - SPREAD * random)
}

#[cfg(test)]
mod tests;
