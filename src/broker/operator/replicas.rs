//! Stops count at all replicas: what is done here is told to the others, and what they tell
//! is done here.

use std::{
    cmp::Reverse,
    sync::{Arc, MutexGuard, PoisonError},
    time::Duration,
};

use futures_util::{StreamExt as _, stream};
use tokio::join;
use tracing::{info, warn};

use super::{Kept, Operator, stops::Change};
use crate::{
    audit::{Event, Heard},
    clock::Instant,
    destination::{ApplicationName, DestinationId},
    shared_cache::Place,
    usage::SharedQuarantine,
};

/// As many answers of the store as are waited for at once.
const AT_ONCE: usize = 16;
/// More than so many things that are to be told are not begun: what is left is told when the
/// store is joined again.
const MOST_AT_ONCE: usize = 64;
/// How often it is tried again to tell what the store did not take.
const TELL_AGAIN: Duration = Duration::from_secs(5);

/// Whether the other replicas can know of something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    /// The store has it, and tells all that reach it.
    Yes,
    /// Nothing is shared, so it counts here alone.
    NothingShared,
    /// The store did not take it. They are told as soon as it does.
    NotYet,
}

impl Operator {
    /// Takes in what was done at another replica, if nothing later is known. What follows
    /// from that goes on in the background.
    pub fn heard(self: &Arc<Self>, act: &SharedQuarantine) {
        let operator = Arc::clone(self);
        match self.take_in(act) {
            Change::Nothing => {}
            Change::Stale(later) => {
                // The store may have that older one in its place now. A flood of them is not
                // answered one by one.
                if self.tasks.len() < MOST_AT_ONCE {
                    self.tasks
                        .spawn(async move { operator.tell(vec![later]).await });
                }
            }
            Change::Stopped | Change::Renewed => {
                let places = self.places(&act.destination, act.application.as_ref());
                self.tasks.spawn(async move {
                    operator.keep().await;
                    operator.forget(places).await;
                });
            }
            Change::Released(_) => {
                self.broker.warm();
                self.tasks.spawn(async move { operator.keep().await });
            }
        }
    }

    /// Takes in all that is kept in the store, and puts there what only this replica knows.
    /// To be done at each connection, and before the first token is handed out.
    pub async fn rejoin(self: &Arc<Self>) {
        let Some(mut kept) = self.shared.quarantines().await else {
            return;
        };
        *self.tell_again_at() = None;
        // A release of all applications goes before the older stops that it ended.
        kept.sort_by_key(|act| Reverse(act.at));
        let mut is_news = false;
        for act in &kept {
            is_news |= self.take_in(act) != Change::Nothing;
        }
        let (lacking, stopped) = {
            let stops = self.stops();
            (
                stops.lacking(&kept),
                stops.in_force().cloned().collect::<Vec<_>>(),
            )
        };
        self.tell(lacking).await;
        // Also what was stopped while the store could not be reached.
        let stopped = stopped.iter();
        let places =
            stopped.flat_map(|stop| self.places(&stop.destination, stop.application.as_ref()));
        self.forget(places.collect()).await;
        if is_news {
            self.keep().await;
        }
    }

    /// Waits until all that followed from acts is done. To be called when nobody acts any
    /// more.
    pub async fn drain(&self) {
        self.tasks.close();
        self.tasks.wait().await;
    }

    /// Writes down what was done, tells it to the others, and then forgets what they may
    /// have. It goes on if whoever asked goes away.
    pub(super) async fn spread(
        self: &Arc<Self>,
        acts: Vec<SharedQuarantine>,
        places: Vec<Arc<Place>>,
    ) -> (Kept, Told) {
        let operator = Arc::clone(self);
        let spreading = self.tasks.spawn(async move {
            // Nobody takes up what is forgotten once all of them know.
            let telling = async {
                let told = operator.tell(acts).await;
                operator.forget(places).await;
                told
            };
            join!(operator.keep(), telling)
        });
        let spread = spreading.await;
        spread.unwrap_or((Kept::Unwritten, Told::NotYet))
    }

    /// Where replicas keep what they share of these registrations.
    pub(super) fn places(
        &self,
        destination: &DestinationId,
        application: Option<&ApplicationName>,
    ) -> Vec<Arc<Place>> {
        let catalogue = self.broker.catalogue.load();
        let registrations = catalogue.registrations().filter(|registration| {
            let key = &registration.key;
            key.destination == *destination
                && application.is_none_or(|application| key.application == *application)
        });
        let places = registrations.filter_map(|registration| registration.place.clone());
        places.collect()
    }

    /// Forgets what replicas share of these registrations, so that nobody takes it up later.
    pub(super) async fn forget(&self, places: Vec<Arc<Place>>) {
        stream::iter(places)
            .for_each_concurrent(AT_ONCE, async |place| self.shared.forget(&place).await)
            .await;
    }

    /// Tells again what the store did not take, from time to time.
    pub(super) fn tell_again(self: &Arc<Self>) {
        let now = Instant::now();
        {
            let mut at = self.tell_again_at();
            if at.is_none_or(|at| now < at) {
                return;
            }
            *at = Some(now + TELL_AGAIN);
        }
        let operator = Arc::clone(self);
        self.tasks.spawn(async move { operator.rejoin().await });
    }

    async fn tell(&self, acts: Vec<SharedQuarantine>) -> Told {
        if !self.shared.is_on() {
            return Told::NothingShared;
        }
        let told = stream::iter(acts)
            .map(async |act| self.shared.keep_quarantine(&act).await)
            .buffered(AT_ONCE)
            .all(std::future::ready)
            .await;
        if told {
            return Told::Yes;
        }
        *self.tell_again_at() = Some(Instant::now() + TELL_AGAIN);
        Told::NotYet
    }

    fn tell_again_at(&self) -> MutexGuard<'_, Option<Instant>> {
        let at = self.tell_again_at.lock();
        at.unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes in what was done at another replica, as far as it counts within this process.
    fn take_in(&self, act: &SharedQuarantine) -> Change {
        let SharedQuarantine {
            destination,
            application,
            quarantine,
            ..
        } = act;
        let change = {
            let mut stops = self.stops();
            let change = stops.take_in(act);
            // Under the lock, so that of two changes the later one has the last word.
            let cache = self.broker.cache();
            match &change {
                Change::Stopped => cache.quarantine(destination, application.as_ref()),
                Change::Released(ended) => cache.end(destination, ended),
                Change::Nothing | Change::Renewed | Change::Stale(_) => {}
            }
            change
        };
        let shown = application.as_ref().map(ApplicationName::as_str);
        let administrator = quarantine.as_ref().map(|one| one.administrator.as_str());
        let comment = quarantine.as_ref().map(|one| one.comment.as_str());
        let heard = match &change {
            Change::Nothing => return change,
            Change::Stale(_) => {
                self.shared.count("quarantine", "stale");
                return change;
            }
            Change::Stopped | Change::Renewed => {
                warn!(%destination, application = shown, administrator, comment, "stopped by another replica");
                "quarantine"
            }
            Change::Released(ended) if ended.is_empty() => return change,
            Change::Released(_) => {
                info!(%destination, application = shown, "released by another replica");
                "release"
            }
        };
        self.shared.count("quarantine", "ok");
        // The act itself is on record where it was asked for.
        self.broker.audit().note(&Event::Heard(Heard {
            act: heard,
            administrator,
            destination: destination.as_str(),
            application: shown,
            comment,
        }));
        change
    }
}
