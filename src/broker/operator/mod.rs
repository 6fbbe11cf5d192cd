//! What an operator does to a running broker: looks, explains, refreshes, stops, releases
//! and reloads.
//!
//! Doors only translate. Whoever may act is asked for an [`Administrator`], which nothing
//! but [`Operator::administrator`] makes.

mod act;
mod attempts;
mod error;
mod explain;
mod quarantine;
mod refresh;
mod replicas;
mod stops;
mod survey;
mod unused;
mod warnings;

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, SystemTime},
};

use arc_swap::ArcSwap;
use tokio::{
    sync::{mpsc, oneshot},
    task::spawn_blocking,
};
use tokio_util::task::TaskTracker;
use tracing::{error, info};

pub use self::{
    act::Asked,
    error::{ActError, Fault},
    explain::Explanation,
    quarantine::{Applied, Kept},
    refresh::Refreshed,
    replicas::Told,
    survey::{Protected, State, Survey, TokenTimes},
    unused::{Idle, Unused},
    warnings::{Trouble, Warning},
};
use self::{attempts::Attempts, replicas::NextRejoin, stops::Stops, warnings::Warnings};
use super::{Broker, CallError, Listing};
use crate::{
    cache::Registration,
    clock,
    destination::{ApplicationName, DestinationId},
    identity::CallerId,
    metrics::Metrics,
    policy::{CallerPattern, Grants},
    shared_cache::SharedCache,
    usage::{SharedQuarantine, StateError, StateFile},
};

/// The operators' side of a broker.
pub struct Operator {
    broker: Arc<Broker>,
    rules: ArcSwap<Rules>,
    stops: Mutex<Stops>,
    warnings: Mutex<Warnings>,
    attempts: Mutex<Attempts>,
    state_file: Option<StateFile>,
    /// Whether the state file could not be written the last time.
    unwritten: AtomicBool,
    reloads: mpsc::Sender<Reload>,
    metrics: Arc<Metrics>,
    /// What replicas have in common.
    shared: Arc<SharedCache>,
    next_rejoin: Mutex<NextRejoin>,
    /// What follows from acts, here and at other replicas.
    tasks: TaskTracker,
    started_at: SystemTime,
}

/// What a configuration says about operating, and what explaining needs beside the grants.
pub struct Rules {
    administrators: Grants<()>,
    /// The only SPIFFE trust domains whose callers are known; all of them if empty.
    trust_domains: Vec<String>,
    runway_warning: Duration,
}

/// Somebody who may operate the broker.
#[derive(Clone)]
pub struct Administrator(CallerId);

/// A wish that everything be read again. Whoever can do that answers with what changed.
pub struct Reload {
    /// Where the answer goes.
    pub answer: oneshot::Sender<Result<Vec<String>, Vec<Fault>>>,
}

/// What somebody wants to act on.
struct Target {
    listing: Arc<Listing>,
    registrations: Vec<Arc<Registration>>,
}

impl Rules {
    /// The rules for these administrators, for callers of these trust domains, and for when
    /// a runway is short.
    pub fn new(
        administrators: &[CallerPattern],
        trust_domains: Vec<String>,
        runway_warning: Duration,
    ) -> Self {
        let administrators = administrators.iter().map(|pattern| (pattern.clone(), ()));
        Self {
            administrators: Grants::new(administrators),
            trust_domains,
            runway_warning,
        }
    }
}

impl Administrator {
    /// Who it is.
    pub fn id(&self) -> &CallerId {
        &self.0
    }
}

impl Operator {
    /// Operates a broker, in which the `quarantines` are in force from now on, and tells other
    /// replicas of those that follow. Whoever can reload has the other end.
    pub fn new(
        broker: Arc<Broker>,
        rules: Rules,
        state_file: Option<StateFile>,
        quarantines: Vec<SharedQuarantine>,
        metrics: Arc<Metrics>,
        shared: Arc<SharedCache>,
    ) -> (Arc<Self>, mpsc::Receiver<Reload>) {
        let (reloads, wishes) = mpsc::channel(1);
        let stops = Stops::of(quarantines);
        quarantine::restore(&stops, broker.cache());
        let operator = Self {
            broker,
            rules: ArcSwap::from_pointee(rules),
            stops: Mutex::new(stops),
            warnings: Mutex::default(),
            attempts: Mutex::default(),
            state_file,
            unwritten: AtomicBool::new(false),
            reloads,
            metrics,
            shared,
            next_rejoin: Mutex::default(),
            tasks: TaskTracker::new(),
            started_at: clock::wall(),
        };
        (Arc::new(operator), wishes)
    }

    /// Since when there is this broker.
    pub fn started_at(&self) -> SystemTime {
        self.started_at
    }

    /// What replicas have in common.
    pub fn shared(&self) -> &SharedCache {
        &self.shared
    }

    /// Goes by other rules from now on.
    pub fn replace(&self, rules: Rules) {
        self.rules.store(Arc::new(rules));
    }

    /// The right to operate.
    ///
    /// # Errors
    /// [`ActError::NotAdministrator`] for whoever the configuration does not name.
    pub fn administrator(&self, caller: &CallerId) -> Result<Administrator, ActError> {
        let rules = self.rules.load();
        let named = rules.administrators.decide(caller).is_some();
        named
            .then(|| Administrator(caller.clone()))
            .ok_or(ActError::NotAdministrator)
    }

    /// Has everything read again, and says what changed, one line each.
    ///
    /// # Errors
    /// [`ActError::ReloadRefused`] with every mistake.
    pub async fn reload(&self, asked: &Asked<'_>) -> Result<Vec<String>, ActError> {
        let act = self.act(asked, "reload");
        act.recorded(async {
            let (answer, answered) = oneshot::channel();
            let refused = |fault| ActError::ReloadRefused(vec![fault]);
            asked
                .in_time(async {
                    let wish = self.reloads.send(Reload { answer }).await;
                    wish.map_err(|_| refused(Fault::stopping()))?;
                    let answer = answered.await;
                    let answer = answer.map_err(|_| refused(Fault::unanswered()))?;
                    answer.map_err(ActError::ReloadRefused)
                })
                .await?
        })
        .await
    }

    /// Writes down what is to outlive the process. It blocks the thread.
    ///
    /// # Errors
    /// [`StateError`], which names the file; it is logged once for each change.
    pub fn write_state(&self) -> Result<bool, StateError> {
        let Some(file) = &self.state_file else {
            return Ok(false);
        };
        let written = file.write(|| {
            let ledger = Arc::clone(self.broker.catalogue.load().ledger());
            (ledger, self.stops().to_vec())
        });
        let failed_before = self.unwritten.swap(written.is_err(), Ordering::Relaxed);
        match &written {
            Err(error) if !failed_before => error!(%error, "usage and quarantines are not kept"),
            Ok(()) if failed_before => {
                info!(file = %file.path().display(), "the state file can be written again");
            }
            _ => {}
        }
        written.map(|()| true)
    }

    /// Writes down an act at once, and says whether a restart will know of it.
    async fn keep(self: &Arc<Self>) -> Kept {
        let operator = Arc::clone(self);
        let written = spawn_blocking(move || operator.write_state()).await;
        match written {
            Ok(Ok(true)) => Kept::Yes,
            Ok(Ok(false)) => Kept::NoStateFile,
            Ok(Err(_)) | Err(_) => Kept::Unwritten,
        }
    }

    /// What is meant by the texts of a request; no application means all of them.
    fn target(&self, destination: &str, application: &str) -> Result<Target, ActError> {
        let destination =
            DestinationId::parse(destination).map_err(|_| CallError::InvalidDestinationId)?;
        let catalogue = self.broker.catalogue.load();
        let listing = catalogue.find(&destination);
        let listing = listing.ok_or(ActError::NoSuchDestination)?;
        let registrations = listing.registrations.iter();
        let registrations: Vec<_> = registrations
            .filter(|one| application.is_empty() || one.key.application.as_str() == application)
            .map(Arc::clone)
            .collect();
        if listing.registrations.is_empty() {
            return Err(CallError::Unprotected.into());
        }
        if registrations.is_empty() {
            return Err(ActError::NoSuchApplication);
        }
        Ok(Target {
            listing: Arc::clone(listing),
            registrations,
        })
    }

    fn attempts(&self) -> MutexGuard<'_, Attempts> {
        self.attempts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn stops(&self) -> MutexGuard<'_, Stops> {
        self.stops.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Target {
    fn applications(&self) -> impl Iterator<Item = ApplicationName> {
        let registrations = self.registrations.iter();
        registrations.map(|registration| registration.key.application.clone())
    }
}

#[cfg(test)]
impl Operator {
    /// A broker without destinations, and who operates it for `spiffe://td/ops`, for tests.
    pub(crate) fn sample() -> (Arc<Broker>, Arc<Self>) {
        use crate::{
            audit::Audit,
            broker::Catalogue,
            cache::{Cache, Edition},
            telemetry::Traces,
        };
        let (metrics, audit) = (Arc::new(Metrics::new()), Arc::new(Audit::off()));
        let shared = SharedCache::off();
        let (of_cache, trail) = (Arc::clone(&metrics), Arc::clone(&audit));
        let (cache, _schedule) = Cache::new(of_cache, trail, Arc::clone(&shared), Traces::off());
        let catalogue = Catalogue::new(Edition::default(), Arc::default());
        let broker = Arc::new(Broker::new(catalogue, cache, audit));
        let administrators = [CallerPattern::parse("spiffe://td/ops").unwrap()];
        let rules = Rules::new(&administrators, Vec::new(), Duration::ZERO);
        let of_operator = Arc::clone(&broker);
        let (operator, _) = Self::new(of_operator, rules, None, Vec::new(), metrics, shared);
        (broker, operator)
    }
}
