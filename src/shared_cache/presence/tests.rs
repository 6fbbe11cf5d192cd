//! Fleets that come, go and break, in paused time, over a store in memory.

use std::sync::Arc;

use tokio::{task::JoinHandle, time::advance};

use super::*;
use crate::{
    metrics::Metrics,
    shared_cache::{
        Settings,
        record::{CLOCKS_DIFFER, Kind},
        settings::{HostPort, Login, Servers},
        shelf::Shelf,
        store::Store,
    },
};

const SECOND: Duration = Duration::from_secs(1);

/// One replica, which tells of itself until it is stopped.
struct Member {
    shared: Arc<SharedCache>,
    metrics: Arc<Metrics>,
    leaving: CancellationToken,
    attending: JoinHandle<()>,
}

/// What replicas share with these keys in this namespace.
fn settings(namespace: &str, keys: &[u8]) -> Settings {
    let (host, port) = ("unused".to_owned(), 1);
    Settings {
        servers: Servers::One(HostPort { host, port }),
        login: Login::default(),
        tls: None,
        database: 0,
        namespace: namespace.to_owned(),
        timeout: SECOND,
        ring: Ring::sample(keys),
    }
}

/// A replica that tells nothing by itself.
fn silent(shelf: &Arc<Shelf>, host: &str, settings: Settings) -> (SharedCache, Arc<Metrics>) {
    let metrics = Arc::new(Metrics::new());
    let store: Arc<dyn Store> = Arc::clone(shelf) as _;
    let shared = SharedCache {
        presence: Presence::new(host),
        ..SharedCache::over(store, None, Arc::clone(&metrics))
    };
    shared.replace(Some(settings));
    (shared, metrics)
}

impl Member {
    fn join(shelf: &Arc<Shelf>, host: &str) -> Self {
        Self::join_with(shelf, host, settings("fleet", &[1]))
    }

    fn join_with(shelf: &Arc<Shelf>, host: &str, settings: Settings) -> Self {
        let (shared, metrics) = silent(shelf, host, settings);
        let (shared, leaving) = (Arc::new(shared), CancellationToken::new());
        let (attending, left) = (Arc::clone(&shared), leaving.clone());
        let attending = tokio::spawn(async move { attending.attend(left).await });
        Self {
            shared,
            metrics,
            leaving,
            attending,
        }
    }

    async fn stop(self) {
        self.leaving.cancel();
        self.attending.await.unwrap();
    }

    /// Ends it as a power cut does.
    fn crash(self) {
        self.attending.abort();
    }

    fn names(&self) -> Vec<String> {
        names(&self.shared)
    }

    fn counted(&self) -> u64 {
        value(&self.metrics, "token_broker_replicas ")
    }
}

/// Whom a replica knows. It is always the first itself.
fn names(shared: &SharedCache) -> Vec<String> {
    let replicas = shared.replicas();
    let this: Vec<_> = replicas.iter().map(|replica| replica.is_this).collect();
    assert_eq!(this.iter().filter(|is_this| **is_this).count(), 1);
    assert!(this[0]);
    replicas.into_iter().map(|replica| replica.name).collect()
}

fn value(metrics: &Metrics, series: &str) -> u64 {
    let exposition = metrics.exposition().unwrap();
    let mut lines = exposition.lines();
    let value = lines.find_map(|line| line.strip_prefix(series));
    value.map_or(0, |value| value.parse().unwrap())
}

fn outcomes(metrics: &Metrics, operation: &str, outcome: &str) -> u64 {
    let labels = format!("{{operation=\"{operation}\",outcome=\"{outcome}\"}} ");
    value(
        metrics,
        &format!("token_broker_shared_cache_operations_total{labels}"),
    )
}

#[test]
fn a_replica_tells_of_itself_often_enough_for_two_words_to_be_lost() {
    for (random, seconds) in [(0.0, 5.0), (0.5, 4.5), (1.0, 4.0)] {
        assert_eq!(rest(random), Duration::from_secs_f64(seconds));
    }
    assert!(rest(0.0) * 3 <= LASTS);
}

#[tokio::test(start_paused = true)]
async fn replicas_know_of_each_other_within_a_few_seconds_and_of_one_that_stops() {
    let shelf = Arc::default();
    let a = Member::join(&shelf, "a");
    sleep(SECOND).await;
    assert_eq!((a.names(), a.counted()), (vec!["a".to_owned()], 1));
    // Two on one host are two.
    let others = ["b", "c", "b"].map(|host| Member::join(&shelf, host));
    sleep(EVERY).await;
    assert_eq!(a.names(), ["a", "b", "b", "c"]);
    assert_eq!(others[0].names(), ["b", "a", "b", "c"]);
    assert_eq!((a.counted(), others[1].counted()), (4, 4));
    for replica in a.shared.replicas() {
        assert_eq!(replica.version, env!("CARGO_PKG_VERSION"));
        let age = clock::wall().duration_since(replica.seen).unwrap();
        assert!(age <= EVERY * 2, "{age:?}");
        assert!(replica.since <= replica.seen);
    }
    let [b, c, twin] = others;
    c.stop().await;
    assert_eq!(shelf.everything().len(), 3, "at once");
    sleep(EVERY).await;
    assert_eq!(a.names(), ["a", "b", "b"]);
    assert_eq!((a.counted(), b.counted(), twin.counted()), (3, 3, 3));
    // Whoever comes later knows all of them at once.
    let newest = Member::join(&shelf, "d");
    sleep(Duration::from_millis(1)).await;
    assert_eq!(newest.names(), ["d", "a", "b", "b"]);
}

#[tokio::test(start_paused = true)]
async fn a_replica_that_crashes_is_forgotten_after_three_words_that_did_not_come() {
    let shelf = Arc::default();
    let (a, b) = (Member::join(&shelf, "a"), Member::join(&shelf, "b"));
    sleep(EVERY * 4).await;
    assert_eq!(a.names(), ["a", "b"]);
    let last = a.shared.replicas()[1].seen;
    b.crash();
    let crashed = Instant::now();
    while a.names().len() == 2 {
        assert!(a.shared.replicas()[1].seen - EVERY <= last);
        advance(SECOND / 10).await;
        sleep(Duration::from_millis(1)).await;
    }
    let took = crashed.elapsed();
    // Its last word may be as old as the next one would have been then.
    assert!((EVERY * 2..=EVERY * 4).contains(&took), "{took:?}");
    assert_eq!(a.counted(), 1);
    assert_eq!(shelf.everything().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_fleet_that_is_replaced_is_shown_as_it_is() {
    let shelf = Arc::default();
    let mut members: Vec<_> = (0..50).map(|_| Member::join(&shelf, "pod")).collect();
    sleep(EVERY).await;
    assert!(members.iter().all(|member| member.counted() == 50));
    for _ in 0..50 {
        members.remove(0).stop().await;
        members.push(Member::join(&shelf, "pod"));
        sleep(SECOND / 2).await;
        let shown: Vec<_> = members.iter().map(|one| one.names().len()).collect();
        // Ten were replaced since the last word, and some of those are counted twice or not at all.
        assert!(
            shown.iter().all(|shown| (40..=60).contains(shown)),
            "{shown:?}"
        );
    }
    sleep(EVERY).await;
    assert!(members.iter().all(|member| member.counted() == 50));
    let words = members
        .iter()
        .map(|one| outcomes(&one.metrics, "beat", "ok"));
    println!("{:?} words", words.collect::<Vec<_>>());
    assert!(
        members
            .iter()
            .all(|one| outcomes(&one.metrics, "beat", "expired") == 0)
    );
}

#[tokio::test(start_paused = true)]
async fn one_word_costs_the_store_one_question() {
    let shelf = Arc::default();
    let a = Member::join(&shelf, "a");
    sleep(Duration::from_secs(600)).await;
    let words = outcomes(&a.metrics, "beat", "ok");
    assert!((121..=151).contains(&words), "{words}");
    let exposition = a.metrics.exposition().unwrap();
    let asked = exposition.lines();
    let asked = asked.filter(|line| line.starts_with("token_broker_shared_cache_operations_total"));
    // Some are shown from the start, at zero.
    let asked = asked.filter(|line| !line.ends_with(" 0"));
    assert_eq!(asked.count(), 1, "{exposition}");
}

#[tokio::test(start_paused = true)]
async fn a_store_that_is_gone_leaves_a_replica_with_those_it_has_heard_of_lately_and_then_alone() {
    let shelf: Arc<Shelf> = Arc::default();
    let members = ["a", "b", "c"].map(|host| Member::join(&shelf, host));
    sleep(EVERY).await;
    shelf.go(true);
    let gone = Instant::now();
    let seen = members[0].shared.replicas()[1].seen;
    sleep(EVERY * 2).await;
    let replicas = members[0].shared.replicas();
    assert_eq!(replicas.len(), 3);
    assert_eq!(replicas[1].seen, seen, "it is not heard of");
    sleep(EVERY + CLOCKS_DIFFER).await;
    for member in &members {
        assert_eq!(member.names().len(), 1, "{:?}", gone.elapsed());
    }
    sleep(EVERY).await;
    assert!(members.iter().all(|member| member.counted() == 1));
    assert_eq!(outcomes(&members[0].metrics, "beat", "unreachable"), 5);
    shelf.go(false);
    sleep(EVERY * 2).await;
    assert!(members.iter().all(|member| member.counted() == 3));
}

#[tokio::test(start_paused = true)]
async fn a_store_that_is_emptied_or_hangs_knows_all_of_them_again_soon() {
    let shelf: Arc<Shelf> = Arc::default();
    let members = ["a", "b"].map(|host| Member::join(&shelf, host));
    sleep(EVERY).await;
    shelf.flush();
    sleep(EVERY * 2).await;
    assert_eq!(members[0].names(), ["a", "b"]);
    let [a, b] = members;
    shelf.hang(true);
    sleep(EVERY).await;
    // Nobody who stops waits for a store that does not answer.
    let stopped = Instant::now();
    b.stop().await;
    assert_eq!(stopped.elapsed(), LEAVING);
    assert_eq!(a.names().len(), 2);
    shelf.hang(false);
    sleep(LASTS + EVERY).await;
    assert_eq!(a.names(), ["a"]);
}

#[tokio::test(start_paused = true)]
async fn clocks_may_differ_by_five_seconds() {
    type Skew = fn(Moment) -> Moment;
    let skews: [(Skew, bool, &str); 6] = [
        (|now| now, true, ""),
        (|now| shifted(now, 5, 0), true, ""),
        (|now| shifted(now, 0, 5), true, ""),
        (|now| shifted(now, 11, 0), false, "from_the_future"),
        (|now| shifted(now, 3600, 0), false, "from_the_future"),
        (|now| shifted(now, 0, 3600), false, "expired"),
    ];
    for (skew, is_known, outcome) in skews {
        let shelf = Arc::default();
        let (one, metrics) = silent(&shelf, "one", settings("fleet", &[1]));
        let (other, _) = silent(&shelf, "other", settings("fleet", &[1]));
        // Words that come every five seconds.
        for word in 0..10 {
            other.beat(skew(Moment::now())).await;
            for _ in 0..5 {
                one.beat(Moment::now()).await;
                let replicas = one.replicas();
                assert_eq!(replicas.len() == 2, is_known, "{word}");
                assert!(replicas.iter().all(|one| one.seen <= clock::wall()));
                sleep(SECOND).await;
            }
        }
        if !is_known {
            assert_eq!(outcomes(&metrics, "beat", outcome), 50);
        }
    }
}

fn shifted(now: Moment, ahead: u64, behind: u64) -> Moment {
    let wall = now.wall + Duration::from_secs(ahead) - Duration::from_secs(behind);
    Moment { wall, ..now }
}

#[tokio::test(start_paused = true)]
async fn replicas_know_of_each_other_while_their_key_is_replaced() {
    let shelf: Arc<Shelf> = Arc::default();
    let members = ["a", "b", "c"].map(|host| Member::join(&shelf, host));
    sleep(EVERY).await;
    for keys in [&[1, 2][..], &[2, 1], &[2]] {
        for member in &members {
            member.shared.replace(Some(settings("fleet", keys)));
            for _ in 0..20 {
                sleep(SECOND / 2).await;
                for member in &members {
                    assert_eq!(member.names().len(), 3, "{keys:?}");
                }
                assert_eq!(shelf.everything().len(), 3, "each has one name");
            }
        }
    }
    for member in &members {
        assert_eq!(outcomes(&member.metrics, "open", "other_key"), 0);
        assert_eq!(outcomes(&member.metrics, "open", "forged"), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn those_of_another_fleet_are_not_shown() {
    // With another namespace what they tell lies elsewhere, until somebody puts it here.
    for (namespace, keys, outcome) in [("other", &[1], "forged"), ("fleet", &[2], "other_key")] {
        let shelf = Arc::default();
        let (one, metrics) = silent(&shelf, "one", settings("fleet", &[1]));
        let (other, _) = silent(&shelf, "other", settings(namespace, keys));
        other.beat(Moment::now()).await;
        one.beat(Moment::now()).await;
        assert_eq!(names(&one), ["one"]);
        assert_eq!(outcomes(&metrics, "open", outcome), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn what_somebody_writes_into_the_store_shows_nobody() {
    type Change = fn(&mut Vec<u8>);
    let changes: [(Change, &str); 7] = [
        (|bytes| bytes[0] ^= 2, "forged"),
        (|bytes| bytes[1] ^= 1, "other_key"),
        (|bytes| bytes[9] ^= 1, "forged"),
        (|bytes| *bytes.last_mut().unwrap() ^= 1, "forged"),
        (|bytes| bytes.push(0), "forged"),
        (|bytes| bytes.truncate(9), "forged"),
        (Vec::clear, "forged"),
    ];
    for (change, outcome) in changes {
        let shelf: Arc<Shelf> = Arc::default();
        let (one, metrics) = silent(&shelf, "one", settings("fleet", &[1]));
        let (other, _) = silent(&shelf, "other", settings("fleet", &[1]));
        other.beat(Moment::now()).await;
        shelf.tamper(|_, bytes| change(bytes));
        one.beat(Moment::now()).await;
        assert_eq!(names(&one), ["one"]);
        assert_eq!(outcomes(&metrics, "open", outcome), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_word_counts_at_its_own_place_and_as_what_it_is() {
    let shelf: Arc<Shelf> = Arc::default();
    let fleet = settings("fleet", &[1]);
    let (one, metrics) = silent(&shelf, "one", fleet.clone());
    let others = ["b", "c"].map(|host| silent(&shelf, host, fleet.clone()).0);
    for other in &others {
        other.beat(Moment::now()).await;
    }
    let kept = shelf.everything();
    // Each in the place of the other.
    shelf.tamper(|_, bytes| {
        let other = kept.iter().find(|(_, other)| other != bytes);
        bytes.clone_from(&other.unwrap().1);
    });
    one.beat(Moment::now()).await;
    assert_eq!(names(&one), ["one"]);
    assert_eq!(outcomes(&metrics, "open", "forged"), 2);
    // What was sealed for something else, by whoever has the key.
    let spot = Spot::of_replica(&fleet.ring, "fleet", others[0].presence.id);
    for kind in Kind::ALL {
        let word = others[0].presence.beat(clock::wall()).encode();
        let sealed = spot.seal(&fleet.ring, kind, &word);
        let beat = shelf.beat(spot.names(), sealed, LASTS).await;
        beat.unwrap();
        one.beat(Moment::now()).await;
        assert_eq!(names(&one), ["one"]);
    }
    for word in [&b""[..], b"canary", &[0xff; 64]] {
        let context = of_any_replica("fleet").next().unwrap();
        let sealed = fleet.ring.seal(&context, word);
        shelf.beat(spot.names(), sealed, LASTS).await.unwrap();
        one.beat(Moment::now()).await;
        assert_eq!(names(&one), ["one"]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_word_that_is_put_back_again_and_again_shows_nobody_for_longer_than_it_says() {
    let shelf: Arc<Shelf> = Arc::default();
    let fleet = settings("fleet", &[1]);
    let (one, metrics) = silent(&shelf, "one", fleet.clone());
    let (other, _) = silent(&shelf, "other", fleet.clone());
    other.beat(Moment::now()).await;
    let (told, old) = (Instant::now(), shelf.everything());
    let (name, word) = &old[0];
    let mut shown_for = Duration::ZERO;
    while told.elapsed() < LASTS * 10 {
        let sealed = Sealed(word.clone());
        shelf
            .beat(&[*name], Some(sealed), LASTS * 10)
            .await
            .unwrap();
        one.beat(Moment::now()).await;
        if names(&one).len() == 2 {
            shown_for = told.elapsed();
        }
        sleep(SECOND).await;
    }
    assert_eq!(shown_for + SECOND, LASTS + CLOCKS_DIFFER);
    assert_eq!(outcomes(&metrics, "beat", "expired"), 130);
    // One that has told something later is heard all the same.
    other.beat(Moment::now()).await;
    one.beat(Moment::now()).await;
    assert_eq!(names(&one), ["one", "other"]);
}

#[tokio::test(start_paused = true)]
async fn nothing_that_is_kept_tells_who_shares() {
    let shelf: Arc<Shelf> = Arc::default();
    let (one, _) = silent(&shelf, "canary-host", settings("fleet", &[1]));
    one.beat(Moment::now()).await;
    let (name, first) = shelf.everything().remove(0);
    for canary in [&b"canary-host"[..], env!("CARGO_PKG_VERSION").as_bytes()] {
        let there = first.windows(canary.len()).any(|part| part == canary);
        assert!(!there && !name.to_string().contains("canary"));
    }
    // Nor that one tells the same as before.
    one.beat(Moment::now()).await;
    let (_, second) = shelf.everything().remove(0);
    assert_ne!(first, second);
    assert!(first.len() < 256);
}

#[tokio::test(start_paused = true)]
async fn whoever_shares_nothing_any_more_knows_nobody_and_begins_anew() {
    let shelf = Arc::default();
    let members = ["a", "b"].map(|host| Member::join(&shelf, host));
    sleep(EVERY).await;
    members[0].shared.replace(None);
    assert_eq!(members[0].shared.replicas(), []);
    sleep(EVERY).await;
    assert_eq!(members[0].counted(), 0);
    sleep(LASTS + EVERY).await;
    assert_eq!(members[1].names(), ["b"]);
    members[0].shared.replace(Some(settings("fleet", &[1])));
    sleep(EVERY * 2).await;
    assert_eq!(members[0].counted(), 2);
    assert_eq!(members[1].counted(), 2);
    for member in members {
        member.stop().await;
    }
    assert_eq!(shelf.everything(), []);
}

#[tokio::test(start_paused = true)]
async fn no_more_replicas_are_known_than_anybody_needs() {
    let shelf: Arc<Shelf> = Arc::default();
    let fleet = settings("fleet", &[1]);
    let (one, _) = silent(&shelf, "one", fleet.clone());
    for _ in 0..1100 {
        let other = Presence::new("other");
        let spot = Spot::of_replica(&fleet.ring, "fleet", other.id);
        let context = of_any_replica("fleet").next().unwrap();
        let sealed = fleet
            .ring
            .seal(&context, &other.beat(clock::wall()).encode());
        shelf.beat(spot.names(), sealed, LASTS).await.unwrap();
    }
    one.beat(Moment::now()).await;
    assert_eq!(one.replicas().len(), 1 + 1000);
}
