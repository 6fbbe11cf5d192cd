//! What others can do to what is shared: nothing but make it a miss.

use std::fmt::Write as _;

use super::*;
use crate::{
    clock::Moment,
    credential::{Credential, CredentialRef, CredentialSet, Proof},
    destination::{ApplicationName, AskedFor, DestinationId, TokenKey},
    secret::Secret,
    shared_cache::shelf::Shelf,
    slot::FailureReason,
    token::{Origin, SecretName, TokenId},
    usage::{Quarantine, Stamp},
};

/// All that nobody may find in a store. Each stands where its name says.
const CANARIES: [&str; 10] = [
    "canary-token",
    "canary-secret",
    "canary-client",
    "canary-destination",
    "canary-application",
    "canary-host",
    "canary-scope",
    "canary-administrator",
    "canary-comment",
    "canary-credential",
];

fn replica(shelf: &Arc<Shelf>, keys: &[u8]) -> (SharedCache, Arc<Ring>, Arc<Metrics>) {
    let (ring, metrics) = (Ring::sample(keys), Arc::new(Metrics::new()));
    let store: Arc<dyn Store> = Arc::clone(shelf) as _;
    let shared = SharedCache::over(store, Some(Arc::clone(&ring)), Arc::clone(&metrics));
    (shared, ring, metrics)
}

fn key() -> TokenKey {
    TokenKey {
        endpoint: "https://canary-host".into(),
        application: ApplicationName::parse("canary-application").unwrap(),
        client_id: "canary-client".into(),
        asked: Arc::new(AskedFor {
            scope: Some("canary-scope".to_owned()),
            ..AskedFor::default()
        }),
        ..TokenKey::sample("canary-destination")
    }
}

fn place(ring: &Arc<Ring>) -> Place {
    let proof = Proof::ClientSecret(Secret::new("canary-secret".to_owned()));
    let reference = CredentialRef::File("canary-credential".to_owned());
    let credential = Credential::new(&reference, "canary-client".to_owned(), proof);
    Place::new(
        ring,
        &key(),
        &CredentialSet::of(credential),
        "canary-host:443",
    )
}

pub(super) fn token() -> Token {
    Token {
        key: Arc::new(key()),
        access_token: Arc::new(Secret::new("canary-token".to_owned())),
        id: TokenId::random(),
        requested_at: Moment::now(),
        lifetime: Duration::from_secs(3600),
        secret: Arc::new(SecretName {
            credential: "file:canary-credential".into(),
            generation: "1".to_owned(),
            client_id: "canary-client".into(),
        }),
        origin: Origin::Here,
    }
}

fn failure() -> SharedFailure {
    SharedFailure {
        reason: FailureReason::Throttled,
        retry_at: clock::wall() + Duration::from_secs(60),
        in_a_row: 1,
    }
}

fn act() -> SharedQuarantine {
    let destination = DestinationId::parse("canary-destination").unwrap();
    let application = ApplicationName::parse("canary-application").ok();
    SharedQuarantine {
        destination: destination.clone(),
        application: application.clone(),
        at: crate::usage::of_millis(7).unwrap(),
        quarantine: Some(Quarantine {
            destination,
            application,
            since: Stamp(7),
            administrator: "canary-administrator".to_owned(),
            comment: "canary-comment".to_owned(),
        }),
    }
}

/// Keeps a token, a failure, a pause and a quarantine.
async fn keep_everything(shared: &SharedCache, place: &Place) {
    shared.finish(place, None, Outcome::Token(&token())).await;
    shared
        .finish(place, None, Outcome::Failure(failure()))
        .await;
    shared
        .keep_pause(place, clock::wall() + Duration::from_secs(60))
        .await;
    assert!(shared.keep_quarantine(&act()).await);
}

/// How many tokens, failures, pauses and quarantines are found.
async fn found(shared: &SharedCache, place: &Place) -> [usize; 4] {
    let found = shared.look(place, &mut Seen::default()).await.unwrap();
    let is_token = |one: &&Found| matches!(one, Found::Token(_));
    let tokens = found.iter().filter(is_token).count();
    let pauses = shared.pause(place).await.iter().count();
    let quarantines = shared.quarantines().await.unwrap().len();
    [tokens, found.len() - tokens, pauses, quarantines]
}

fn counted(metrics: &Metrics, operation: &str, outcome: &str) -> u64 {
    let series = format!(
        "token_broker_shared_cache_operations_total{{operation=\"{operation}\",outcome=\"{outcome}\"}} "
    );
    let exposition = metrics.exposition().unwrap();
    let mut lines = exposition.lines();
    let count = lines.find_map(|line| line.strip_prefix(&series));
    count.map_or(0, |count| count.parse().unwrap())
}

#[tokio::test(start_paused = true)]
async fn a_replica_finds_what_another_kept_with_either_key() {
    for (keeps, looks, finds) in [
        (&[1][..], &[1][..], 1),
        (&[1], &[1, 2], 1),
        (&[1], &[2, 1], 1),
        (&[2, 1], &[1, 2], 1),
        (&[2, 1], &[1], 0),
        (&[1], &[2], 0),
    ] {
        let shelf = Arc::default();
        let (one, ring, _) = replica(&shelf, keeps);
        keep_everything(&one, &place(&ring)).await;
        let (other, ring, metrics) = replica(&shelf, looks);
        assert_eq!(
            found(&other, &place(&ring)).await,
            [finds; 4],
            "{keeps:?} {looks:?}"
        );
        // All quarantines are looked at; the rest has a name that the other does not know.
        assert_eq!(counted(&metrics, "open", "other_key"), 1 - finds as u64);
        assert_eq!(counted(&metrics, "open", "forged"), 0);
        assert_eq!(counted(&metrics, "open", "ok"), 4 * finds as u64);
    }
}

#[tokio::test(start_paused = true)]
async fn nothing_that_is_kept_or_shown_tells_anything() {
    let shelf = Arc::default();
    let (shared, ring, _) = replica(&shelf, &[1]);
    let place = place(&ring);
    keep_everything(&shared, &place).await;
    let (news, mut told) = mpsc::channel(8);
    shelf.tell(news);
    keep_everything(&shared, &place).await;
    let mut shown = format!(
        "{place:?} {ring:?} {:?}",
        shared
            .begin(&place, &mut Seen::default(), Duration::ZERO)
            .await
    );
    while let Ok(message) = told.try_recv() {
        write!(shown, "{message:?}").unwrap();
        if let News::Told(message) = message {
            write!(shown, "{:?}", shared.open(&place, &message)).unwrap();
        }
    }
    let everything = shelf.everything();
    assert_eq!(everything.len(), 4);
    for canary in &CANARIES {
        for (name, bytes) in &everything {
            let there = bytes
                .windows(canary.len())
                .any(|part| part == canary.as_bytes());
            assert!(!there && !name.to_string().contains(canary));
        }
    }
    // What is opened shows its names, and never its token.
    assert!(
        !shown.contains("canary-token") && !shown.contains("canary-secret"),
        "{shown}"
    );
    assert_eq!(shown.matches("[secret]").count(), 2, "{shown}");
}

#[tokio::test(start_paused = true)]
async fn what_was_tampered_with_is_a_miss_and_is_counted() {
    type Change = fn(&mut Vec<u8>);
    // How many are forged, and how many are as if sealed with a key that is not known.
    let changes: [(Change, [u64; 2]); 7] = [
        (|bytes| bytes[0] ^= 2, [4, 0]),
        (|bytes| bytes[1] ^= 1, [0, 4]),
        (|bytes| bytes[9] ^= 1, [4, 0]),
        (|bytes| *bytes.last_mut().unwrap() ^= 1, [4, 0]),
        (|bytes| bytes.push(0), [4, 0]),
        (|bytes| bytes.truncate(9), [4, 0]),
        // The token and the failure look alike then, and are looked at once.
        (Vec::clear, [3, 0]),
    ];
    for (change, expected) in changes {
        let shelf = Arc::default();
        let (shared, ring, metrics) = replica(&shelf, &[1]);
        let place = place(&ring);
        keep_everything(&shared, &place).await;
        shelf.tamper(|_, bytes| change(bytes));
        assert_eq!(found(&shared, &place).await, [0; 4]);
        let misses = ["forged", "other_key"].map(|outcome| counted(&metrics, "open", outcome));
        assert_eq!(misses, expected);
        assert_eq!(counted(&metrics, "open", "ok"), 0);
        // Whoever wants the turn gets it all the same.
        let begun = shared
            .begin(&place, &mut Seen::default(), Duration::from_secs(1))
            .await;
        assert!(matches!(begun, Begun::Granted(_)), "{begun:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_sealed_for_one_thing_is_a_miss_at_any_other() {
    let shelf: Arc<Shelf> = Arc::default();
    let (shared, ring, metrics) = replica(&shelf, &[1]);
    let place = place(&ring);
    keep_everything(&shared, &place).await;
    let everything = shelf.everything();
    for turn in 1..everything.len() {
        // Each value is where the one that is so many further on was.
        shelf.tamper(|_, bytes| {
            let at = everything
                .iter()
                .position(|(_, other)| other == bytes)
                .unwrap();
            bytes.clone_from(&everything[(at + turn) % everything.len()].1);
        });
        assert_eq!(found(&shared, &place).await, [0; 4], "{turn}");
        assert_eq!(counted(&metrics, "open", "forged"), 4 * turn as u64);
        shelf.tamper(|_, bytes| {
            let at = everything
                .iter()
                .position(|(_, other)| other == bytes)
                .unwrap();
            let back = at + everything.len() - turn;
            bytes.clone_from(&everything[back % everything.len()].1);
        });
        assert_eq!(found(&shared, &place).await, [1; 4], "each is at its place");
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_that_is_gone_is_known_to_be_so_before_anybody_asks_it() {
    let shelf: Arc<Shelf> = Arc::default();
    let (shared, ring, _) = replica(&shelf, &[1]);
    let place = place(&ring);
    assert_eq!(shared.trouble(), None);
    shelf.go(true);
    assert_eq!(shared.trouble(), Some(Trouble::Unreachable));
    shelf.go(false);
    assert_eq!(shared.trouble(), None);
    // What it answered last counts where nothing else is known.
    shelf.go(true);
    assert!(shared.look(&place, &mut Seen::default()).await.is_none());
    shelf.go(false);
    assert_eq!(shared.trouble(), Some(Trouble::Unreachable));
    assert!(shared.look(&place, &mut Seen::default()).await.is_some());
    assert_eq!(shared.trouble(), None);
    shelf.go(true);
    shared.replace(None);
    assert_eq!(shared.trouble(), None);
}

#[tokio::test(start_paused = true)]
async fn what_is_told_counts_only_for_its_own_place_and_kind() {
    let shelf: Arc<Shelf> = Arc::default();
    let (news, mut told) = mpsc::channel(8);
    shelf.tell(news);
    let (shared, ring, metrics) = replica(&shelf, &[1]);
    let place = place(&ring);
    keep_everything(&shared, &place).await;
    let mut messages = Vec::new();
    while let Ok(News::Told(message)) = told.try_recv() {
        messages.push(message);
    }
    let reads = |message: &Message| {
        [
            shared.open(&place, message).is_some(),
            shared.open_host(&place, message).is_some(),
            shared.open_act(message).is_some(),
        ]
    };
    let ours: Vec<_> = messages.iter().map(reads).collect();
    let (slot, host, act) = (
        [true, false, false],
        [false, true, false],
        [false, false, true],
    );
    assert_eq!(ours, [slot, slot, host, act]);
    assert_eq!(counted(&metrics, "open", "forged"), 0);
    for (i, message) in messages.iter().enumerate() {
        for (j, other) in messages.iter().enumerate().filter(|(j, _)| *j != i) {
            let (kind, name) = (other.kind, other.name);
            let forged = Message {
                kind,
                name,
                ..message.clone()
            };
            assert_eq!(reads(&forged), [false; 3], "{i} as {j}");
        }
    }
    assert_eq!(counted(&metrics, "open", "forged"), 12);
}

#[tokio::test(start_paused = true)]
async fn a_stop_in_the_place_of_another_stops_nothing() {
    let shelf: Arc<Shelf> = Arc::default();
    let (shared, _, metrics) = replica(&shelf, &[1]);
    let all = SharedQuarantine {
        application: None,
        quarantine: None,
        ..act()
    };
    for act in [act(), all] {
        assert!(shared.keep_quarantine(&act).await);
    }
    assert_eq!(shared.quarantines().await.unwrap().len(), 2);
    let everything = shelf.everything();
    shelf.tamper(|name, bytes| {
        let other = everything.iter().find(|(other, _)| other != name);
        bytes.clone_from(&other.unwrap().1);
    });
    assert_eq!(shared.quarantines().await.unwrap(), []);
    assert_eq!(counted(&metrics, "open", "forged"), 2);
}

#[tokio::test(start_paused = true)]
async fn a_stop_outlives_the_key_that_it_was_sealed_with() {
    let shelf: Arc<Shelf> = Arc::default();
    let (first, ..) = replica(&shelf, &[1]);
    assert!(first.keep_quarantine(&act()).await);
    // As the key is replaced: the new one opens, then seals, and then the old one is gone.
    for keys in [&[1, 2][..], &[2, 1], &[2]] {
        let (shared, _, metrics) = replica(&shelf, keys);
        assert_eq!(shared.quarantines().await.unwrap(), [act()], "{keys:?}");
        assert_eq!(counted(&metrics, "open", "forged"), 0, "{keys:?}");
    }
    assert_eq!(shelf.everything().len(), 1);
}
