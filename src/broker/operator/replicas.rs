//! Stops count at all replicas: what is done here is told to the others, and what they tell
//! is done here.

use std::{
    cmp::Reverse,
    sync::{Arc, MutexGuard, PoisonError},
    time::Duration,
};

use futures_util::{StreamExt as _, stream};
use tokio::{join, task::JoinHandle, time::timeout};
use tracing::{info, warn};

use super::{Kept, Operator, stops::Change};
use crate::{
    audit::{Event, Heard},
    cache::Registration,
    clock::Instant,
    destination::{ApplicationName, DestinationId},
    usage::SharedQuarantine,
};

/// As many answers of the store as are waited for at once.
const AT_ONCE: usize = 16;
/// More than so many things that are to be told are not begun: what is left is told when the
/// store is joined again.
const MOST_AT_ONCE: usize = 64;
/// An operator waits no longer than this for the store. What it takes later it takes all the
/// same.
pub(super) const PATIENCE: Duration = Duration::from_secs(1);
/// How soon it is tried again to learn what the store did not say, and to tell what it did not
/// take.
const TRY_AGAIN: Duration = Duration::from_secs(5);
/// How often the store is joined again although nothing went wrong: it may have been emptied
/// without losing a connection, and what was told may have been lost on its way.
const REJOIN_EVERY: Duration = Duration::from_secs(60);
/// Replicas join again up to this part of it later, so that they do not all come at once.
const REJOIN_SPREAD: f64 = 0.25;

/// When the store is joined again.
#[derive(Debug, Default)]
pub(super) struct NextRejoin {
    at: Option<Instant>,
    /// What was begun the last time. It is waited for: a slow store is not asked twice at once.
    begun: Option<JoinHandle<()>>,
}

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
                let stopped = self.registrations(&act.destination, act.application.as_ref());
                // The disk may take long, and what is shared may be taken up meanwhile.
                self.tasks
                    .spawn(async move { join!(operator.forget(stopped), operator.keep()) });
            }
            Change::Released(_) => {
                self.broker.warm();
                self.tasks.spawn(async move { operator.keep().await });
            }
        }
    }

    /// Takes in all that is kept in the store, and puts there what only this replica knows.
    /// To be done at each connection, and before the first token is handed out. What the store
    /// does not say it is asked again soon, see [`Operator::look`].
    pub async fn rejoin(self: &Arc<Self>) {
        let Some(mut kept) = self.shared.quarantines().await else {
            // Nobody tells a second time, so what is not learned now would go on being handed
            // out for as long as the connection lasts.
            self.try_again();
            return;
        };
        self.next_rejoin().at = None;
        // A release of all applications goes before the older stops that it ended.
        kept.sort_by_key(|act| Reverse(act.at));
        let (mut is_news, mut is_released) = (false, false);
        for act in &kept {
            let change = self.take_in(act);
            is_news |= change != Change::Nothing;
            is_released |= matches!(change, Change::Released(_));
        }
        // Warm ones need nobody to ask; at the start they begin when all is taken in.
        if is_released && self.broker.cache().has_joined() {
            self.broker.warm();
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
        let stopped = stopped
            .flat_map(|stop| self.registrations(&stop.destination, stop.application.as_ref()));
        self.forget(stopped.collect()).await;
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
        stopped: Vec<Arc<Registration>>,
    ) -> (Kept, Told) {
        let operator = Arc::clone(self);
        let keeping = self.tasks.spawn(async move { operator.keep().await });
        let operator = Arc::clone(self);
        let telling = self.tasks.spawn(async move {
            // Nobody takes up what is forgotten once all of them know.
            let told = operator.tell(acts).await;
            operator.forget(stopped).await;
            told
        });
        let (kept, told) = join!(keeping, timeout(PATIENCE, telling));
        let told = told.ok().and_then(Result::ok);
        (
            kept.unwrap_or(Kept::Unwritten),
            told.unwrap_or(Told::NotYet),
        )
    }

    /// What is registered for an application at a destination, or for all of them.
    pub(super) fn registrations(
        &self,
        destination: &DestinationId,
        application: Option<&ApplicationName>,
    ) -> Vec<Arc<Registration>> {
        let catalogue = self.broker.catalogue.load();
        let registrations = catalogue.registrations();
        registrations
            .filter(|registration| registration.key.is_of(destination, application))
            .map(Arc::clone)
            .collect()
    }

    /// Forgets what replicas share of those of these registrations that are stopped, so that
    /// nobody takes it up later.
    pub(super) async fn forget(&self, stopped: Vec<Arc<Registration>>) {
        stream::iter(stopped)
            .for_each_concurrent(AT_ONCE, async |registration| {
                let Some(place) = &registration.place else {
                    return;
                };
                let key = &registration.key;
                // Looked at only now: a stop may have been released since it was heard of, and
                // then it is the successor that would be forgotten.
                let is_stopped = self
                    .stops()
                    .find(&key.destination, &key.application)
                    .is_some();
                if is_stopped {
                    self.shared.forget(place).await;
                }
            })
            .await;
    }

    /// Joins the store again if it is time.
    pub(super) fn rejoin_if_due(self: &Arc<Self>) {
        if !self.shared.is_on() {
            return;
        }
        let now = Instant::now();
        let mut next = self.next_rejoin();
        let at = *next.at.get_or_insert_with(|| {
            now + REJOIN_EVERY.mul_f64(1.0 + REJOIN_SPREAD * rand::random::<f64>())
        });
        let is_under_way = next
            .begun
            .as_ref()
            .is_some_and(|begun| !begun.is_finished());
        if now < at || is_under_way {
            return;
        }
        next.at = None;
        let operator = Arc::clone(self);
        let begun = self.tasks.spawn(async move { operator.rejoin().await });
        next.begun = Some(begun);
    }

    /// Joins the store again soon, if anything is shared.
    fn try_again(&self) {
        if self.shared.is_on() {
            self.next_rejoin().at = Some(Instant::now() + TRY_AGAIN);
        }
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
        self.try_again();
        Told::NotYet
    }

    fn next_rejoin(&self) -> MutexGuard<'_, NextRejoin> {
        let next = self.next_rejoin.lock();
        next.unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes in what was done at another replica, as far as it counts within this process.
    fn take_in(&self, act: &SharedQuarantine) -> Change {
        let SharedQuarantine {
            destination,
            application,
            at,
            quarantine,
        } = act;
        let (change, dropped) = {
            let mut stops = self.stops();
            let change = stops.take_in(act);
            // Under the lock, so that of two changes the later one has the last word.
            let cache = self.broker.cache();
            let one = application.as_ref();
            let dropped = match &change {
                Change::Stopped => {
                    cache.quarantine(destination, one);
                    true
                }
                Change::Released(ended) => cache.end(destination, one, ended, *at),
                Change::Nothing | Change::Renewed | Change::Stale(_) => false,
            };
            (change, dropped)
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
            Change::Released(ended) if ended.is_empty() && !dropped => return change,
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
