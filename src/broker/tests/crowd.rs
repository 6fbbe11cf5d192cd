//! Many watchers, and a caller that reports for ever, counted exactly.

use std::{
    collections::{HashMap, HashSet},
    sync::atomic::AtomicUsize,
};

use tokio::{task::JoinSet, time::sleep};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::*;
use crate::{
    admission::{Admission, Connected, Shares},
    metrics::Door,
    policy::CallerPattern,
    shared_cache::SharedCache,
    telemetry::{Span, Traces},
};

const MINUTE: Duration = Duration::from_secs(60);
const DESTINATIONS: usize = 100;
const CALLER: &str = "spiffe://corp.example/ns/shop/sa/cart";

/// Mints after half a second, and counts.
#[derive(Default)]
struct Counted(AtomicUsize);

impl TokenSource for Counted {
    fn mint<'a>(&'a self, _flight: &'a Span) -> BoxFuture<'a, Result<Minted, FetchError>> {
        self.0.fetch_add(1, Ordering::Relaxed);
        async {
            sleep(Duration::from_millis(500)).await;
            Ok(Minted {
                access_token: Secret::new("token".to_owned()),
                expires_in: None,
            })
        }
        .boxed()
    }
}

/// A broker whose destinations all have one source, and whose tokens live an hour or longer.
struct Crowd {
    broker: Arc<Broker>,
    source: Arc<Counted>,
    names: Vec<DestinationId>,
    _schedule: DropGuard,
}

impl Crowd {
    fn new(lifetime: Duration) -> Self {
        let (source, metrics) = (Arc::new(Counted::default()), Arc::new(Metrics::new()));
        let mut catalogue = Catalogue::new(Edition::default(), Arc::default());
        let names: Vec<_> = (0..DESTINATIONS)
            .map(|n| DestinationId::parse(&format!("d{n}")).unwrap())
            .collect();
        for id in &names {
            let registration = Arc::new(Registration {
                rotation: Rotation::of(Arc::clone(&source) as _),
                terms: Arc::new(MintTerms {
                    lifetimes: LifetimeRule {
                        default: lifetime,
                        max: lifetime,
                    },
                    ..MintTerms::sample()
                }),
                warm: false,
                ..sample(id.as_str())
            });
            let callers = CallerPattern::parse(CALLER).unwrap();
            let listing = Listing::sample(registration, callers, &metrics);
            catalogue.add(listing);
        }
        let (cache, schedule) = Cache::new(
            metrics,
            Arc::new(Audit::off()),
            SharedCache::off(),
            Traces::off(),
        );
        let stop = CancellationToken::new();
        tokio::spawn(schedule.run(stop.clone()));
        Self {
            broker: Arc::new(Broker::new(catalogue, cache, Arc::new(Audit::off()))),
            source,
            names,
            _schedule: stop.drop_guard(),
        }
    }

    fn granted(&self, destination: &DestinationId) -> Granted {
        self.broker.authorise(&caller(), destination).unwrap()
    }

    fn watch(&self, destination: &DestinationId) -> Watch {
        let granted = self.granted(destination);
        self.broker.watch(asker(), &granted)
    }

    async fn token(&self, destination: &DestinationId) -> TokenId {
        let granted = self.granted(destination);
        let token = self.broker.token(&asker(), &granted, Duration::ZERO).await;
        token.unwrap().id
    }

    fn report(&self, from: &Connected, destination: &DestinationId, id: TokenId) -> Report {
        let granted = self.granted(destination);
        let afford = || from.may_report(Instant::now());
        self.broker.report(&granted, id, afford, &Span::none())
    }

    fn mints(&self) -> usize {
        self.source.0.load(Ordering::Relaxed)
    }
}

fn caller() -> CallerId {
    CallerId::from_spiffe(CALLER).unwrap()
}

fn asker() -> Asker {
    Asker {
        span: Span::none(),
        caller: caller(),
        door: Door::Grpc,
        request_id: RequestId::fresh(),
    }
}

fn connected() -> Connected {
    let admission = Admission::new(Shares {
        connections_per_caller: 1,
        calls_per_second: 1.try_into().unwrap(),
        calls: 1,
        longest_call: MINUTE,
    });
    let connected = admission.connect(&caller(), Instant::now());
    connected.ok().unwrap()
}

#[tokio::test(start_paused = true)]
async fn ten_thousand_watchers_see_each_successor_once_and_slow_ones_the_latest() {
    const WATCHERS: usize = 10_000;
    const SUCCESSORS: usize = 3;
    let crowd = Crowd::new(60 * MINUTE);
    let stop = CancellationToken::new();
    let mut watchers = JoinSet::new();
    for n in 0..WATCHERS {
        let destination = n % DESTINATIONS;
        let mut watch = crowd.watch(&crowd.names[destination]);
        let stop = stop.clone();
        watchers.spawn(async move {
            let mut seen = Vec::new();
            while let Some(token) = stop.run_until_cancelled(watch.next()).await {
                seen.push(token.unwrap().id);
            }
            (destination, seen)
        });
    }
    let mut slow: Vec<_> = crowd.names.iter().map(|name| crowd.watch(name)).collect();
    for watch in &mut slow {
        watch.next().await.unwrap();
    }
    // A refresh begins after half a life, give or take a minute and a half.
    sleep(32 * MINUTE * u32::try_from(SUCCESSORS).unwrap()).await;

    let mut latest = HashMap::new();
    for (destination, watch) in slow.iter_mut().enumerate() {
        latest.insert(destination, watch.next().await.unwrap().id);
        let more = watch.next().now_or_never();
        assert!(more.is_none(), "a slow watcher has no queue");
    }
    stop.cancel();
    let mut histories = HashSet::new();
    for (destination, seen) in watchers.join_all().await {
        assert_eq!(seen.len(), 1 + SUCCESSORS);
        assert_eq!(seen.last(), latest.get(&destination));
        histories.insert(seen);
    }
    assert_eq!(
        histories.len(),
        DESTINATIONS,
        "all of one destination saw the same"
    );
    assert_eq!(crowd.mints(), DESTINATIONS * (1 + SUCCESSORS));
}

#[tokio::test(start_paused = true)]
async fn a_thousand_reports_of_one_token_mint_one_successor() {
    let crowd = Crowd::new(60 * MINUTE);
    let destination = &crowd.names[0];
    let rejected = crowd.token(destination).await;
    let from = connected();
    let started = (0..1000)
        .filter(|_| crowd.report(&from, destination, rejected) == Report::Refresh)
        .count();
    sleep(Duration::from_secs(1)).await;
    let late = crowd.report(&from, destination, rejected);
    assert_eq!((started, late), (1, Report::AlreadyReplaced));
    assert_eq!(crowd.mints(), 2);
    // The other 999 cost nothing: nine reports are left.
    let affordable = (0..100).filter(|_| from.may_report(Instant::now())).count();
    assert_eq!(affordable, 9);
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_reports_for_ever_mints_no_more_than_its_budget() {
    const HOURS: u32 = 10;
    // No token is refreshed by itself in that time.
    let crowd = Crowd::new(HOURS * 4 * 60 * MINUTE);
    for destination in &crowd.names {
        crowd.token(destination).await;
    }
    let from = connected();
    let began = Instant::now();
    let mut ignored = 0;
    while began.elapsed() <= (HOURS * 60 + 1) * MINUTE {
        // Whatever the current token is, it is reported, after every window of every slot.
        for destination in &crowd.names {
            let current = crowd.token(destination).await;
            let report = crowd.report(&from, destination, current);
            ignored += usize::from(report == Report::TooOften);
        }
        sleep(Duration::from_secs(31)).await;
    }
    let budget = 10 + 10 * usize::try_from(HOURS).unwrap();
    assert_eq!(crowd.mints(), DESTINATIONS + budget);
    assert!(ignored > 100 * budget, "{ignored}");
}
