//! Who is let in, and how much of the broker one caller may take: so that no caller
//! starves the rest, and overload is refused before queues grow.

use std::{
    collections::HashMap,
    num::NonZeroU32,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use arc_swap::{ArcSwap, Guard};
use governor::{
    Quota, RateLimiter,
    clock::{self, Clock as _, MonotonicClock},
    middleware::NoOpMiddleware,
    nanos::Nanos,
    state::{InMemoryState, NotKeyed},
};

use crate::{clock::Instant, identity::CallerId};

/// So many reports of a caller may start a flight at once, and so many in an hour: each is
/// regained by itself. So a caller that reports for ever costs the upstreams ten calls an hour.
const REPORTS: NonZeroU32 = NonZeroU32::MIN.saturating_add(9);
/// How long it takes to regain one of them.
const REPORT_REGAINED: Duration = Duration::from_secs(360);
/// How long a caller is barred after its first flood; each further one doubles it.
const BAR: Duration = Duration::from_secs(5);
/// No bar is longer.
const LONGEST_BAR: Duration = Duration::from_secs(300);
/// A caller whose last flood is this long past has a clean slate.
const FORGIVEN_AFTER: Duration = Duration::from_secs(3600);
/// So many callers are kept before those who have gone are looked for.
const FIRST_SWEEP: usize = 1024;
/// How many streams a caller may have, of large requests or without a grant, for each
/// connection that it may have, so that they cost no more memory than its connections do.
const STREAMS_PER_CONNECTION: usize = 2;
/// When calls are shed, trying again can help after this time.
const SHED_RETRY: Duration = Duration::from_millis(250);

/// How much is let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shares {
    /// How many connections one caller may have open.
    pub connections_per_caller: usize,
    /// How many calls one caller may begin in a second, on average and at once.
    pub calls_per_second: NonZeroU32,
    /// How many calls may be under way at once; one caller may have half of them.
    pub calls: usize,
    /// The longest deadline that a call may have.
    pub longest_call: Duration,
}

/// Knows all callers that are connected, or were barred not long ago.
pub struct Admission {
    shares: ArcSwap<Shares>,
    calls: AtomicUsize,
    known: Mutex<Known>,
}

/// The callers that are known, some of whom may not be worth it any more.
struct Known {
    callers: HashMap<CallerId, Arc<Caller>>,
    /// When there are so many, those who have gone are forgotten.
    sweep_at: usize,
}

/// One caller, over all its connections.
struct Caller {
    id: CallerId,
    connections: AtomicUsize,
    calls: AtomicUsize,
    streams: AtomicUsize,
    rate: ArcSwap<Rate>,
    floods: Mutex<Option<Floods>>,
    reports: Mutex<Option<Reports>>,
}

/// How fast a caller may call, and how fast it did.
struct Rate {
    per_second: NonZeroU32,
    limiter:
        RateLimiter<NotKeyed, InMemoryState, MonotonicClock, NoOpMiddleware<std::time::Instant>>,
}

/// What is left of a caller's budget of reports that start a flight.
struct Reports {
    limiter: RateLimiter<NotKeyed, InMemoryState, Since, NoOpMiddleware<Nanos>>,
    /// When all of it is there again.
    whole_at: Instant,
}

/// The clock that decides, as governor wants it: counted from a moment.
#[derive(Clone)]
struct Since(Instant);

/// What a caller did to be barred.
#[derive(Clone, Copy)]
struct Floods {
    count: u32,
    last: Instant,
}

/// A connection that was let in, for as long as it lives.
pub struct Connected {
    caller: Arc<Caller>,
    admission: Arc<Admission>,
}

/// A call that was let in, for as long as it is under way.
pub struct Call {
    caller: Arc<Caller>,
    admission: Arc<Admission>,
}

/// A stream that may go on, for as long as it lasts.
pub struct Stream(Arc<Caller>);

/// Why a connection is not let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unwelcome {
    /// The caller has too many connections.
    TooManyConnections,
    /// The caller flooded the broker a short while ago.
    Barred,
}

/// Why a call is not let in, and after what time trying again can help.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Overload {
    /// Too many calls are under way.
    Busy(Duration),
    /// The caller makes too many calls in a second.
    TooFast(Duration),
}

impl Admission {
    /// Lets in these shares.
    pub fn new(shares: Shares) -> Arc<Self> {
        Arc::new(Self {
            shares: ArcSwap::from_pointee(shares),
            calls: AtomicUsize::new(0),
            known: Mutex::new(Known {
                callers: HashMap::new(),
                sweep_at: FIRST_SWEEP,
            }),
        })
    }

    /// Lets in these shares from now on. What is in already stays.
    pub fn share(&self, shares: Shares) {
        self.shares.store(Arc::new(shares));
    }

    /// Lets a connection in, or not.
    ///
    /// # Errors
    /// [`Unwelcome`] when the caller has enough connections, or is barred.
    pub fn connect(self: &Arc<Self>, id: &CallerId, now: Instant) -> Result<Connected, Unwelcome> {
        let shares = self.shares.load();
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.sweep(now);
        let caller = known
            .callers
            .entry(id.clone())
            .or_insert_with(|| Arc::new(Caller::new(id.clone(), shares.calls_per_second)));
        if caller.barred_until().is_some_and(|until| now < until) {
            return Err(Unwelcome::Barred);
        }
        // Counted under the lock, so that no two take the last place.
        if caller.connections.load(Ordering::Relaxed) >= shares.connections_per_caller {
            return Err(Unwelcome::TooManyConnections);
        }
        caller.connections.fetch_add(1, Ordering::Relaxed);
        Ok(Connected {
            caller: Arc::clone(caller),
            admission: Arc::clone(self),
        })
    }
}

impl Known {
    /// Forgets in bulk, so that a connection costs no more for every caller there is.
    fn sweep(&mut self, now: Instant) {
        if self.callers.len() >= self.sweep_at {
            self.callers
                .retain(|_, caller| caller.is_worth_knowing(now));
            self.sweep_at = FIRST_SWEEP.max(2 * self.callers.len());
        }
    }
}

impl Connected {
    /// Who is connected.
    pub fn id(&self) -> &CallerId {
        &self.caller.id
    }

    /// Lets a call in, or not.
    ///
    /// # Errors
    /// [`Overload`] when this caller, or all of them together, ask for too much.
    pub fn call(&self) -> Result<Call, Overload> {
        let shares = self.admission.shares.load();
        if let Err(wait) = self.caller.rate(shares.calls_per_second).check() {
            return Err(Overload::TooFast(wait));
        }
        // Both are counted before they are compared: a few calls too many may be refused
        // at the limit, but none too many is let in.
        let call = Call {
            caller: Arc::clone(&self.caller),
            admission: Arc::clone(&self.admission),
        };
        let all = self.admission.calls.fetch_add(1, Ordering::Relaxed);
        let own = self.caller.calls.fetch_add(1, Ordering::Relaxed);
        if all >= shares.calls || own >= shares.calls.div_ceil(2) {
            return Err(Overload::Busy(SHED_RETRY));
        }
        Ok(call)
    }

    /// Lets a stream go on, or not, whose requests are large, or that needs no grant.
    ///
    /// # Errors
    /// [`Overload::Busy`] when the caller has enough of them.
    pub fn stream(&self) -> Result<Stream, Overload> {
        let most = self.admission.shares.load().connections_per_caller;
        let most = most.saturating_mul(STREAMS_PER_CONNECTION);
        let stream = Stream(Arc::clone(&self.caller));
        if self.caller.streams.fetch_add(1, Ordering::Relaxed) >= most {
            return Err(Overload::Busy(SHED_RETRY));
        }
        Ok(stream)
    }

    /// Takes one from the caller's budget of reports that start a flight, if there is one.
    pub fn may_report(&self, now: Instant) -> bool {
        let mut reports = self.caller.reports();
        reports.get_or_insert_with(|| Reports::new(now)).take(now)
    }

    /// The longest deadline that a call may have.
    pub fn longest_call(&self) -> Duration {
        self.admission.shares.load().longest_call
    }

    /// Notes that the caller flooded this connection.
    pub fn strike(&self, now: Instant) {
        let mut floods = self.caller.floods();
        let count = match *floods {
            // Further connections of the same flood are no further flood.
            Some(known) if now < known.barred_until() => known.count,
            Some(known) if now < known.last + FORGIVEN_AFTER => known.count.saturating_add(1),
            _ => 1,
        };
        *floods = Some(Floods { count, last: now });
    }
}

impl Rate {
    fn new(per_second: NonZeroU32) -> Self {
        let quota = Quota::per_second(per_second);
        Self {
            per_second,
            limiter: RateLimiter::direct_with_clock(quota, MonotonicClock),
        }
    }

    fn check(&self) -> Result<(), Duration> {
        self.limiter
            .check()
            .map_err(|not_until| not_until.wait_time_from(MonotonicClock.now()))
    }
}

impl Reports {
    /// A whole budget.
    fn new(now: Instant) -> Self {
        let quota = Quota::per_hour(REPORTS);
        Self {
            limiter: RateLimiter::direct_with_clock(quota, Since(now)),
            whole_at: now,
        }
    }

    fn take(&mut self, now: Instant) -> bool {
        let taken = self.limiter.check().is_ok();
        if taken {
            self.whole_at = self.whole_at.max(now) + REPORT_REGAINED;
        }
        taken
    }
}

impl clock::Clock for Since {
    type Instant = Nanos;

    fn now(&self) -> Nanos {
        self.0.elapsed().into()
    }
}

impl Floods {
    fn barred_until(self) -> Instant {
        let doublings = self.count.saturating_sub(1).min(16);
        let bar = BAR.saturating_mul(1 << doublings).min(LONGEST_BAR);
        self.last + bar
    }
}

impl Drop for Connected {
    fn drop(&mut self) {
        self.caller.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        self.admission.calls.fetch_sub(1, Ordering::Relaxed);
        self.caller.calls.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.0.streams.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Caller {
    fn new(id: CallerId, calls_per_second: NonZeroU32) -> Self {
        Self {
            id,
            connections: AtomicUsize::new(0),
            calls: AtomicUsize::new(0),
            streams: AtomicUsize::new(0),
            rate: ArcSwap::from_pointee(Rate::new(calls_per_second)),
            floods: Mutex::new(None),
            reports: Mutex::new(None),
        }
    }

    /// The rate, which begins anew when another one is allowed.
    fn rate(&self, per_second: NonZeroU32) -> Guard<Arc<Rate>> {
        let rate = self.rate.load();
        if rate.per_second == per_second {
            return rate;
        }
        self.rate.store(Arc::new(Rate::new(per_second)));
        self.rate.load()
    }

    fn floods(&self) -> MutexGuard<'_, Option<Floods>> {
        self.floods.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn reports(&self) -> MutexGuard<'_, Option<Reports>> {
        self.reports.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn barred_until(&self) -> Option<Instant> {
        self.floods().map(Floods::barred_until)
    }

    fn is_worth_knowing(&self, now: Instant) -> bool {
        let connected = self.connections.load(Ordering::Relaxed) > 0;
        let unforgiven = self
            .floods()
            .is_some_and(|floods| now < floods.last + FORGIVEN_AFTER);
        // Forgotten sooner, a caller could report anew by connecting anew.
        let in_debt = self
            .reports()
            .as_ref()
            .is_some_and(|reports| now < reports.whole_at);
        connected || unforgiven || in_debt
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn caller(name: &str) -> CallerId {
        CallerId::from_dns(name).unwrap()
    }

    fn admission(
        connections_per_caller: usize,
        calls_per_second: u32,
        calls: usize,
    ) -> Arc<Admission> {
        Admission::new(Shares {
            connections_per_caller,
            calls_per_second: calls_per_second.try_into().unwrap(),
            calls,
            longest_call: Duration::from_secs(30),
        })
    }

    #[test]
    fn a_caller_has_its_share_of_connections_and_no_more() {
        let admission = admission(2, 1000, 10);
        let now = Instant::now();
        let first = admission.connect(&caller("a"), now).ok();
        let _second = admission.connect(&caller("a"), now).ok().unwrap();
        assert_eq!(
            admission.connect(&caller("a"), now).err(),
            Some(Unwelcome::TooManyConnections)
        );
        assert!(
            admission.connect(&caller("b"), now).is_ok(),
            "another caller is not starved"
        );
        drop(first);
        assert!(admission.connect(&caller("a"), now).is_ok());
    }

    #[test]
    fn a_caller_has_two_streams_for_each_connection_and_no_more() {
        let admission = admission(1, 1000, 10);
        let one = admission.connect(&caller("a"), Instant::now());
        let one = one.ok().unwrap();
        let streams = [one.stream().ok().unwrap(), one.stream().ok().unwrap()];
        for _ in 0..3 {
            assert_eq!(one.stream().err(), Some(Overload::Busy(SHED_RETRY)));
        }
        drop(streams);
        assert!(one.stream().is_ok());
    }

    #[test]
    fn one_caller_takes_at_most_half_of_the_calls() {
        let admission = admission(10, 1000, 4);
        let now = Instant::now();
        let a = admission.connect(&caller("a"), now).ok().unwrap();
        let b = admission.connect(&caller("b"), now).ok().unwrap();
        let c = admission.connect(&caller("c"), now).ok().unwrap();
        let mut calls = vec![a.call().ok().unwrap(), a.call().ok().unwrap()];
        assert_eq!(a.call().err(), Some(Overload::Busy(SHED_RETRY)));
        calls.extend([b.call().ok().unwrap(), b.call().ok().unwrap()]);
        assert_eq!(
            c.call().err(),
            Some(Overload::Busy(SHED_RETRY)),
            "all are taken"
        );
        drop(calls);
        assert!(
            a.call().is_ok() && c.call().is_ok(),
            "a refused call takes no place"
        );
    }

    #[test]
    fn a_caller_that_calls_too_fast_is_told_when_to_come_back() {
        let admission = admission(10, 5, 100);
        let now = Instant::now();
        let fast = admission.connect(&caller("fast"), now).ok().unwrap();
        let started = std::time::Instant::now();
        let refused: Vec<_> = (0..20).filter_map(|_| fast.call().err()).collect();
        let regained = started.elapsed().as_millis() / 200 + 1;
        let least = 15_usize.saturating_sub(regained.try_into().unwrap());
        assert!(
            (least..=15).contains(&refused.len()),
            "{} of 20 refused",
            refused.len()
        );
        for overload in refused {
            let Overload::TooFast(wait) = overload else {
                panic!("{overload:?}")
            };
            assert!(wait <= Duration::from_millis(200), "{wait:?}");
        }
        let calm = admission.connect(&caller("calm"), now).ok().unwrap();
        assert!(calm.call().is_ok(), "another caller is not throttled");
    }

    #[test]
    fn other_shares_count_for_those_who_are_in_already() {
        let admission = admission(1, 1, 100);
        let now = Instant::now();
        let connected = admission.connect(&caller("a"), now).ok().unwrap();
        assert!(connected.call().is_ok());
        assert!(matches!(connected.call(), Err(Overload::TooFast(_))));
        admission.share(Shares {
            connections_per_caller: 2,
            calls_per_second: 1000.try_into().unwrap(),
            calls: 100,
            longest_call: Duration::from_secs(30),
        });
        assert!(connected.call().is_ok() && connected.call().is_ok());
        assert!(admission.connect(&caller("a"), now).is_ok());
    }

    #[test]
    fn a_flood_bars_its_caller_for_longer_each_time_and_not_for_ever() {
        let admission = admission(10, 1000, 10);
        let mut now = Instant::now();
        for bar in [5, 10, 20, 40, 80, 160, 300, 300] {
            let connected = admission.connect(&caller("flooder"), now).ok().unwrap();
            connected.strike(now);
            drop(connected);
            now += Duration::from_secs(bar - 1);
            assert_eq!(
                admission.connect(&caller("flooder"), now).err(),
                Some(Unwelcome::Barred)
            );
            assert!(admission.connect(&caller("honest"), now).is_ok());
            now += Duration::from_secs(1);
        }
        now += FORGIVEN_AFTER;
        let connected = admission.connect(&caller("flooder"), now).ok().unwrap();
        connected.strike(now);
        now += BAR;
        assert!(
            admission.connect(&caller("flooder"), now).is_ok(),
            "its slate was clean"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_caller_has_ten_reports_and_regains_one_every_six_minutes() {
        let admission = admission(10, 1000, 10);
        let connect = |name: &str| {
            let connected = admission.connect(&caller(name), Instant::now());
            connected.ok().unwrap()
        };
        let reports = |name: &str| {
            let connected = connect(name);
            (0..100)
                .filter(|_| connected.may_report(Instant::now()))
                .count()
        };
        assert_eq!((reports("a"), reports("a"), reports("b")), (10, 0, 10));
        tokio::time::advance(REPORT_REGAINED).await;
        assert_eq!(reports("a"), 1);
        // In less than an hour nothing makes its debt forgotten, not even many others.
        for n in 0..2 * FIRST_SWEEP {
            connect(&format!("caller-{n}"));
        }
        assert_eq!(reports("a"), 0);
        tokio::time::advance(24 * 10 * REPORT_REGAINED).await;
        assert_eq!(reports("a"), 10, "and never more than that at once");
    }

    #[test]
    fn callers_that_have_gone_are_forgotten() {
        let admission = admission(10, 1000, 10);
        let now = Instant::now();
        for n in 0..5000 {
            drop(admission.connect(&caller(&format!("caller-{n}")), now));
        }
        let known = admission.known.lock().unwrap();
        assert!(
            known.callers.len() <= FIRST_SWEEP,
            "{}",
            known.callers.len()
        );
    }
}
