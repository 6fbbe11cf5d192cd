//! Stops at several brokers over one store, in paused time.

use std::sync::atomic::AtomicUsize;

use tokio::{
    sync::mpsc,
    time::{advance, sleep},
};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::*;
use crate::{
    credential::{Credential, CredentialRef, CredentialSet, Proof},
    destination::ApplicationName,
    shared_cache::{News, Place, Ring, SharedQuarantine, shelf::Shelf},
    telemetry::{Span, Traces},
    usage::StateFile,
};

const HOUR: Duration = Duration::from_secs(3600);

/// Mints after a second, and counts.
#[derive(Default)]
struct Slow(AtomicUsize);

impl TokenSource for Slow {
    fn mint<'a>(&'a self, _flight: &'a Span) -> BoxFuture<'a, Result<Minted, FetchError>> {
        self.0.fetch_add(1, Ordering::Relaxed);
        async {
            sleep(Duration::from_secs(1)).await;
            Ok(Minted {
                access_token: Secret::new("token".to_owned()),
                expires_in: None,
            })
        }
        .boxed()
    }
}

/// Replicas over one store, and the token endpoint that all of them ask.
#[derive(Default)]
struct Fleet {
    shelf: Arc<Shelf>,
    source: Arc<Slow>,
}

struct Replica {
    broker: Arc<Broker>,
    operator: Arc<Operator>,
    metrics: Arc<Metrics>,
    _tasks: DropGuard,
}

impl Fleet {
    fn calls(&self) -> usize {
        self.source.0.load(Ordering::Relaxed)
    }

    fn shared(&self, metrics: &Arc<Metrics>) -> Arc<SharedCache> {
        let store = Arc::clone(&self.shelf) as _;
        let shared = SharedCache::over(store, Some(Ring::sample(&[1])), Arc::clone(metrics));
        Arc::new(shared)
    }

    /// A replica that listens, and has joined.
    async fn replica(&self) -> Replica {
        let replica = self.starting(Audit::off(), None);
        replica.join().await;
        replica
    }

    async fn replicas<const N: usize>(&self) -> [Replica; N] {
        let replicas = [(); N].map(|()| self.starting(Audit::off(), None));
        for replica in &replicas {
            replica.join().await;
        }
        replicas
    }

    fn starting(
        &self,
        audit: Audit,
        state_file: Option<(StateFile, Vec<SharedQuarantine>)>,
    ) -> Replica {
        let (metrics, audit) = (Arc::new(Metrics::new()), Arc::new(audit));
        let shared = self.shared(&metrics);
        let (cache, schedule) = Cache::new(
            Arc::clone(&metrics),
            Arc::clone(&audit),
            Arc::clone(&shared),
            Traces::off(),
        );
        let mut catalogue = Catalogue::new(Edition::default(), Arc::default());
        let proof = Proof::ClientSecret(Secret::new("secret".to_owned()));
        let reference = CredentialRef::File("app".to_owned());
        let credential = Credential::new(&reference, "client".to_owned(), proof);
        let registration = Registration {
            rotation: Rotation::of(Arc::clone(&self.source) as _),
            warm: false,
            ..sample("one")
        };
        let place = Place::new(
            &Ring::sample(&[1]),
            &registration.key,
            &CredentialSet::of(credential),
            registration.host.name(),
        );
        let registration = Registration {
            place: Some(Arc::new(place)),
            ..registration
        };
        let pattern = CallerPattern::parse("spiffe://td/**").unwrap();
        catalogue.add(Listing::sample(Arc::new(registration), pattern, &metrics));
        let broker = Arc::new(Broker::new(catalogue, cache, audit));
        let administrators = [CallerPattern::parse("spiffe://td/ops").unwrap()];
        let rules = Rules::new(&administrators, Vec::new(), Duration::ZERO);
        let (state_file, acts) = state_file.unzip();
        let (operator, _) = Operator::new(
            Arc::clone(&broker),
            rules,
            state_file,
            acts.unwrap_or_default(),
            Arc::clone(&metrics),
            Arc::clone(&shared),
        );
        let stop = CancellationToken::new();
        tokio::spawn(schedule.run(stop.clone()));
        let (tell, mut told) = mpsc::channel(1024);
        self.shelf.tell(tell);
        let (cache, listening) = (Arc::clone(&broker), Arc::clone(&operator));
        tokio::spawn(stop.clone().run_until_cancelled_owned(async move {
            while let Some(News::Told(message)) = told.recv().await {
                cache.cache().heard(&message);
                if let Some(act) = shared.open_act(&message) {
                    listening.heard(&act);
                }
            }
        }));
        Replica {
            broker,
            operator,
            metrics,
            _tasks: stop.drop_guard(),
        }
    }
}

impl Replica {
    async fn join(&self) {
        self.operator.rejoin().await;
        self.broker.join().await;
    }

    async fn ask(&self) -> Result<TokenId, Refusal> {
        let asker = asker("r-1");
        let granted = granted(&self.broker, &asker);
        match self.broker.token(&asker, &granted, Duration::ZERO).await {
            Ok(token) => Ok(token.id),
            Err(CallError::Refused(refusal)) => Err(refusal),
            Err(error) => panic!("{error}"),
        }
    }

    /// Lets so long pass, with a look each second.
    async fn looks_for(&self, span: Duration) {
        for _ in 0..span.as_secs() {
            sleep(Duration::from_secs(1)).await;
            self.operator.look();
        }
        settle().await;
    }

    fn administrator(&self) -> Administrator {
        let ops = CallerId::from_spiffe("spiffe://td/ops").unwrap();
        self.operator.administrator(&ops).unwrap()
    }

    async fn quarantine(&self, application: &str) -> Applied {
        let administrator = self.administrator();
        let asked = asked(&administrator);
        let applied = self
            .operator
            .quarantine(&asked, "one", application, "it leaks");
        let applied = applied.await.unwrap();
        settle().await;
        applied
    }

    async fn release(&self, application: &str) -> Applied {
        let administrator = self.administrator();
        let asked = asked(&administrator);
        let applied = self
            .operator
            .release(&asked, "one", application)
            .await
            .unwrap();
        settle().await;
        applied
    }

    /// Who stopped the destination, and why.
    fn note(&self) -> Note {
        let (mut surveys, _) = self.operator.survey();
        let State::Protected(protected) = surveys.remove(0).state else {
            panic!("it is protected")
        };
        let note = protected.quarantine?;
        Some((note.administrator, note.comment))
    }

    fn warnings(&self) -> Vec<&'static str> {
        let (_, warnings) = self.operator.survey();
        warnings
            .iter()
            .map(|warning| warning.trouble.label())
            .collect()
    }

    fn count(&self, operation: &str, outcome: &str) -> u64 {
        let series = format!(
            "token_broker_shared_cache_operations_total{{operation=\"{operation}\",outcome=\"{outcome}\"}} "
        );
        let exposition = self.metrics.exposition().unwrap();
        let mut lines = exposition.lines();
        let value = lines.find_map(|line| line.strip_prefix(&series));
        value.map_or(0, |value| value.parse().unwrap())
    }
}

fn asked(administrator: &Administrator) -> Asked<'_> {
    Asked {
        span: const { &Span::none() },
        administrator,
        request_id: "r-2",
        deadline: Instant::now() + HOUR,
    }
}

/// Lets everybody hear what was told, and do what follows from it.
async fn settle() {
    sleep(Duration::from_millis(100)).await;
}

/// Who stopped a destination, and why.
type Note = Option<(String, String)>;

fn anna() -> (String, String) {
    ("spiffe://td/ops".to_owned(), "it leaks".to_owned())
}

const STOPPED: Result<TokenId, Refusal> = Err(Refusal::Quarantined);

#[tokio::test(start_paused = true)]
async fn a_stop_at_one_replica_is_a_stop_at_all_until_one_releases_it() {
    let fleet = Fleet::default();
    let [one, two, three] = fleet.replicas().await;
    let token = one.ask().await.unwrap();
    settle().await;
    for replica in [&one, &two, &three] {
        assert_eq!(replica.ask().await, Ok(token));
    }
    let stopped = two.quarantine("").await;
    assert_eq!(
        (stopped.told, stopped.kept, stopped.all),
        (Told::Yes, Kept::NoStateFile, true)
    );
    for replica in [&one, &two, &three] {
        assert_eq!(replica.ask().await, STOPPED);
        assert_eq!(replica.note(), Some(anna()));
    }
    // A second stop changes nothing.
    assert_eq!(three.quarantine("").await.told, Told::Yes);
    assert_eq!(fleet.calls(), 1);
    let released = three.release("").await;
    assert_eq!((released.told, released.applications.len()), (Told::Yes, 1));
    let successor = one.ask().await.unwrap();
    assert_ne!(successor, token, "nobody takes up the old one");
    settle().await;
    for replica in [&one, &two, &three] {
        assert_eq!(replica.note(), None);
        assert_eq!(replica.ask().await, Ok(successor));
        assert_eq!(replica.count("quarantine", "stale"), 0);
    }
    assert_eq!(fleet.calls(), 2);
}

#[tokio::test(start_paused = true)]
async fn whoever_waits_or_watches_at_another_replica_is_told_at_once() {
    let fleet = Fleet::default();
    let [one, two] = fleet.replicas().await;
    let asker = asker("r-1");
    let granted = granted(&two.broker, &asker);
    let mut watch = two.broker.watch(asker, &granted);
    let began = Instant::now();
    let waiting = async {
        let outcome = two.ask().await;
        (outcome, began.elapsed())
    };
    let watching = async { watch.next().await.map(|_| ()) };
    let stopping = async {
        sleep(Duration::from_millis(500)).await;
        one.quarantine("app").await
    };
    let ((waited, after), watched, stopped) = tokio::join!(waiting, watching, stopping);
    assert_eq!((waited, after), (STOPPED, Duration::from_millis(500)));
    assert_eq!(watched, Err(CallError::Refused(Refusal::Quarantined)));
    assert_eq!(stopped.told, Told::Yes);
    // What was under way for all lands nowhere.
    sleep(HOUR / 60).await;
    assert_eq!((fleet.calls(), two.ask().await), (1, STOPPED));
    one.release("app").await;
    assert!(two.ask().await.is_ok());
    assert_eq!(fleet.calls(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_replica_that_was_away_or_starts_learns_what_was_done() {
    let fleet = Fleet::default();
    let [one, two] = fleet.replicas().await;
    let token = two.ask().await.unwrap();
    fleet.shelf.deafen(true);
    assert_eq!(one.quarantine("").await.told, Told::Yes);
    assert_eq!(two.ask().await, Ok(token), "nobody told it");
    two.operator.rejoin().await;
    assert_eq!((two.ask().await, two.note()), (STOPPED, Some(anna())));
    let three = fleet.replica().await;
    assert_eq!((three.ask().await, three.note()), (STOPPED, Some(anna())));
    one.release("").await;
    assert_eq!(two.ask().await, STOPPED, "nobody told it");
    for replica in [&two, &three, &fleet.replica().await] {
        replica.operator.rejoin().await;
        assert_eq!(replica.note(), None);
        assert!(replica.ask().await.is_ok_and(|other| other != token));
    }
    assert_eq!(fleet.calls(), 2);
}

#[tokio::test(start_paused = true)]
async fn what_is_played_back_or_forged_changes_nothing() {
    let fleet = Fleet::default();
    let [one, two] = fleet.replicas().await;
    let (tell, mut told) = mpsc::channel(1024);
    fleet.shelf.tell(tell);
    one.quarantine("").await;
    one.release("").await;
    one.quarantine("app").await;
    one.release("app").await;
    one.quarantine("").await;
    let shared = fleet.shared(&Arc::default());
    let mut acts = Vec::new();
    while let Ok(News::Told(message)) = told.try_recv() {
        acts.extend(shared.open_act(&message));
    }
    assert_eq!(acts.len(), 5);
    for release in [false, true] {
        if release {
            one.release("").await;
        }
        let expected = if release { None } else { Some(anna()) };
        for act in acts.iter().chain(acts.iter().rev()) {
            for replica in [&one, &two] {
                replica.operator.heard(act);
                settle().await;
                assert_eq!(replica.note(), expected, "{act:?}");
            }
        }
        // The store has the last word of each as well.
        assert_eq!(fleet.replica().await.note(), expected);
    }
    let token = two.ask().await.unwrap();
    for replica in [&one, &two] {
        assert_eq!(replica.count("quarantine", "stale"), 14);
    }
    // What was stopped under another name, or by nobody, is no stop.
    shared.keep_quarantine(&acts[0]).await;
    fleet
        .shelf
        .tamper(|_, bytes| *bytes.last_mut().unwrap() ^= 1);
    two.operator.rejoin().await;
    assert_eq!(two.ask().await, Ok(token));
    let newcomer = fleet.replica().await;
    assert_eq!(newcomer.note(), None);
    assert!(newcomer.count("open", "forged") > 0);
}

#[tokio::test(start_paused = true)]
async fn whoever_stops_again_what_others_have_released_stops_it_everywhere() {
    for joins_again in [false, true] {
        let fleet = Fleet::default();
        let [one, two] = fleet.replicas().await;
        one.quarantine("").await;
        settle().await;
        assert_eq!(two.note(), Some(anna()));
        fleet.shelf.deafen(true);
        two.release("").await;
        fleet.shelf.deafen(false);
        assert_eq!((one.note(), two.note()), (Some(anna()), None));
        assert_eq!(one.quarantine("").await.told, Told::Yes);
        settle().await;
        if joins_again {
            one.operator.rejoin().await;
            two.operator.rejoin().await;
            settle().await;
        }
        for replica in [&one, &two, &fleet.replica().await] {
            assert_eq!(replica.note(), Some(anna()));
            assert_eq!(replica.ask().await, Err(Refusal::Quarantined));
        }
        // And the next release ends it at all of them.
        two.release("").await;
        settle().await;
        assert_eq!((one.note(), two.note()), (None, None));
    }
}

#[tokio::test(start_paused = true)]
async fn a_flushed_store_is_filled_again() {
    let fleet = Fleet::default();
    let [one, two] = fleet.replicas().await;
    one.quarantine("").await;
    fleet.shelf.flush();
    assert_eq!(fleet.replica().await.note(), None, "nobody told it");
    two.operator.rejoin().await;
    assert_eq!(fleet.replica().await.note(), Some(anna()));
    // What somebody who missed a release puts back gives way to it.
    fleet.shelf.deafen(true);
    two.release("").await;
    fleet.shelf.flush();
    fleet.shelf.deafen(false);
    one.operator.rejoin().await;
    settle().await;
    for replica in [&one, &two, &fleet.replica().await] {
        assert_eq!(replica.note(), None);
    }
}

#[tokio::test(start_paused = true)]
async fn without_the_store_a_stop_works_here_says_so_and_is_told_later() {
    let fleet = Fleet::default();
    let [one, two] = fleet.replicas().await;
    let token = one.ask().await.unwrap();
    settle().await;
    assert_eq!(two.ask().await, Ok(token));
    assert_eq!(one.warnings(), [""; 0]);
    fleet.shelf.go(true);
    let stopped = one.quarantine("").await;
    assert_eq!(stopped.told, Told::NotYet);
    assert_eq!((one.ask().await, two.ask().await), (STOPPED, Ok(token)));
    assert_eq!(one.warnings(), ["shared_cache_unavailable"]);
    fleet.shelf.go(false);
    advance(Duration::from_secs(5)).await;
    one.operator.look();
    settle().await;
    assert_eq!((one.ask().await, two.ask().await), (STOPPED, STOPPED));
    assert_eq!(one.warnings(), [""; 0]);
    fleet.shelf.go(true);
    assert_eq!(one.release("").await.told, Told::NotYet);
    assert_eq!(two.ask().await, STOPPED);
    fleet.shelf.go(false);
    advance(Duration::from_secs(5)).await;
    one.operator.look();
    settle().await;
    let successor = two.ask().await.unwrap();
    assert_ne!(successor, token, "it was forgotten, if late");
}

#[tokio::test(start_paused = true)]
async fn a_list_that_did_not_come_is_asked_for_again_within_seconds() {
    for starts in [false, true] {
        let fleet = Fleet::default();
        let one = fleet.replica().await;
        let two = fleet.starting(Audit::off(), None);
        if !starts {
            two.join().await;
            two.ask().await.unwrap();
        }
        fleet.shelf.deafen(true);
        one.quarantine("").await;
        fleet.shelf.go(true);
        // The connection, or the start, at which the one list came too late.
        two.join().await;
        fleet.shelf.go(false);
        assert!(two.ask().await.is_ok(), "it starts, and goes on");
        two.looks_for(Duration::from_secs(6)).await;
        assert_eq!((two.ask().await, two.note()), (STOPPED, Some(anna())));
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_that_does_not_answer_is_asked_once_at_a_time() {
    let fleet = Fleet::default();
    let one = fleet.replica().await;
    fleet.shelf.go(true);
    one.quarantine("").await;
    fleet.shelf.go(false);
    fleet.shelf.hang(true);
    let asked = fleet.shelf.lists();
    one.looks_for(HOUR / 6).await;
    assert_eq!(fleet.shelf.lists(), asked + 1);
    fleet.shelf.hang(false);
    settle().await;
    assert_eq!(fleet.replica().await.note(), Some(anna()));
}

#[tokio::test(start_paused = true)]
async fn a_store_that_is_flushed_amid_a_connection_is_filled_again_within_minutes() {
    let fleet = Fleet::default();
    let [one, two] = fleet.replicas().await;
    one.quarantine("").await;
    fleet.shelf.flush();
    two.looks_for(Duration::from_secs(77)).await;
    assert_eq!(fleet.replica().await.note(), Some(anna()));
    // No more often than that.
    let asked = fleet.shelf.lists();
    two.looks_for(HOUR).await;
    let asked = fleet.shelf.lists() - asked;
    assert!((46..=60).contains(&asked), "{asked}");
}

#[tokio::test(start_paused = true)]
async fn what_was_told_and_lost_on_its_way_is_found_out_within_minutes() {
    let fleet = Fleet::default();
    let [one, two] = fleet.replicas().await;
    two.ask().await.unwrap();
    fleet.shelf.deafen(true);
    one.quarantine("").await;
    two.looks_for(Duration::from_secs(77)).await;
    assert_eq!(two.ask().await, STOPPED);
}

#[tokio::test(start_paused = true)]
async fn a_stop_and_its_release_that_were_both_missed_flush_the_token() {
    for (application, takes) in [("", 0), ("app", 0), ("", 60)] {
        let fleet = Fleet::default();
        let [one, two] = fleet.replicas().await;
        let token = one.ask().await.unwrap();
        settle().await;
        let asker = asker("r-1");
        let granted = granted(&two.broker, &asker);
        let mut watch = two.broker.watch(asker, &granted);
        assert_eq!(watch.next().await.unwrap().id, token);
        fleet.shelf.deafen(true);
        one.quarantine(application).await;
        sleep(Duration::from_secs(takes)).await;
        one.release(application).await;
        fleet.shelf.deafen(false);
        assert_eq!(two.ask().await, Ok(token), "nobody told it");
        sleep(Duration::from_secs(60)).await;
        two.operator.rejoin().await;
        let heard = Instant::now();
        let brought = watch.next().await.unwrap().id;
        assert_eq!(heard.elapsed(), Duration::from_secs(1));
        assert_ne!(brought, token);
        settle().await;
        for replica in [&one, &two] {
            assert_eq!(replica.ask().await, Ok(brought));
            assert_eq!(replica.note(), None);
        }
        // It counts once.
        two.operator.rejoin().await;
        assert_eq!(two.ask().await, Ok(brought));
        assert_eq!(fleet.calls(), 2);
    }
}

#[tokio::test(start_paused = true)]
async fn a_flush_that_the_store_missed_as_well_is_made_up_for() {
    let fleet = Fleet::default();
    let [one, two] = fleet.replicas().await;
    let token = one.ask().await.unwrap();
    settle().await;
    fleet.shelf.go(true);
    one.quarantine("").await;
    assert_eq!(one.release("").await.told, Told::NotYet);
    assert_eq!(two.ask().await, Ok(token));
    fleet.shelf.go(false);
    assert_eq!(
        fleet.shelf.everything().len(),
        1,
        "the token is still there"
    );
    one.looks_for(Duration::from_secs(6)).await;
    let newcomer = fleet.replica().await;
    for replica in [&newcomer, &two, &one] {
        assert!(replica.ask().await.is_ok_and(|other| other != token));
        settle().await;
    }
    assert_eq!(fleet.calls(), 2);
}

#[tokio::test(start_paused = true)]
async fn whoever_waits_during_a_flush_gets_what_is_minted_after_it() {
    let fleet = Fleet::default();
    let [one, two] = fleet.replicas().await;
    fleet.shelf.deafen(true);
    let began = Instant::now();
    let waiting = async {
        let outcome = two.ask().await;
        (outcome, began.elapsed())
    };
    let flushing = async {
        sleep(Duration::from_millis(300)).await;
        one.quarantine("").await;
        one.release("").await;
        two.operator.rejoin().await;
    };
    let ((token, after), ()) = tokio::join!(waiting, flushing);
    assert_eq!(after, Duration::from_millis(1500));
    // What was under way before lands nowhere, here and at the others.
    sleep(Duration::from_secs(10)).await;
    assert_eq!((two.ask().await, one.ask().await), (token, token));
    assert_eq!(fleet.calls(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_token_from_after_a_release_stays_of_use() {
    // Whether it arrives before the release is heard of, or after.
    for arrives_first in [false, true] {
        let fleet = Fleet::default();
        let [one, two] = fleet.replicas().await;
        let token = two.ask().await.unwrap();
        settle().await;
        fleet.shelf.deafen(true);
        one.quarantine("").await;
        one.release("").await;
        fleet.shelf.deafen(!arrives_first);
        let successor = one.ask().await.unwrap();
        settle().await;
        let at_hand = if arrives_first { successor } else { token };
        assert_eq!(two.ask().await, Ok(at_hand));
        two.operator.rejoin().await;
        assert_eq!(two.ask().await, Ok(successor));
        assert_eq!(fleet.replica().await.ask().await, Ok(successor));
        assert_eq!(fleet.calls(), 2);
    }
}

#[tokio::test(start_paused = true)]
async fn a_release_by_a_clock_that_is_ahead_keeps_no_later_token_out() {
    let fleet = Fleet::default();
    let [one, two] = fleet.replicas().await;
    let token = two.ask().await.unwrap();
    one.quarantine("").await;
    one.release("").await;
    let shared = fleet.shared(&Arc::default());
    let release = shared.quarantines().await.unwrap().remove(0);
    let ahead = SharedQuarantine {
        at: release.at + HOUR * 24,
        ..release
    };
    assert!(shared.keep_quarantine(&ahead).await);
    settle().await;
    let successor = one.ask().await.unwrap();
    settle().await;
    assert_ne!(successor, token);
    assert_eq!(two.ask().await, Ok(successor));
    assert_eq!(fleet.calls(), 2);
}

#[tokio::test(start_paused = true)]
async fn whoever_releases_what_it_did_not_know_to_be_stopped_flushes_its_own() {
    let fleet = Fleet::default();
    let [one, two] = fleet.replicas().await;
    let token = two.ask().await.unwrap();
    settle().await;
    fleet.shelf.deafen(true);
    one.quarantine("").await;
    two.release("").await;
    assert!(two.ask().await.is_ok_and(|other| other != token));
}

#[tokio::test(start_paused = true)]
async fn a_release_by_name_leaves_the_tokens_of_others_alone() {
    let fleet = Fleet::default();
    let [one, two] = fleet.replicas().await;
    let token = two.ask().await.unwrap();
    one.quarantine("app").await;
    one.release("app").await;
    let shared = fleet.shared(&Arc::default());
    let release = shared.quarantines().await.unwrap().remove(0);
    let successor = two.ask().await.unwrap();
    assert_ne!(successor, token);
    let other = SharedQuarantine {
        application: Some(ApplicationName::parse("other").unwrap()),
        at: release.at + HOUR,
        ..release
    };
    assert!(shared.keep_quarantine(&other).await);
    settle().await;
    assert_eq!(two.ask().await, Ok(successor));
    assert_eq!(fleet.calls(), 2);
}

#[tokio::test(start_paused = true)]
async fn whoever_hears_late_of_a_stop_leaves_the_successor_alone() {
    let fleet = Fleet::default();
    let [one, two] = fleet.replicas().await;
    fleet.shelf.deafen(true);
    let shared = fleet.shared(&Arc::default());
    one.quarantine("").await;
    let stop = shared.quarantines().await.unwrap().remove(0);
    one.release("").await;
    let release = shared.quarantines().await.unwrap().remove(0);
    let successor = one.ask().await.unwrap();
    settle().await;
    two.operator.heard(&stop);
    two.operator.heard(&release);
    settle().await;
    assert_eq!(two.ask().await, Ok(successor));
    assert_eq!(fleet.calls(), 1);
}

#[tokio::test(start_paused = true)]
async fn what_was_shared_before_a_stop_or_amid_it_is_forgotten() {
    let fleet = Fleet::default();
    let [one, two] = fleet.replicas().await;
    // Nobody hears of anything, so that the other goes on minting.
    fleet.shelf.deafen(true);
    one.ask().await.unwrap();
    settle().await;
    fleet.shelf.go(true);
    one.quarantine("").await;
    fleet.shelf.go(false);
    assert_eq!(fleet.shelf.everything().len(), 1, "the token");
    one.operator.rejoin().await;
    assert_eq!(fleet.shelf.everything().len(), 1, "the stop");
    let amid = two.ask().await.unwrap();
    settle().await;
    assert_eq!(fleet.shelf.everything().len(), 2, "the stop, and a token");
    one.release("").await;
    assert!(one.ask().await.is_ok_and(|successor| successor != amid));
    assert_eq!(fleet.calls(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_later_act_wins_whatever_the_clock_of_the_earlier_one_said() {
    let fleet = Fleet::default();
    let [one, two] = fleet.replicas().await;
    one.quarantine("").await;
    let (tell, mut told) = mpsc::channel(8);
    fleet.shelf.tell(tell);
    one.release("").await;
    let Ok(News::Told(message)) = told.try_recv() else {
        panic!("it is told")
    };
    let shared = fleet.shared(&Arc::default());
    let release = shared.open_act(&message).unwrap();
    // A replica whose clock is a day ahead stops it.
    one.quarantine("").await;
    let Ok(News::Told(message)) = told.try_recv() else {
        panic!("it is told")
    };
    let stop = shared.open_act(&message).unwrap();
    let ahead = SharedQuarantine {
        at: release.at + HOUR * 24,
        ..stop
    };
    assert!(shared.keep_quarantine(&ahead).await);
    settle().await;
    two.release("").await;
    for replica in [&one, &two] {
        assert_eq!(replica.note(), None);
        assert!(replica.ask().await.is_ok());
    }
}

#[tokio::test]
async fn an_act_is_on_record_once_and_what_follows_elsewhere_is_too() {
    let folder = tempfile::tempdir().unwrap();
    let fleet = Fleet::default();
    let files = ["one", "two"].map(|name| folder.path().join(name));
    let states = ["s1", "s2"].map(|name| folder.path().join(name));
    let audit = |n: usize| {
        let settings = Settings {
            file: Some(files[n].clone()),
            stdout: false,
            max_file_size: 1024 * 1024,
            stall_timeout: crate::audit::DEFAULT_STALL_TIMEOUT,
            on_failure: OnFailure::Refuse,
        };
        Audit::start(&settings, &Arc::new(Metrics::new())).unwrap()
    };
    let open = |n: usize| {
        let (file, state) = StateFile::open(&states[n]).unwrap();
        Some((file, state.quarantines))
    };
    let [one, two] = [0, 1].map(|n| fleet.starting(audit(n), open(n)));
    for replica in [&one, &two] {
        replica.join().await;
    }
    assert_eq!(one.quarantine("app").await.kept, Kept::Yes);
    two.operator.drain().await;
    let (_, acts) = open(1).unwrap();
    assert_eq!(acts.len(), 1, "a restart of the other knows of it, too");
    let three = fleet.starting(Audit::off(), open(1));
    assert_eq!((three.ask().await, three.note()), (STOPPED, Some(anna())));
    one.release("app").await;
    two.operator.drain().await;
    assert!(open(1).unwrap().1[0].quarantine.is_none());

    let kinds = |n: usize| -> Vec<_> {
        let text = std::fs::read_to_string(&files[n]).unwrap();
        let records = text.lines().map(|line| {
            let record: serde_json::Value = serde_json::from_str(line).unwrap();
            let field = |name: &str| record[name].as_str().unwrap_or("-").to_owned();
            ["kind", "act", "administrator", "outcome"]
                .map(field)
                .join(" ")
        });
        records.skip(1).collect()
    };
    let ops = "spiffe://td/ops";
    let acts = ["quarantine", "release"].map(|act| {
        [
            format!("act {act} {ops} asked"),
            format!("act {act} {ops} ok"),
        ]
    });
    assert_eq!(kinds(0), acts.concat());
    assert_eq!(
        kinds(1),
        [
            format!("heard quarantine {ops} -"),
            "heard release - -".to_owned()
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn an_operator_waits_for_a_store_that_does_not_answer_a_second_and_no_longer() {
    let fleet = Fleet::default();
    let [one] = fleet.replicas().await;
    fleet.shelf.hang(true);
    let start = Instant::now();
    assert_eq!(one.quarantine("app").await.told, Told::NotYet);
    assert_eq!(one.ask().await, STOPPED);
    // Once to forget what is shared, and once to tell.
    assert_eq!(one.release("app").await.told, Told::NotYet);
    assert!(
        start.elapsed() < Duration::from_secs(4),
        "{:?}",
        start.elapsed()
    );
    fleet.shelf.hang(false);
    one.ask().await.unwrap();
}
