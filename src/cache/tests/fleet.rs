//! Replicas that share, in paused time, over a store in memory.

use tokio::{sync::mpsc, time::sleep};

use super::*;
use crate::{
    credential::{Credential, CredentialRef, CredentialSet, Proof},
    shared_cache::{News, Ring, shelf::Shelf},
};

/// Replicas over one store, and the token endpoint that all of them ask.
struct Fleet {
    shelf: Arc<Shelf>,
    source: Arc<Scripted>,
}

/// One replica.
struct Replica {
    cache: Arc<Cache>,
    metrics: Arc<Metrics>,
    _guard: DropGuard,
}

const KEY: &str = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";

fn ring() -> Arc<Ring> {
    Arc::new(Ring::new(KEY, None).unwrap())
}

fn credentials() -> CredentialSet {
    let proof = Proof::ClientSecret(Secret::new("secret".to_owned()));
    let reference = CredentialRef::File("app".to_owned());
    CredentialSet::of(Credential::new(&reference, "client".to_owned(), proof))
}

impl Fleet {
    fn new(source: Arc<Scripted>) -> Self {
        Self {
            shelf: Arc::default(),
            source,
        }
    }

    /// A replica that has not joined yet.
    fn starting(&self) -> Replica {
        let metrics = Arc::new(Metrics::new());
        let shared = SharedCache::over(
            Arc::clone(&self.shelf) as _,
            Some(ring()),
            Arc::clone(&metrics),
        );
        let (cache, schedule) = Cache::new(
            Arc::clone(&metrics),
            Arc::new(Audit::off()),
            Arc::new(shared),
            Traces::off(),
        );
        let cache = Arc::new(cache);
        let stop = CancellationToken::new();
        tokio::spawn(schedule.run(stop.clone()));
        let (tell, mut told) = mpsc::channel(1024);
        self.shelf.tell(tell);
        let listening = Arc::clone(&cache);
        tokio::spawn(stop.clone().run_until_cancelled_owned(async move {
            while let Some(news) = told.recv().await {
                if let News::Told(message) = news {
                    listening.heard(&message);
                }
            }
        }));
        Replica {
            cache,
            metrics,
            _guard: stop.drop_guard(),
        }
    }

    /// A replica that has joined, and knows these registrations.
    async fn replica(&self, registrations: &[Arc<Registration>]) -> Replica {
        let replica = self.starting();
        replica.knows(registrations);
        replica.cache.join(registrations.to_vec()).await;
        replica
    }

    async fn replicas(&self, count: usize, registration: &Arc<Registration>) -> Vec<Replica> {
        let mut replicas = Vec::new();
        for _ in 0..count {
            replicas.push(self.replica(&[Arc::clone(registration)]).await);
        }
        replicas
    }

    fn registration(&self, name: &str) -> Arc<Registration> {
        self.registration_at(name, &host())
    }

    fn registration_at(&self, name: &str, host: &Arc<Host>) -> Arc<Registration> {
        Self::registration_of(name, host, &self.source)
    }

    /// A registration as one replica has it, whose calls go elsewhere.
    fn registration_of(name: &str, host: &Arc<Host>, source: &Arc<Scripted>) -> Arc<Registration> {
        let registration = registration(name, Arc::clone(source), host);
        let place = Place::new(&ring(), &registration.key, &credentials(), host.name());
        Arc::new(Registration {
            place: Some(Arc::new(place)),
            ..registration
        })
    }
}

impl Replica {
    fn knows(&self, registrations: &[Arc<Registration>]) {
        self.cache.adopt(Edition::default(), registrations.iter());
    }

    async fn ask(&self, registration: &Arc<Registration>) -> Result<Arc<Token>, Refusal> {
        self.cache.token(registration, Duration::ZERO).await
    }

    /// How often something was done with the shared cache, with this outcome.
    fn count(&self, operation: &str, outcome: &str) -> u64 {
        let exposition = self.metrics.exposition().unwrap();
        let series = format!(
            "token_broker_shared_cache_operations_total{{operation=\"{operation}\",outcome=\"{outcome}\"}} "
        );
        let mut lines = exposition.lines();
        let value = lines.find_map(|line| line.strip_prefix(&series));
        value.map_or(0, |value| value.parse().unwrap())
    }
}

/// The same registration, as another broker has it: with a host of its own.
fn elsewhere(fleet: &Fleet, registration: &Registration) -> Arc<Registration> {
    fleet.registration(registration.key.destination.as_str())
}

#[tokio::test(start_paused = true)]
async fn a_cold_key_costs_a_fleet_one_call() {
    for count in 1..=9 {
        let fleet = Fleet::new(steady());
        let registration = fleet.registration("one");
        let replicas = fleet.replicas(count, &registration).await;
        let mut callers = Vec::new();
        for replica in &replicas {
            let registration = elsewhere(&fleet, &registration);
            callers.extend((0..1000).map(|_| ask(&replica.cache, &registration)));
        }
        let start = Instant::now();
        let mut ids = HashSet::new();
        for caller in callers {
            ids.insert(caller.await.unwrap().unwrap().id);
        }
        // Whoever waits is told, and does not find out some time later.
        assert!(start.elapsed() < Duration::from_millis(510));
        assert_eq!(
            (fleet.source.calls(), ids.len()),
            (1, 1),
            "{count} replicas"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_token_is_at_hand_at_all_replicas_once_one_has_minted_it() {
    let fleet = Fleet::new(steady());
    let registration = fleet.registration("one");
    let replicas = fleet.replicas(3, &registration).await;
    let minted = replicas[0].ask(&registration).await.unwrap();
    settle().await;
    for replica in &replicas[1..] {
        let found = replica
            .cache
            .find(&registration, Duration::ZERO, &NOBODY)
            .await;
        let (token, found) = found.unwrap();
        assert_eq!((token.id, found), (minted.id, Found::Hit));
        // It is told in milliseconds.
        let early = minted
            .expires_at()
            .instant
            .duration_since(token.expires_at().instant);
        assert!(early < Duration::from_millis(2), "{early:?}");
    }
    assert_eq!(fleet.source.calls(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_fleet_refreshes_as_often_as_one_broker() {
    /// Asks everybody for everything once a minute, for a day; how often the endpoint was asked.
    async fn a_day(count: usize) -> usize {
        let fleet = Fleet::new(steady());
        let keys: Vec<_> = (0..20)
            .map(|number| fleet.registration(&format!("{number}")))
            .collect();
        let mut replicas = Vec::new();
        for _ in 0..count {
            replicas.push(fleet.replica(&keys).await);
        }
        for _ in 0..24 * 60 {
            for replica in &replicas {
                for key in &keys {
                    replica.ask(key).await.unwrap();
                }
            }
            sleep(secs(60)).await;
        }
        fleet.source.calls()
    }
    let (one, five) = (a_day(1).await, a_day(5).await);
    assert!(one > 20 * 46, "{one} calls of one broker");
    assert!(
        five.abs_diff(one) * 100 <= one * 2,
        "{five} calls of five, {one} of one"
    );
}

#[tokio::test(start_paused = true)]
async fn a_holder_that_died_costs_one_more_call_and_no_caller() {
    let fleet = Fleet::new(steady());
    let registration = fleet.registration("one");
    let replicas = fleet.replicas(3, &registration).await;
    // It has the turn, and will never end it.
    fleet.shelf.take_turn(
        &registration.place.as_ref().unwrap().slot_names()[0],
        secs(5),
    );
    let start = Instant::now();
    let callers: Vec<_> = replicas
        .iter()
        .map(|replica| ask(&replica.cache, &registration))
        .collect();
    let mut ids = HashSet::new();
    for caller in callers {
        ids.insert(caller.await.unwrap().unwrap().id);
    }
    assert_eq!((fleet.source.calls(), ids.len()), (1, 1));
    assert!(
        start.elapsed() <= secs(6),
        "waited for {:?}",
        start.elapsed()
    );
}

#[tokio::test(start_paused = true)]
async fn a_turn_that_never_ends_is_waited_for_twice_and_no_longer() {
    let fleet = Fleet::new(steady());
    let registration = fleet.registration("one");
    let replica = fleet.replica(&[Arc::clone(&registration)]).await;
    let name = registration.place.as_ref().unwrap().slot_names()[0];
    fleet.shelf.take_turn(&name, secs(3600));
    let start = Instant::now();
    replica.ask(&registration).await.unwrap();
    assert_eq!(fleet.source.calls(), 1);
    // Twice the timeout and the grace, the flight itself, and the looks, which are spread.
    assert!(
        (secs(11)..secs(13)).contains(&start.elapsed()),
        "waited for {:?}",
        start.elapsed()
    );
}

#[tokio::test(start_paused = true)]
async fn whoever_waited_shares_a_failure_and_whoever_comes_later_does_not() {
    let source = Scripted::new(|call| async move {
        sleep(HALF_A_SECOND).await;
        if call == 1 {
            unavailable()
        } else {
            token_of(HOUR)
        }
    });
    let fleet = Fleet::new(source);
    let registration = fleet.registration("one");
    let replicas = fleet.replicas(4, &registration).await;
    let callers: Vec<_> = replicas[..3]
        .iter()
        .map(|replica| ask(&replica.cache, &registration))
        .collect();
    for caller in callers {
        let refusal = caller.await.unwrap().unwrap_err();
        assert_eq!(reason(refusal), FailureReason::Unavailable);
    }
    assert_eq!(fleet.source.calls(), 1);
    replicas[3].ask(&registration).await.unwrap();
    assert_eq!(fleet.source.calls(), 2);
}

#[tokio::test(start_paused = true)]
async fn rejected_credentials_are_tried_by_one_replica_of_ten() {
    let source = Scripted::new(|_| async {
        Err(FetchError::Rejected {
            status: 401,
            code: None,
        })
    });
    let fleet = Fleet::new(source);
    let registration = fleet.registration("one");
    let replicas = fleet.replicas(10, &registration).await;
    for replica in &replicas {
        let registration = elsewhere(&fleet, &registration);
        let refusal = replica.ask(&registration).await.unwrap_err();
        assert_eq!(reason(refusal), FailureReason::CredentialRejected);
    }
    assert_eq!(fleet.source.calls(), 1);
    // Nothing is final: when its time has come it is tried again, by one of them.
    advance(secs(40)).await;
    for replica in &replicas {
        let registration = elsewhere(&fleet, &registration);
        replica.ask(&registration).await.unwrap_err();
    }
    assert_eq!(fleet.source.calls(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_host_that_asks_to_be_left_alone_is_left_alone_by_ten_replicas() {
    let source = Scripted::new(|call| async move {
        if call == 1 {
            Err(FetchError::Throttled {
                retry_after: Some(secs(60)),
            })
        } else {
            token_of(HOUR)
        }
    });
    let fleet = Fleet::new(source);
    let replicas = fleet.replicas(10, &fleet.registration("one")).await;
    let mut keys = Vec::new();
    for (number, replica) in replicas.iter().enumerate() {
        // Each asks for another key of the same host, which is known to it alone.
        let registration = fleet.registration(&format!("key-{number}"));
        let refusal = replica.ask(&registration).await.unwrap_err();
        assert_eq!(reason(refusal), FailureReason::Throttled);
        keys.push(registration);
    }
    assert_eq!(fleet.source.calls(), 1);
    advance(secs(67)).await;
    for (replica, key) in replicas.iter().zip(&keys) {
        replica.ask(key).await.unwrap();
    }
    assert_eq!(fleet.source.calls(), 11);
}

#[tokio::test(start_paused = true)]
async fn without_the_store_every_replica_works_alone() {
    let fleet = Fleet::new(steady());
    let registration = fleet.registration("one");
    let replicas = fleet.replicas(3, &registration).await;
    fleet.shelf.go(true);
    for replica in &replicas {
        replica.ask(&registration).await.unwrap();
        replica.ask(&registration).await.unwrap();
    }
    assert_eq!(fleet.source.calls(), 3);
    assert_eq!(replicas[0].count("look", "unreachable"), 1);
    // They agree again when it is back.
    fleet.shelf.go(false);
    advance(HOUR).await;
    let mut ids = HashSet::new();
    for replica in &replicas {
        ids.insert(replica.ask(&registration).await.unwrap().id);
    }
    assert_eq!((fleet.source.calls(), ids.len()), (4, 1));
}

#[tokio::test(start_paused = true)]
async fn a_replica_that_nobody_tells_looks_for_itself() {
    let fleet = Fleet::new(steady());
    let registration = fleet.registration("one");
    let replicas = fleet.replicas(3, &registration).await;
    fleet.shelf.deafen(true);
    let callers: Vec<_> = replicas
        .iter()
        .map(|replica| ask(&replica.cache, &registration))
        .collect();
    let start = Instant::now();
    for caller in callers {
        caller.await.unwrap().unwrap();
    }
    assert_eq!(fleet.source.calls(), 1);
    assert!(start.elapsed() <= secs(1));
}

#[tokio::test(start_paused = true)]
async fn a_new_replica_has_what_the_others_have_before_it_asks_the_endpoint() {
    let fleet = Fleet::new(steady());
    let keys: Vec<_> = (0..100)
        .map(|number| fleet.registration(&format!("{number}")))
        .collect();
    let old = fleet.replica(&keys).await;
    for key in &keys {
        old.ask(key).await.unwrap();
    }
    let new = fleet.starting();
    new.knows(&keys);
    assert!(!new.cache.has_joined());
    // Whoever asks before waits for that.
    let early = ask(&new.cache, &keys[0]);
    settle().await;
    assert!(!early.is_finished());
    new.cache.join(keys.clone()).await;
    assert!(new.cache.has_joined());
    early.await.unwrap().unwrap();
    for key in &keys {
        assert_eq!(condition(&new.cache, key), Condition::Fresh);
        let (_, found) = new.cache.find(key, Duration::ZERO, &NOBODY).await.unwrap();
        assert_eq!(found, Found::Hit);
    }
    assert_eq!(fleet.source.calls(), 100);
}

#[tokio::test(start_paused = true)]
async fn a_token_in_the_place_of_another_is_never_served_and_counted() {
    let fleet = Fleet::new(steady());
    let (one, other) = (fleet.registration("one"), fleet.registration("other"));
    let keys = [Arc::clone(&one), Arc::clone(&other)];
    let first = fleet.replica(&keys).await;
    let ids = [
        first.ask(&one).await.unwrap().id,
        first.ask(&other).await.unwrap().id,
    ];
    let name = |registration: &Registration| registration.place.as_ref().unwrap().slot_names()[0];
    fleet.shelf.swap(&name(&one), &name(&other));
    let second = fleet.replica(&keys).await;
    assert_eq!(second.count("open", "forged"), 2);
    for key in &keys {
        let token = second.ask(key).await.unwrap();
        assert!(token.is_for(&key.key));
        assert!(!ids.contains(&token.id));
    }
    assert_eq!(fleet.source.calls(), 4);
}

#[tokio::test(start_paused = true)]
async fn an_older_token_that_is_put_back_replaces_nothing() {
    let fleet = Fleet::new(steady());
    let registration = fleet.registration("one");
    let replica = fleet.replica(&[Arc::clone(&registration)]).await;
    replica.ask(&registration).await.unwrap();
    let name = registration.place.as_ref().unwrap().slot_names()[0];
    let old = fleet.shelf.copy(&name);
    // Its successor comes, and a few minutes later the old one is put back and told of.
    advance(secs(32 * 60)).await;
    replica.ask(&registration).await.unwrap();
    sleep(secs(60)).await;
    let successor = replica.ask(&registration).await.unwrap();
    fleet.shelf.put_back(&name, &old);
    settle().await;
    assert_eq!(replica.count("adopt", "stale"), 1);
    assert_eq!(replica.ask(&registration).await.unwrap().id, successor.id);
    // The refresh is not fobbed off with it either.
    advance(secs(32 * 60)).await;
    replica.ask(&registration).await.unwrap();
    sleep(secs(60)).await;
    assert_ne!(replica.ask(&registration).await.unwrap().id, successor.id);
    assert_eq!(fleet.source.calls(), 3);
}

#[tokio::test(start_paused = true)]
async fn an_expired_token_that_is_put_back_is_never_served() {
    let fleet = Fleet::new(steady());
    let registration = fleet.registration("one");
    let first = fleet.replica(&[Arc::clone(&registration)]).await;
    let dead = first.ask(&registration).await.unwrap().id;
    let name = registration.place.as_ref().unwrap().slot_names()[0];
    let old = fleet.shelf.copy(&name);
    drop(first);
    advance(HOUR).await;
    fleet.shelf.put_back(&name, &old);
    let second = fleet.replica(&[Arc::clone(&registration)]).await;
    assert_eq!(second.count("adopt", "expired"), 1);
    assert_ne!(second.ask(&registration).await.unwrap().id, dead);
    assert_eq!(fleet.source.calls(), 2);
}

#[tokio::test(start_paused = true)]
async fn what_was_minted_before_a_stop_does_not_come_back_after_it() {
    let fleet = Fleet::new(steady());
    let registration = fleet.registration("one");
    let replica = fleet.replica(&[Arc::clone(&registration)]).await;
    let stopped = replica.ask(&registration).await.unwrap().id;
    advance(secs(1)).await;
    let destination = &registration.key.destination;
    replica.cache.quarantine(destination, None);
    advance(secs(1)).await;
    replica.cache.release(destination, None);
    assert_ne!(replica.ask(&registration).await.unwrap().id, stopped);
    assert_eq!(fleet.source.calls(), 2);
}

#[tokio::test(start_paused = true)]
async fn an_operator_who_wants_a_successor_gets_one_that_is_newer() {
    let fleet = Fleet::new(steady());
    let registration = fleet.registration("one");
    let replicas = fleet.replicas(2, &registration).await;
    let first = replicas[0].ask(&registration).await.unwrap().id;
    advance(secs(1)).await;
    let refreshed = replicas[1]
        .cache
        .refresh(&registration, &NOBODY)
        .await
        .unwrap()
        .id;
    assert_ne!(refreshed, first);
    settle().await;
    assert_eq!(replicas[0].ask(&registration).await.unwrap().id, refreshed);
    assert_eq!(fleet.source.calls(), 2);
}

#[tokio::test(start_paused = true)]
async fn whoever_wants_more_validity_than_a_replicas_token_has_gets_it() {
    let fleet = Fleet::new(steady());
    let registration = fleet.registration("one");
    let first = fleet.replica(&[Arc::clone(&registration)]).await;
    first.ask(&registration).await.unwrap();
    drop(first);
    advance(secs(20 * 60)).await;
    let second = fleet.replica(&[Arc::clone(&registration)]).await;
    let token = second
        .cache
        .token(&registration, secs(50 * 60))
        .await
        .unwrap();
    assert!(token.suffices(Instant::now(), secs(50 * 60)));
    assert_eq!(fleet.source.calls(), 2);
}

fn rejecting() -> Arc<Scripted> {
    Scripted::new(|_| async {
        Err(FetchError::Rejected {
            status: 403,
            code: None,
        })
    })
}

#[tokio::test(start_paused = true)]
async fn a_replica_whose_calls_are_rejected_keeps_no_other_from_minting() {
    let fleet = Fleet::new(steady());
    let (bad, good) = (rejecting(), Arc::clone(&fleet.source));
    let at_bad = Fleet::registration_of("one", &host(), &bad);
    let at_good = Fleet::registration_of("one", &host(), &good);
    let first = fleet.replica(&[Arc::clone(&at_bad)]).await;
    let second = fleet.replica(&[Arc::clone(&at_good)]).await;
    let start = Instant::now();
    first.ask(&at_bad).await.unwrap_err();
    while second.ask(&at_good).await.is_err() {
        first.ask(&at_bad).await.unwrap_err();
        sleep(secs(1)).await;
    }
    assert!(start.elapsed() < secs(60), "{:?}", start.elapsed());
    settle().await;
    // What one of them gets all of them have.
    first.ask(&at_bad).await.unwrap();
    assert_eq!(good.calls(), 1);
    assert!(bad.calls() <= 2, "{} calls", bad.calls());
}

#[tokio::test(start_paused = true)]
async fn ten_replicas_with_rejected_credentials_ask_hardly_more_often_than_one() {
    /// How often the endpoint is asked in six hours in which everybody asks each second: of
    /// fewer, what is drawn at random would decide.
    async fn six_hours(count: usize) -> usize {
        let fleet = Fleet::new(rejecting());
        let registration = fleet.registration("one");
        let replicas = fleet.replicas(count, &registration).await;
        for _ in 0..6 * 3600 {
            for replica in &replicas {
                replica.ask(&registration).await.unwrap_err();
            }
            sleep(secs(1)).await;
        }
        fleet.source.calls()
    }
    let (one, ten) = (six_hours(1).await, six_hours(10).await);
    assert!(one > 60, "{one} calls of one broker");
    assert!(ten <= one * 3 / 2, "{ten} calls of ten, {one} of one");
}

#[tokio::test(start_paused = true)]
async fn an_operator_is_not_fobbed_off_with_what_was_minted_before() {
    let fleet = Fleet::new(steady());
    let registration = fleet.registration("one");
    let replicas = fleet.replicas(2, &registration).await;
    replicas[0].ask(&registration).await.unwrap();
    settle().await;
    // The second one does not hear of the next token, and finds it when it looks.
    fleet.shelf.deafen(true);
    advance(secs(1)).await;
    let known = replicas[0]
        .cache
        .refresh(&registration, &NOBODY)
        .await
        .unwrap()
        .id;
    advance(secs(1)).await;
    let refreshed = replicas[1]
        .cache
        .refresh(&registration, &NOBODY)
        .await
        .unwrap()
        .id;
    assert_ne!(refreshed, known);
    assert_eq!(fleet.source.calls(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_pause_is_known_as_soon_as_it_is_told() {
    let fleet = Fleet::new(steady());
    let throttling = Scripted::new(|_| async {
        Err(FetchError::Throttled {
            retry_after: Some(secs(60)),
        })
    });
    let here = host();
    let (one, other) = (
        fleet.registration_at("one", &here),
        fleet.registration_at("other", &here),
    );
    let throttled = Fleet::registration_of("one", &host(), &throttling);
    let first = fleet.replica(&[Arc::clone(&throttled)]).await;
    let second = fleet.replica(&[one, Arc::clone(&other)]).await;
    first.ask(&throttled).await.unwrap_err();
    settle().await;
    // Nobody can be asked any more, and it is known all the same.
    fleet.shelf.go(true);
    let refusal = second.ask(&other).await.unwrap_err();
    assert_eq!(reason(refusal), FailureReason::Throttled);
    assert_eq!(fleet.source.calls(), 0);
}

#[tokio::test(start_paused = true)]
async fn whoever_waits_for_another_replica_keeps_no_turn_at_the_host() {
    let fleet = Fleet::new(steady());
    let host = Arc::new(Host::new("upstream.example:443".to_owned(), 1));
    let one = fleet.registration_at("one", &host);
    let other = fleet.registration_at("other", &host);
    let replica = fleet.replica(&[Arc::clone(&one), Arc::clone(&other)]).await;
    let name = one.place.as_ref().unwrap().slot_names()[0];
    fleet.shelf.take_turn(&name, secs(5));
    let waiting = ask(&replica.cache, &one);
    settle().await;
    let start = Instant::now();
    replica.ask(&other).await.unwrap();
    assert!(start.elapsed() < secs(1), "{:?}", start.elapsed());
    waiting.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_slow_endpoint_with_many_keys_is_asked_once_for_each() {
    let source = Scripted::new(|_| async {
        sleep(secs(2)).await;
        token_of(HOUR)
    });
    let fleet = Fleet::new(source);
    let mut replicas = Vec::new();
    let mut callers = Vec::new();
    for _ in 0..3 {
        let host = Arc::new(Host::new("upstream.example:443".to_owned(), 1));
        let keys: Vec<_> = (0..40)
            .map(|number| fleet.registration_at(&format!("{number}"), &host))
            .collect();
        let replica = fleet.replica(&keys).await;
        callers.extend(keys.iter().map(|key| ask(&replica.cache, key)));
        replicas.push(replica);
    }
    for caller in callers {
        caller.await.unwrap().unwrap();
    }
    assert_eq!(fleet.source.calls(), 40);
}

#[tokio::test(start_paused = true)]
async fn whoever_queues_at_a_host_has_a_replicas_token_at_once() {
    let fleet = Fleet::new(steady());
    let slow = Scripted::new(|_| async {
        sleep(secs(4)).await;
        token_of(HOUR)
    });
    let busy = Arc::new(Host::new("upstream.example:443".to_owned(), 1));
    let other = Fleet::registration_of("other", &busy, &slow);
    let queueing = fleet.registration_at("one", &busy);
    let elsewhere = fleet.registration("one");
    let first = fleet
        .replica(&[Arc::clone(&other), Arc::clone(&queueing)])
        .await;
    let second = fleet.replica(&[Arc::clone(&elsewhere)]).await;
    let start = Instant::now();
    let holding = ask(&first.cache, &other);
    settle().await;
    let waiting = ask(&first.cache, &queueing);
    settle().await;
    second.ask(&elsewhere).await.unwrap();
    waiting.await.unwrap().unwrap();
    assert!(start.elapsed() < secs(1), "{:?}", start.elapsed());
    holding.await.unwrap().unwrap();
    assert_eq!(fleet.source.calls(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_flight_that_fails_lands_with_what_another_replica_got_meanwhile() {
    let fleet = Fleet::new(steady());
    let failing = Scripted::new(|_| async {
        sleep(secs(4)).await;
        unavailable()
    });
    let at_failing = Fleet::registration_of("one", &host(), &failing);
    let at_good = fleet.registration("one");
    let first = fleet.replica(&[Arc::clone(&at_failing)]).await;
    let second = fleet.replica(&[Arc::clone(&at_good)]).await;
    // It cannot ask the others when it begins.
    fleet.shelf.go(true);
    let waiting = ask(&first.cache, &at_failing);
    advance(secs(1)).await;
    fleet.shelf.go(false);
    let minted = second.ask(&at_good).await.unwrap();
    assert_eq!(waiting.await.unwrap().unwrap().id, minted.id);
    assert_eq!((failing.calls(), fleet.source.calls()), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_replica_that_missed_what_was_told_catches_up() {
    let fleet = Fleet::new(steady());
    let failing = Scripted::new(|_| async { unavailable() });
    let at_failing = Fleet::registration_of("one", &host(), &failing);
    let at_good = fleet.registration("one");
    let first = fleet.replica(&[Arc::clone(&at_failing)]).await;
    let second = fleet.replica(&[Arc::clone(&at_good)]).await;
    first.ask(&at_failing).await.unwrap_err();
    fleet.shelf.deafen(true);
    let minted = second.ask(&at_good).await.unwrap();
    first.cache.catch_up().await;
    assert_eq!(first.ask(&at_failing).await.unwrap().id, minted.id);
}

#[tokio::test(start_paused = true)]
async fn values_that_change_all_the_time_keep_nobody_from_minting() {
    let fleet = Fleet::new(steady());
    let registration = fleet.registration("one");
    let replica = fleet.replica(&[Arc::clone(&registration)]).await;
    let name = registration.place.as_ref().unwrap().slot_names()[0];
    fleet.shelf.change_all_the_time(&name);
    let start = Instant::now();
    replica.ask(&registration).await.unwrap();
    assert!(start.elapsed() < secs(1), "{:?}", start.elapsed());
    assert_eq!(fleet.source.calls(), 1);
}
