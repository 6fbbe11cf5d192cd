//! The token cache: one slot for each key, one flight for each slot, and a schedule
//! that refreshes ahead of the callers.
//!
//! Moka only bounds the number of slots and drops those that nobody has looked up for a
//! day. Expiry, refresh and single flight are the slot's and are decided on tokio's
//! clock, which moka's own expiry does not follow.

mod entry;
mod flight;
mod host;
mod landing;
mod schedule;
mod sharing;
mod timetable;
mod watch;
mod whereabouts;

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use arc_swap::ArcSwap;
use foldhash::fast::RandomState;
use futures_util::{StreamExt as _, stream};
use moka::policy::EvictionPolicy;

use self::{
    entry::{Answer, Entry},
    flight::Flights,
    whereabouts::Changes,
};
pub use self::{host::Host, schedule::Schedule, watch::Watch, whereabouts::Whereabouts};
use crate::{
    audit::{Audit, Found},
    clock::{self, Instant, Moment},
    destination::{ApplicationName, DestinationId, TokenKey},
    metrics::Metrics,
    shared_cache::{Found as Shared, Message, Name, Place, Seen, SharedCache},
    slot::{Decision, FailureReason, Refusal, Report},
    telemetry::{Span, Traces},
    token::{LifetimeRule, Token, TokenId},
    upstream::Rotation,
};

/// More slots than this are never kept. It is a fence, not a tuning knob: slots exist
/// only for configured keys.
const MAX_SLOTS: u64 = 100_000;
/// A slot unused for this long is dropped. No token is trusted for half as long, so its token
/// has expired; a slot that is kept fresh is used about every half of a token's life; and no
/// connection lasts so long that its watcher could lose its slot.
const IDLE_OUT: Duration = Duration::from_secs(48 * 60 * 60);

/// Who asks where no caller does.
#[cfg(test)]
const NOBODY: Span = Span::none();

/// An application that is registered for a destination: everything that minting its
/// tokens takes.
pub struct Registration {
    /// The catalogue that it is from. Whatever is from an older one gives way.
    pub edition: Edition,
    /// Everything that shapes the tokens.
    pub key: Arc<TokenKey>,
    /// Who mints them, and with which secret.
    pub rotation: Arc<Rotation>,
    /// The host that is asked, whose pauses and concurrency are shared.
    pub host: Arc<Host>,
    /// What thousands of destinations have in common.
    pub terms: Arc<MintTerms>,
    /// Whether a token is kept at hand although nobody asks.
    pub warm: bool,
    /// Where replicas share its tokens, if they do.
    pub place: Option<Arc<Place>>,
    /// Where its slot was found last.
    pub whereabouts: Whereabouts,
}

/// How long everything takes that has to do with an upstream's tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MintTerms {
    /// How declared lifetimes are read.
    pub lifetimes: LifetimeRule,
    /// How long before its expiry a token is no longer handed out.
    pub expiry_margin: Duration,
    /// How long one call to the token endpoint may take.
    pub timeout: Duration,
}

#[cfg(test)]
impl Registration {
    /// A registration whose tokens live an hour, for tests.
    pub(crate) fn sample(destination: &str, rotation: Arc<Rotation>) -> Self {
        Self {
            edition: Edition::default(),
            key: Arc::new(TokenKey::sample(destination)),
            rotation,
            host: Arc::new(Host::new("upstream.example:443".to_owned(), 16)),
            terms: Arc::new(MintTerms::sample()),
            warm: false,
            place: None,
            whereabouts: Whereabouts::default(),
        }
    }
}

#[cfg(test)]
impl MintTerms {
    /// Tokens that live an hour, for tests.
    pub(crate) fn sample() -> Self {
        Self {
            lifetimes: LifetimeRule {
                default: Duration::from_secs(3600),
                max: Duration::from_secs(86_400),
            },
            expiry_margin: Duration::from_secs(60),
            timeout: Duration::from_secs(5),
        }
    }
}

/// Tells one catalogue from those before it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Edition(u32);

/// Holds tokens and keeps them fresh.
pub struct Cache {
    slots: Slots,
    /// After each of them a slot may be another one, or none any more.
    changes: Arc<Changes>,
    flights: Arc<Flights>,
    /// What an operator stopped, whether or not it has a slot.
    quarantined: Mutex<Quarantined>,
    shared: Arc<SharedCache>,
    /// Whose places they are that other replicas tell of.
    known: ArcSwap<HashMap<Name, Arc<Registration>>>,
}

/// What an operator stopped, and what was released elsewhere.
#[derive(Default)]
struct Quarantined {
    stopped: HashSet<Stopped>,
    /// No token from before is taken from elsewhere, also for slots to come.
    released: HashMap<Stopped, SystemTime>,
}

/// One application of a destination, or all of them, those to come included.
type Stopped = (DestinationId, Option<ApplicationName>);

/// All keys in it are configured, so a fast hash will do.
type Slots = moka::sync::Cache<Arc<TokenKey>, Arc<Entry>, RandomState>;

/// What the cache has for one registration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    /// Nobody asked yet.
    Cold,
    /// The first flight is under way.
    Pending,
    /// A token is at hand.
    Fresh,
    /// A token is at hand, but its refresh fails.
    RefreshFailing,
    /// There is no token, and minting fails.
    Failing,
    /// An operator stopped it.
    Quarantined,
}

impl Condition {
    /// The word for it in metrics.
    pub fn label(self) -> &'static str {
        match self {
            Self::Cold => "cold",
            Self::Pending => "pending",
            Self::Fresh => "fresh",
            Self::RefreshFailing => "refresh_failing",
            Self::Failing => "failing",
            Self::Quarantined => "quarantined",
        }
    }
}

/// What is known of one slot.
#[derive(Clone, Debug)]
pub struct Standing {
    /// What a caller would meet.
    pub condition: Condition,
    /// The current token, which may be dead.
    pub token: Option<Arc<Token>>,
    /// Until when that is handed out.
    pub served_until: Option<Instant>,
    /// When its successor is due.
    pub refresh_at: Option<Instant>,
    /// When the next flight is due if nobody asks before.
    pub due: Option<Instant>,
    /// Whether a flight is under way.
    pub is_minting: bool,
    /// How often minting failed since it last succeeded.
    pub failures: u32,
    /// When minting may be tried again after a failure.
    pub retry_at: Option<Instant>,
    /// How long until the first caller would fail if the upstream were gone.
    pub runway: Duration,
    /// When a token came last, minted here or at another replica.
    pub last_success: Option<Moment>,
    /// Why and when minting failed last.
    pub last_failure: Option<(FailureReason, Moment)>,
    /// When a caller asked last.
    pub last_used: Option<Moment>,
}

/// What is known of all slots at one moment.
pub struct Standings {
    entries: HashMap<Arc<TokenKey>, Arc<Entry>, RandomState>,
    now: Instant,
}

impl Standings {
    /// What is known of a registration's slot; `None` while nobody has asked.
    pub fn of(&self, registration: &Registration) -> Option<Standing> {
        let entry = self.entries.get(&registration.key)?;
        Some(entry.standing(self.now))
    }
}

/// Why there is no token for a caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missing {
    /// The slot says no.
    Refused(Refusal),
    /// The registration is from an older catalogue, and its key is in no newer one: the
    /// caller is to be authorised anew. A slot for it would mint what nobody needs.
    Outdated,
}

/// What the cache would do for a caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Foresight {
    /// Hand out the token at hand.
    Serve {
        /// How long that goes on.
        runway: Duration,
    },
    /// The same, and fetch its successor.
    ServeAndRefresh {
        /// How long that goes on.
        runway: Duration,
    },
    /// Let the caller wait for the flight under way.
    Wait,
    /// Mint a token, and let the caller wait for it.
    MintAndWait,
    /// Say no.
    Refuse(Refusal),
}

impl Cache {
    /// An empty cache, and the schedule that refreshes it for as long as it is run. Every
    /// token that is minted is recorded, and shared with other replicas; every flight is traced.
    pub fn new(
        metrics: Arc<Metrics>,
        audit: Arc<Audit>,
        shared: Arc<SharedCache>,
        traces: Traces,
    ) -> (Self, Schedule) {
        let changes = Arc::new(Changes::new());
        let removed = Arc::clone(&changes);
        let slots = moka::sync::Cache::builder()
            .max_capacity(MAX_SLOTS)
            // Newcomers always get in: the default policy could turn them away.
            .eviction_policy(EvictionPolicy::lru())
            .time_to_idle(IDLE_OUT)
            .eviction_listener(move |_, _, _| removed.add())
            .build_with_hasher(RandomState::default());
        let (timetable, noted) = timetable::timetable();
        let flights = Flights::new(timetable, metrics, audit, Arc::clone(&shared), traces);
        let flights = Arc::new(flights);
        let schedule = Schedule::new(noted, slots.clone(), Arc::clone(&flights));
        let cache = Self {
            slots,
            changes,
            flights,
            quarantined: Mutex::default(),
            shared,
            known: ArcSwap::default(),
        };
        (cache, schedule)
    }

    /// A token for this registration that lives at least `min_validity` more, and whether
    /// it was at hand. It waits only where there is no such token and a flight may bring
    /// one; whoever stops waiting changes nothing for the others. `call` is what is traced of
    /// the call that asks.
    ///
    /// # Errors
    /// [`Missing::Refused`] with what everybody gets who waited for the same flight;
    /// [`Missing::Outdated`].
    pub async fn find(
        &self,
        registration: &Arc<Registration>,
        min_validity: Duration,
        call: &Span,
    ) -> Result<(Arc<Token>, Found), Missing> {
        let mut now = Instant::now();
        let entry = self.seek(registration, now)?;
        let mut found = Found::Hit;
        loop {
            entry.touch(now);
            let flights = &self.flights;
            match flights.ask(&entry, registration, now, min_validity, call) {
                Answer::Now(result) => return Ok(result.map(|token| (token, found))?),
                Answer::After(flight) => {
                    found = Found::Miss;
                    // Boxed, since hardly any call has to wait.
                    let outcome = Box::pin(flight.landed(&entry)).await;
                    // A quarantine does not find the slot that a reload forgot.
                    if self.flights.is_outdated(registration)
                        && self.quarantined().holds(&registration.key)
                    {
                        return Err(Refusal::Quarantined.into());
                    }
                    let token = outcome?;
                    now = Instant::now();
                    if token.suffices(now, min_validity) {
                        return Ok((token, found));
                    }
                    // Too short a life for this caller, or this task slept through it:
                    // ask again, which says which of the two it was.
                }
            }
        }
    }

    /// The slot of a registration, which is made if it may have one.
    fn seek(&self, registration: &Arc<Registration>, now: Instant) -> Result<Arc<Entry>, Missing> {
        let last = self.changes.last();
        if let Some(entry) = registration.whereabouts.recall(last, now) {
            return Ok(entry);
        }
        let entry = match self.slots.get(&registration.key) {
            Some(entry) => entry,
            None if self.flights.is_outdated(registration) => return Err(Missing::Outdated),
            None => self.entry(registration),
        };
        registration.whereabouts.remember(&entry, last, now);
        Ok(entry)
    }

    /// The token alone.
    #[cfg(test)]
    pub(crate) async fn token(
        &self,
        registration: &Arc<Registration>,
        min_validity: Duration,
    ) -> Result<Arc<Token>, Refusal> {
        match self.find(registration, min_validity, &NOBODY).await {
            Ok((token, _)) => Ok(token),
            Err(Missing::Refused(refusal)) => Err(refusal),
            Err(Missing::Outdated) => panic!("a newer catalogue is in force"),
        }
    }

    /// The token of this registration and all its successors, one at a time.
    pub fn watch(&self, registration: &Arc<Registration>, call: Span) -> Watch {
        Watch::new(
            self.entry(registration),
            Arc::clone(registration),
            Arc::clone(&self.flights),
            call,
        )
    }

    /// Lets a watcher go on with another registration.
    pub fn follow(&self, watch: &mut Watch, registration: &Arc<Registration>) {
        watch.follow(self.entry(registration), registration);
    }

    /// Takes in a report that the destination rejected a token. `afford` is asked before a
    /// flight is started.
    pub fn report(
        &self,
        registration: &Arc<Registration>,
        id: TokenId,
        afford: impl FnOnce() -> bool,
        call: &Span,
    ) -> Report {
        let entry = self.entry(registration);
        self.flights
            .report(&entry, id, Instant::now(), afford, call)
    }

    /// Launches the first flight of a registration that is to be kept warm.
    pub fn warm(&self, registration: &Arc<Registration>) {
        let entry = self.entry(registration);
        self.flights.begin(&entry, registration, Instant::now());
    }

    /// Begins the slot of a registration whose credentials were renewed with the token of
    /// the `predecessor`, and launches the flight for one of its own. So nobody waits, and
    /// renewed credentials that do not work cost nothing while the last token lives.
    pub fn succeed(&self, predecessor: &TokenKey, registration: &Arc<Registration>) {
        let now = Instant::now();
        let Some(from) = self.slots.get(predecessor) else {
            return;
        };
        let entry = self.entry_or(registration, || {
            Entry::inheriting(Arc::clone(registration), &from, now)
        });
        self.flights.tend(&entry, now);
    }

    /// Keeps these registrations and no others: their slots mint as they say from now on,
    /// and the slots of all other keys are forgotten. A flight that is under way for one of
    /// them lands where nobody looks.
    pub fn adopt<'a>(
        &self,
        edition: Edition,
        registrations: impl Iterator<Item = &'a Arc<Registration>> + Clone,
    ) {
        self.flights.keep_up_to(edition);
        let now = Instant::now();
        self.know(registrations.clone());
        let mut slots = self.slots.iter().peekable();
        if slots.peek().is_none() {
            // At the start, when a table of all of them would be of no use.
            return self.changes.add();
        }
        let registrations: HashMap<_, _> = registrations.map(|one| (&*one.key, one)).collect();
        for (key, entry) in slots {
            match registrations.get(&**key) {
                Some(registration) => {
                    entry.state().register(registration);
                    // Its note may have come due while it was neither of the last catalogue
                    // nor of this one.
                    self.flights.tend(&entry, now);
                }
                None => self.slots.invalidate(&*key),
            }
        }
        self.changes.add();
    }

    /// Whether it is known what other replicas had at the start, or that it cannot be known.
    pub fn has_joined(&self) -> bool {
        self.flights.has_joined()
    }

    /// Fills the slots of these registrations with what other replicas have, and lets flights
    /// begin that had to wait for that.
    pub async fn join(&self, registrations: Vec<Arc<Registration>>) {
        self.fill_all(registrations).await;
        self.flights.join();
    }

    /// Looks what the others have for the slots without a token: what they told may have been
    /// missed.
    pub async fn catch_up(&self) {
        let now = Instant::now();
        let without = self.slots.iter().filter_map(|(_, entry)| {
            let state = entry.state();
            let has_one = !state.slot.runway(now).is_zero();
            (!has_one).then(|| Arc::clone(state.registration()))
        });
        self.fill_all(without.collect()).await;
    }

    async fn fill_all(&self, registrations: Vec<Arc<Registration>>) {
        /// As many answers as are waited for at once.
        const AT_ONCE: usize = 64;
        stream::iter(registrations)
            .for_each_concurrent(AT_ONCE, |registration| self.fill(registration))
            .await;
    }

    async fn fill(&self, registration: Arc<Registration>) {
        let Some(place) = &registration.place else {
            return;
        };
        let found = self.shared.look(place, &mut Seen::default()).await;
        for one in found.unwrap_or_default() {
            self.hear(&registration, one);
        }
    }

    /// Takes in what another replica tells.
    pub fn heard(&self, message: &Message) {
        let known = self.known.load();
        let Some(registration) = known.get(&message.name) else {
            return;
        };
        let Some(place) = &registration.place else {
            return;
        };
        // A reload is under way: whoever is asked for the newer one looks for itself.
        if self.flights.is_outdated(registration) {
            return;
        }
        if let Some(found) = self.shared.open(place, message) {
            self.hear(registration, found);
        }
        if let Some(until) = self.shared.open_host(place, message) {
            sharing::heed(until, registration);
        }
    }

    fn hear(&self, registration: &Arc<Registration>, found: Shared) {
        match found {
            Shared::Token(token) => {
                let entry = self.entry(registration);
                self.flights.hear(&entry, registration, token);
            }
            // Whoever waits for that flight is to look; nobody else need know.
            Shared::Failure(_) => {
                if let Some(entry) = self.slots.get(&registration.key) {
                    entry.nudge();
                }
            }
        }
    }

    /// Knows these places from now on, and no others.
    fn know<'a>(&self, registrations: impl Iterator<Item = &'a Arc<Registration>>) {
        let mut known = HashMap::new();
        for registration in registrations {
            let Some(place) = &registration.place else {
                continue;
            };
            for name in place.slot_names().iter().chain(place.host_names()) {
                known.insert(*name, Arc::clone(registration));
            }
        }
        self.known.store(Arc::new(known));
    }

    /// Mints a successor now, whatever the back-off says, or joins the flight under way.
    ///
    /// # Errors
    /// The [`Refusal`] that the flight ends with.
    pub async fn refresh(
        &self,
        registration: &Arc<Registration>,
        call: &Span,
    ) -> Result<Arc<Token>, Refusal> {
        let entry = self.entry(registration);
        match self.flights.renew(&entry, registration, call) {
            Answer::Now(result) => result,
            Answer::After(flight) => flight.landed(&entry).await,
        }
    }

    /// Stops an application at a destination, or all of them and those to come: its tokens
    /// are forgotten, everybody who waits or watches is told, and nothing is minted until
    /// [`Cache::release`].
    pub fn quarantine(&self, destination: &DestinationId, application: Option<&ApplicationName>) {
        let name = (destination.clone(), application.cloned());
        self.quarantined().stopped.insert(name);
        for (_, entry) in self.slots_of(destination, application) {
            entry.quarantine();
        }
        self.changes.add();
    }

    /// Ends the stop of an application at a destination, or every stop there; the next
    /// caller launches a flight. An application stays stopped while all of them are.
    pub fn release(&self, destination: &DestinationId, application: Option<&ApplicationName>) {
        let mut quarantined = self.quarantined();
        quarantined.stopped.retain(|(stopped, which)| {
            stopped != destination || (application.is_some() && which.as_ref() != application)
        });
        for (key, entry) in self.slots_of(destination, application) {
            if !quarantined.holds(&key) {
                entry.release();
            }
        }
        self.changes.add();
    }

    /// Ends these stops of a destination, and no others there, since an application or all of
    /// them were released `at` this moment. What is from before it is dropped as at a stop, and
    /// whoever waits or watches gets the successor; says whether there was any.
    pub fn end(
        &self,
        destination: &DestinationId,
        application: Option<&ApplicationName>,
        ended: &[Option<ApplicationName>],
        at: SystemTime,
    ) -> bool {
        // It was done before it was heard of, whatever the clock there said. One that is far
        // ahead would keep out the tokens of others for as long.
        let at = at.min(clock::wall());
        let mut quarantined = self.quarantined();
        quarantined
            .stopped
            .retain(|(stopped, which)| stopped != destination || !ended.contains(which));
        let name = (destination.clone(), application.cloned());
        let released = quarantined.released.entry(name).or_insert(at);
        *released = at.max(*released);
        let mut dropped = false;
        for (key, entry) in self.slots_of(destination, application) {
            if !quarantined.holds(&key) {
                dropped |= self.release_as_of(&entry, at);
            }
        }
        self.changes.add();
        dropped
    }

    fn release_as_of(&self, entry: &Arc<Entry>, at: SystemTime) -> bool {
        let dropped = entry.release_as_of(at);
        if let Some(registration) = dropped.awaited {
            // For those who wait already, and nobody would ask for them.
            self.flights.begin(entry, &registration, Instant::now());
        }
        dropped.any
    }

    /// Whether an operator stopped an application at a destination.
    pub fn is_quarantined(
        &self,
        destination: &DestinationId,
        application: &ApplicationName,
    ) -> bool {
        self.quarantined().has(destination, application)
    }

    /// What is known of a registration's slot; `None` while nobody has asked. Looking does
    /// not count as use.
    pub fn survey(&self, registration: &Registration) -> Option<Standing> {
        let entry = self.slots.get(&registration.key)?;
        Some(entry.standing(Instant::now()))
    }

    /// What the cache would do for a caller now. It launches nothing and makes no slot.
    pub fn foresee(&self, registration: &Registration) -> Foresight {
        let Some(entry) = self.slots.get(&registration.key) else {
            return if self.quarantined().holds(&registration.key) {
                Foresight::Refuse(Refusal::Quarantined)
            } else {
                Foresight::MintAndWait
            };
        };
        let now = Instant::now();
        let state = entry.state();
        let runway = state.slot.runway(now);
        match state.slot.decide(now, Duration::ZERO) {
            Decision::Serve(_) => Foresight::Serve { runway },
            Decision::ServeAndLaunch(_) => Foresight::ServeAndRefresh { runway },
            Decision::Join(_) => Foresight::Wait,
            Decision::LaunchAndJoin => Foresight::MintAndWait,
            Decision::Refuse(refusal) => Foresight::Refuse(refusal),
        }
    }

    /// What a caller of a registration would meet.
    pub fn condition(&self, registration: &Registration) -> Condition {
        let entry = self.slots.get(&registration.key);
        entry.map_or(Condition::Cold, |entry| entry.condition(Instant::now()))
    }

    /// What is known of all slots. Looking does not count as use.
    pub fn standings(&self) -> Standings {
        // Moka's count is about right, which is enough to make room for them.
        let room = usize::try_from(self.slots.entry_count()).unwrap_or(0);
        let mut entries = HashMap::with_capacity_and_hasher(room, RandomState::default());
        let slots = self.slots.iter();
        entries.extend(slots.map(|(key, entry)| (Arc::clone(&*key), entry)));
        Standings {
            entries,
            now: Instant::now(),
        }
    }

    /// Wakes whenever a flight has landed.
    pub fn landings(&self) -> tokio::sync::watch::Receiver<u64> {
        self.flights.landings()
    }

    /// Waits until no flight is under way. To be called when nobody asks any more and the
    /// schedule has stopped.
    pub async fn drain(&self) {
        self.flights.drain().await;
    }

    fn entry(&self, registration: &Arc<Registration>) -> Arc<Entry> {
        self.entry_or(registration, || Entry::new(Arc::clone(registration)))
    }

    /// The slot of a registration, which is made if there is none.
    fn entry_or(&self, registration: &Registration, make: impl FnOnce() -> Entry) -> Arc<Entry> {
        let key = &registration.key;
        // How a new slot began.
        let mut begun_stopped = None;
        let entry = self.slots.get_with_by_ref(key, || {
            let entry = make();
            let stopped = self.quarantined().holds(key);
            if stopped {
                // Others can find it before the look below.
                entry.quarantine();
            }
            begun_stopped = Some(stopped);
            Arc::new(entry)
        });
        if let Some(stopped) = begun_stopped {
            // Looked at again now that it can be found, so that a quarantine and a release
            // either find it or are seen.
            let quarantined = self.quarantined();
            match (stopped, quarantined.holds(key)) {
                (false, true) => entry.quarantine(),
                (true, false) => entry.release(),
                (true, true) | (false, false) => {}
            }
            if let Some(at) = quarantined.released_at(key)
                && !quarantined.holds(key)
            {
                self.release_as_of(&entry, at);
            }
        }
        entry
    }

    fn slots_of(
        &self,
        destination: &DestinationId,
        application: Option<&ApplicationName>,
    ) -> impl Iterator<Item = (Arc<Arc<TokenKey>>, Arc<Entry>)> {
        let slots = self.slots.iter();
        slots.filter(move |(key, _)| key.is_of(destination, application))
    }

    fn quarantined(&self) -> MutexGuard<'_, Quarantined> {
        self.quarantined
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Quarantined {
    fn holds(&self, key: &TokenKey) -> bool {
        self.has(&key.destination, &key.application)
    }

    fn has(&self, destination: &DestinationId, application: &ApplicationName) -> bool {
        if self.stopped.is_empty() {
            return false;
        }
        let names = names(destination, application);
        names.iter().any(|name| self.stopped.contains(name))
    }

    /// When a key was released elsewhere last.
    fn released_at(&self, key: &TokenKey) -> Option<SystemTime> {
        if self.released.is_empty() {
            return None;
        }
        let names = names(&key.destination, &key.application);
        names
            .iter()
            .filter_map(|name| self.released.get(name))
            .max()
            .copied()
    }
}

/// What an application at a destination is stopped by: its own name, or that of all.
fn names(destination: &DestinationId, application: &ApplicationName) -> [Stopped; 2] {
    let one = (destination.clone(), Some(application.clone()));
    let all = (destination.clone(), None);
    [one, all]
}

impl From<Refusal> for Missing {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl Edition {
    /// The one after this.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

#[cfg(test)]
mod tests;
