//! Records are read as they were written, and tokens arrive with the life that is left.

use std::time::UNIX_EPOCH;

use super::*;

const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(86_400);
const SECOND: Duration = Duration::from_secs(1);

fn token(lifetime: Duration, age: Duration) -> Token {
    let now = Moment::now();
    Token {
        key: Arc::new(TokenKey::sample("d")),
        access_token: Arc::new(Secret::new("canary".to_owned())),
        id: TokenId::random(),
        requested_at: Moment {
            instant: now.instant,
            wall: now.wall - age,
        },
        lifetime,
        secret: SecretName::sample(),
        origin: Origin::Here,
    }
}

/// Not all clocks have fractions of a millisecond, and no record has.
fn whole_millis(wall: SystemTime) -> SystemTime {
    super::wall(millis(wall)).unwrap()
}

#[test]
fn a_token_is_read_as_it_was_written() {
    let token = token(HOUR, HOUR / 2);
    let (bytes, left) = SharedToken::encode(&token);
    assert!(left <= HOUR / 2 && HOUR / 2 < left + SECOND, "{left:?}");
    assert_eq!(bytes.capacity(), bytes.len(), "it never grew");
    let read = SharedToken::decode(&bytes).unwrap();
    assert_eq!(read.access_token.expose(), "canary");
    assert_eq!(read.requested_at, whole_millis(token.requested_at.wall));
    assert_eq!((read.id, read.lifetime), (token.id, HOUR));
    assert_eq!(read.secret, *token.secret);
    assert!(!format!("{read:?}").contains("canary"));
    let (_, left) = SharedToken::encode(&self::token(HOUR, HOUR * 2));
    assert_eq!(left, Duration::ZERO, "it is of no use any more");
}

#[test]
fn failures_pauses_and_acts_are_read_as_they_were_written() {
    let at = whole_millis(clock::wall());
    for reason in FailureReason::ALL {
        let failure = SharedFailure {
            reason,
            retry_at: at,
            in_a_row: 3,
        };
        assert_eq!(SharedFailure::decode(&failure.encode()), Ok(failure));
    }
    let pause = Pause { until: at };
    assert_eq!(Pause::decode(&pause.encode()), Ok(pause));
    let destination = DestinationId::parse("d").unwrap();
    for application in [None, Some(ApplicationName::parse("shop").unwrap())] {
        let stop = Quarantine {
            destination: destination.clone(),
            application: application.clone(),
            since: Stamp(7),
            administrator: "spiffe://td/ops".to_owned(),
            comment: "it leaks: \"ä\"".to_owned(),
        };
        for quarantine in [None, Some(stop)] {
            let act = SharedQuarantine {
                destination: destination.clone(),
                application: application.clone(),
                at,
                quarantine,
            };
            assert_eq!(SharedQuarantine::decode(&act.encode()), Ok(act));
        }
    }
}

#[test]
fn what_is_no_record_is_not_read() {
    let token = WrittenToken {
        access_token: "canary".to_owned(),
        id: "7".to_owned(), // not as it would be written
        requested_at: 0,
        lifetime: 0,
        credential: String::new(),
        generation: String::new(),
        client_id: String::new(),
    };
    assert_eq!(SharedToken::decode(&encode(&token)).err(), Some(NotOurs));
    let failure = WrittenFailure {
        reason: "NO_SUCH_REASON".to_owned(),
        retry_at: 0,
        in_a_row: 0,
    };
    assert_eq!(SharedFailure::decode(&encode(&failure)), Err(NotOurs));
    for (destination, application) in [("", None), ("a/b", None), ("d", Some("a b"))] {
        let act = WrittenQuarantine {
            destination: destination.to_owned(),
            application: application.map(str::to_owned),
            ..WrittenQuarantine::default()
        };
        assert_eq!(SharedQuarantine::decode(&encode(&act)), Err(NotOurs));
    }
}

#[test]
fn every_kind_has_a_tag_of_its_own() {
    for tag in 0..=u8::MAX {
        let kind = Kind::of_tag(tag);
        assert_eq!(kind.is_some(), b"tfpqr".contains(&tag), "{tag}");
        assert!(kind.is_none_or(|kind| kind.tag() == tag));
    }
}

fn beat(at: SystemTime) -> Beat {
    Beat {
        id: 7,
        name: "broker-1".to_owned(),
        version: "0.1.0".to_owned(),
        since: at - HOUR,
        at,
    }
}

#[test]
fn a_replicas_word_of_itself_is_read_as_it_was_written_if_its_name_can_be_printed() {
    let beat = beat(whole_millis(clock::wall()));
    assert_eq!(Beat::decode(&beat.encode()), Ok(beat.clone()));
    let odd = Beat {
        name: "a\nb".to_owned() + &"c".repeat(1000),
        version: String::new(),
        ..beat.clone()
    };
    let read = Beat::decode(&odd.encode()).unwrap();
    assert_eq!(read.name, "a?b".to_owned() + &"c".repeat(61));
    assert_eq!(read.version, "?");
    for id in [vec![], vec![1; 15], vec![1; 17]] {
        let written = WrittenBeat {
            id,
            ..WrittenBeat::default()
        };
        assert_eq!(Beat::decode(&encode(&written)), Err(NotOurs));
    }
}

#[test]
fn a_replica_is_shown_until_its_word_is_too_old_whatever_clocks_say() {
    use Untimely::{Expired, FromTheFuture};
    let millisecond = Duration::from_millis(1);
    let (now, lasts) = (clock::wall(), SECOND * 15);
    let past = |age: Duration| now - age;
    let future = |ahead: Duration| now + ahead;
    for (at, left) in [
        (now, Ok(SECOND * 20)),
        (past(SECOND * 5), Ok(SECOND * 15)),
        (past(millisecond * 19_999), Ok(millisecond)),
        (past(SECOND * 20), Err(Expired)),
        (past(DAY), Err(Expired)),
        (UNIX_EPOCH + DAY, Err(Expired)),
        (future(SECOND * 5), Ok(SECOND * 20)),
        (future(SECOND * 5 + millisecond), Err(FromTheFuture)),
        (future(DAY), Err(FromTheFuture)),
    ] {
        let arrived = beat(at).arrive(lasts, now);
        let arrived = arrived.map(|(replica, left)| {
            // Nobody is shown to have been heard of later than now.
            assert_eq!(replica.seen, at.min(now));
            assert!(replica.since <= now && !replica.is_this);
            left
        });
        assert_eq!(arrived, left);
    }
    // One that says that it will start.
    let odd = Beat {
        since: now + DAY,
        ..beat(now)
    };
    let (replica, _) = odd.arrive(lasts, now).unwrap();
    assert_eq!(replica.since, now);
}

/// A token that another replica requested at that moment.
fn shared(requested_at: SystemTime, lifetime: Duration) -> SharedToken {
    SharedToken {
        access_token: Secret::new("canary".to_owned()),
        id: TokenId::random(),
        requested_at,
        lifetime,
        secret: (*SecretName::sample()).clone(),
    }
}

#[tokio::test(start_paused = true)]
async fn a_token_arrives_with_what_is_left_of_its_life() {
    use Untimely::{Expired, FromTheFuture};
    let millisecond = Duration::from_millis(1);
    let now = Moment::now();
    let key = Arc::new(TokenKey::sample("d"));
    // When it was requested, its life, the longest that is trusted, and what is left.
    let past = |age: Duration| now.wall - age;
    let future = |ahead: Duration| now.wall + ahead;
    for (requested_at, lifetime, max, left) in [
        (past(Duration::ZERO), HOUR, DAY, Ok(HOUR)),
        (past(HOUR / 2), HOUR, DAY, Ok(HOUR / 2)),
        (past(HOUR), HOUR + millisecond, DAY, Ok(millisecond)),
        (past(HOUR), HOUR, DAY, Err(Expired)),
        (past(HOUR * 2), HOUR, DAY, Err(Expired)),
        (past(DAY * 365), HOUR, DAY, Err(Expired)),
        (UNIX_EPOCH, HOUR, DAY, Err(Expired)),
        (future(millisecond), HOUR, DAY, Ok(HOUR)),
        (future(SECOND * 5), HOUR, DAY, Ok(HOUR)),
        (
            future(SECOND * 5 + millisecond),
            HOUR,
            DAY,
            Err(FromTheFuture),
        ),
        (future(DAY), HOUR, DAY, Err(FromTheFuture)),
        (past(HOUR / 2), DAY, HOUR, Ok(HOUR / 2)),
        (past(HOUR), DAY, HOUR, Err(Expired)),
        (past(SECOND), Duration::MAX, HOUR + SECOND, Ok(HOUR)),
        (past(Duration::ZERO), Duration::ZERO, DAY, Err(Expired)),
        (future(SECOND), Duration::ZERO, DAY, Err(Expired)),
        (past(Duration::ZERO), HOUR, Duration::ZERO, Err(Expired)),
    ] {
        let token = shared(requested_at, lifetime);
        let (id, shown) = (token.id, format!("{requested_at:?} {lifetime:?} {max:?}"));
        let token = token.arrive(&key, max, now);
        let arrived = token.as_ref().map(|token| {
            let expires_at = token.expires_at();
            assert_eq!(
                expires_at.wall - (expires_at.instant - now.instant),
                now.wall
            );
            assert!(token.suffices(now.instant, Duration::ZERO), "{shown}");
            assert!(
                !token.suffices(expires_at.instant, Duration::ZERO),
                "{shown}"
            );
            assert!(token.lifetime <= max, "{shown}");
            assert!(token.is_for(&key) && token.id == id);
            assert_eq!(token.origin, Origin::Elsewhere);
            expires_at.instant - now.instant
        });
        assert_eq!(arrived.map_err(|untimely| *untimely), left, "{shown}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_began_after_the_token_counts_what_is_left() {
    // Longer ago than any monotonic clock can say.
    let eon = Duration::from_secs(i64::MAX.unsigned_abs() / 4 * 3);
    let now = Moment {
        wall: UNIX_EPOCH + eon,
        ..Moment::now()
    };
    let age = eon + eon / 2;
    assert_eq!(now.instant.checked_sub(age), None);
    let token = shared(now.wall - age, age + HOUR);
    let key = Arc::new(TokenKey::sample("d"));
    let token = token.arrive(&key, Duration::MAX, now).unwrap();
    assert_eq!((token.requested_at, token.lifetime), (now, HOUR));
}
