//! The state machine, by a table of scenarios and by random sequences of events.

use std::fmt::Write as _;

use proptest::prelude::*;

use super::*;
use crate::{clock::Moment, destination::TokenKey, secret::Secret, token::SecretName};

const HOUR: Duration = Duration::from_secs(3600);
const MARGIN: Duration = Duration::from_secs(60);
/// The middle of every draw: no jitter, and half of every back-off.
const MIDDLE: f64 = 0.5;

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// A slot on a clock that only the test moves.
struct Bench {
    slot: Slot,
    start: Moment,
    now: Duration,
    key: Arc<TokenKey>,
}

impl Bench {
    fn new() -> Self {
        Self {
            slot: Slot::new(MARGIN),
            start: Moment::now(),
            now: Duration::ZERO,
            key: Arc::new(TokenKey::sample("d")),
        }
    }

    fn now(&self) -> Instant {
        self.start.instant + self.now
    }

    fn token(&self, lifetime: Duration) -> Token {
        Token {
            key: Arc::clone(&self.key),
            access_token: Arc::new(Secret::new("t".to_owned())),
            id: TokenId::random(),
            requested_at: self.start.after(self.now),
            origin: Origin::Here,
            lifetime,
            secret: SecretName::sample(),
        }
    }

    fn land_token(&mut self, lifetime: Duration) -> Result<Arc<Token>, Refusal> {
        let number = self.slot.launch();
        let token = self.token(lifetime);
        self.slot.land(number, Ok(token), self.now(), MIDDLE)
    }

    fn land_failure(&mut self, reason: FailureReason, retry_after: Option<u64>) {
        let number = self.slot.launch();
        let failure = Failure {
            reason,
            retry: retry_after.map_or(Retry::Alone, |wait| Retry::NotBefore(secs(wait))),
        };
        self.slot
            .land(number, Err(failure), self.now(), MIDDLE)
            .unwrap_err();
    }

    /// The decision in a word, with its retry time in seconds from the start.
    fn decide(&self, min_validity: Duration) -> String {
        match self.slot.decide(self.now(), min_validity) {
            Decision::Serve(_) => "serve".to_owned(),
            Decision::ServeAndLaunch(_) => "serve and launch".to_owned(),
            Decision::Join(_) => "join".to_owned(),
            Decision::LaunchAndJoin => "launch and join".to_owned(),
            Decision::Refuse(Refusal::Quarantined) => "quarantined".to_owned(),
            Decision::Refuse(Refusal::ValidityUnattainable) => "unattainable".to_owned(),
            Decision::Refuse(Refusal::Failed { reason, retry_at }) => {
                let wait = retry_at - self.start.instant;
                format!("{reason:?} until {:.2}", wait.as_secs_f64())
            }
        }
    }
}

/// One step of a scenario.
enum Step {
    /// The clock stands at this many seconds.
    At(u64),
    /// A flight is launched and still under way.
    Launch,
    /// A flight lands with a token of this life.
    Token(u64),
    /// A flight lands with a failure.
    Fails(FailureReason),
    /// A flight lands with a failure and a `Retry-After`.
    FailsWith(FailureReason, u64),
    Quarantine,
    Release,
    /// A caller asks.
    Asks(&'static str),
    /// A caller asks for this much validity.
    AsksFor(u64, &'static str),
    /// The next flight nobody asks for is due then.
    Due(Option<u64>),
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table")]
fn scenarios() {
    use FailureReason::{CredentialMissing, CredentialRejected, Malformed, Throttled, Unavailable};
    use Step::*;

    let scenarios: Vec<(&str, Vec<Step>)> = vec![
        (
            "a cold slot launches, and the next caller joins",
            vec![
                Due(None),
                Asks("launch and join"),
                Launch,
                Asks("join"),
                Due(None),
            ],
        ),
        (
            "a token is served until the margin before its expiry",
            vec![
                Token(3600),
                Asks("serve"),
                Due(Some(1800)),
                At(1799),
                Asks("serve"),
                At(1800),
                Asks("serve and launch"),
                At(3539),
                Asks("serve and launch"),
                At(3540),
                Asks("launch and join"),
                At(9999),
                Asks("launch and join"),
            ],
        ),
        (
            "valid_token_is_served_at_once while its refresh is under way",
            vec![
                Token(3600),
                At(1800),
                Launch,
                Asks("serve"),
                At(3539),
                Asks("serve"),
                At(3540),
                Asks("join"),
            ],
        ),
        (
            "failed_refresh_keeps_valid_token",
            vec![
                Token(3600),
                At(1800),
                Fails(Unavailable),
                Asks("serve"),
                Due(Some(1800)),
                At(1801),
                Asks("serve and launch"),
                Fails(CredentialRejected),
                Asks("serve"),
                At(3539),
                Fails(Malformed),
                Asks("serve"),
                At(3540),
                Asks("Malformed until 3541.05"),
            ],
        ),
        (
            "expired_token_is_never_served, not even while the upstream is down",
            vec![
                Token(3600),
                At(3530),
                Fails(Unavailable),
                At(3540),
                Asks("launch and join"),
                Fails(Unavailable),
                Asks("Unavailable until 3541.05"),
            ],
        ),
        (
            "a failure without a token is shared until its retry time",
            vec![
                Fails(Unavailable),
                Asks("Unavailable until 0.55"),
                At(1),
                Asks("launch and join"),
                Fails(Unavailable),
                Asks("Unavailable until 2.05"),
            ],
        ),
        (
            "the back-off grows to half a minute on average",
            vec![
                Fails(Unavailable),
                Fails(Unavailable),
                Fails(Unavailable),
                Fails(Unavailable),
                Fails(Unavailable),
                Fails(Unavailable),
                Fails(Unavailable),
                Fails(Unavailable),
                Asks("Unavailable until 30.05"),
            ],
        ),
        (
            "a success ends the back-off",
            vec![
                Fails(Unavailable),
                Fails(Unavailable),
                Fails(Unavailable),
                Token(3600),
                Asks("serve"),
                Due(Some(1800)),
                At(3600),
                Fails(Unavailable),
                Asks("Unavailable until 3600.55"),
            ],
        ),
        (
            "rejected_credentials_recover_without_restart",
            vec![
                Fails(CredentialRejected),
                Asks("CredentialRejected until 22.50"),
                Due(Some(22)),
                At(23),
                Asks("launch and join"),
                Fails(CredentialMissing),
                Asks("CredentialMissing until 60.50"),
                At(61),
                Token(3600),
                Asks("serve"),
            ],
        ),
        (
            "Retry-After is obeyed, spread, floored and capped",
            vec![
                FailsWith(Throttled, 30),
                Asks("Throttled until 31.50"),
                At(32),
                FailsWith(Throttled, 0),
                Asks("Throttled until 33.05"),
                At(34),
                FailsWith(Throttled, 86_400),
                Asks("Throttled until 349.00"),
                At(400),
                FailsWith(Unavailable, 20),
                Asks("Unavailable until 421.00"),
            ],
        ),
        (
            "a token dead on arrival is a failure",
            vec![Token(0), Asks("Malformed until 0.55")],
        ),
        (
            "a dead successor leaves a live token alone",
            vec![Token(3600), At(1800), Token(0), Asks("serve")],
        ),
        (
            "the margin takes no more than a tenth of a short life",
            vec![
                Token(20),
                At(9),
                Asks("serve"),
                At(10),
                Asks("serve and launch"),
                At(17),
                Asks("serve and launch"),
                At(18),
                Asks("launch and join"),
            ],
        ),
        (
            "a longer validity than the tokens have is unattainable, and mints nothing",
            vec![
                Token(3600),
                AsksFor(3600, "unattainable"),
                AsksFor(7200, "unattainable"),
                At(1000),
                AsksFor(3600, "unattainable"),
                AsksFor(2600, "launch and join"),
                AsksFor(2599, "serve"),
            ],
        ),
        (
            "a fresh token is not replaced for the sake of a few seconds",
            vec![
                Token(3600),
                At(9),
                AsksFor(3595, "unattainable"),
                At(10),
                AsksFor(3595, "launch and join"),
            ],
        ),
        (
            "a caller who wants more validity joins the refresh or shares its failure",
            vec![
                Token(3600),
                At(1800),
                Launch,
                AsksFor(1900, "join"),
                Asks("serve"),
            ],
        ),
        (
            "wanting more validity does not break the back-off",
            vec![
                Token(3600),
                At(1800),
                Fails(Unavailable),
                AsksFor(1900, "Unavailable until 1800.55"),
                Asks("serve"),
            ],
        ),
        (
            "a quarantined slot refuses and holds nothing",
            vec![
                Token(3600),
                Quarantine,
                Asks("quarantined"),
                Due(None),
                At(100),
                Asks("quarantined"),
                Release,
                Asks("launch and join"),
            ],
        ),
        (
            "a release forgets the failures",
            vec![
                Fails(CredentialRejected),
                Quarantine,
                Release,
                Asks("launch and join"),
            ],
        ),
    ];

    let mut report = String::new();
    for (name, steps) in scenarios {
        let mut bench = Bench::new();
        for (index, step) in steps.into_iter().enumerate() {
            let (expected, found) = match step {
                At(second) => {
                    bench.now = secs(second);
                    continue;
                }
                Launch => {
                    bench.slot.launch();
                    continue;
                }
                Token(life) => {
                    let _ = bench.land_token(secs(life));
                    continue;
                }
                Fails(reason) => {
                    bench.land_failure(reason, None);
                    continue;
                }
                FailsWith(reason, wait) => {
                    bench.land_failure(reason, Some(wait));
                    continue;
                }
                Quarantine => {
                    bench.slot.quarantine();
                    continue;
                }
                Release => {
                    bench.slot.release();
                    continue;
                }
                Asks(expected) => (expected.to_owned(), bench.decide(Duration::ZERO)),
                AsksFor(validity, expected) => (expected.to_owned(), bench.decide(secs(validity))),
                Due(expected) => (
                    format!("{expected:?}"),
                    format!(
                        "{:?}",
                        bench
                            .slot
                            .due()
                            .map(|at| (at - bench.start.instant).as_secs())
                    ),
                ),
            };
            if expected != found {
                writeln!(
                    report,
                    "{name}, step {index}: expected {expected:?}, found {found:?}"
                )
                .unwrap();
            }
        }
    }
    assert!(report.is_empty(), "\n{report}");
}

#[test]
fn what_was_launched_before_a_quarantine_never_lands_after_it() {
    let mut bench = Bench::new();
    let number = bench.slot.launch();
    bench.slot.quarantine();
    bench.slot.release();
    let token = bench.token(HOUR);
    let landed = bench.slot.land(number, Ok(token), bench.now(), MIDDLE);
    assert_eq!(landed.unwrap_err(), Refusal::Quarantined);
    assert_eq!(bench.decide(Duration::ZERO), "launch and join");
}

#[test]
fn a_reported_token_is_replaced_once_in_a_window_and_served_meanwhile() {
    let mut bench = Bench::new();
    let reported = bench.land_token(HOUR).unwrap().id;
    let other = TokenId::random();
    assert_eq!(
        bench.slot.report(other, bench.now()),
        Report::AlreadyReplaced
    );
    assert_eq!(bench.slot.report(reported, bench.now()), Report::Refresh);
    let number = bench.slot.heed(bench.now());
    assert_eq!(bench.slot.report(reported, bench.now()), Report::UnderWay);
    assert_eq!(bench.decide(Duration::ZERO), "serve");
    let successor = bench.token(HOUR);
    let successor = bench
        .slot
        .land(number, Ok(successor), bench.now(), MIDDLE)
        .unwrap()
        .id;
    assert_eq!(
        bench.slot.report(reported, bench.now()),
        Report::AlreadyReplaced
    );
    bench.now = secs(29);
    assert_eq!(bench.slot.report(successor, bench.now()), Report::TooOften);
    bench.now = secs(30);
    assert_eq!(bench.slot.report(successor, bench.now()), Report::Refresh);
    bench.land_failure(FailureReason::Unavailable, None);
    assert_eq!(
        bench.slot.report(successor, bench.now()),
        Report::TooOften,
        "backing off"
    );
}

#[test]
fn latency_shortens_the_life() {
    let mut bench = Bench::new();
    let number = bench.slot.launch();
    let token = bench.token(secs(100));
    bench.now = secs(30);
    bench
        .slot
        .land(number, Ok(token), bench.now(), MIDDLE)
        .unwrap();
    assert_eq!(bench.slot.runway(bench.now()), secs(60));
    bench.now = secs(90);
    assert_eq!(bench.decide(Duration::ZERO), "launch and join");
}

#[test]
fn a_thousand_keys_do_not_refresh_together() {
    let mut per_second = std::collections::HashMap::new();
    for index in 0..1000_u32 {
        let mut bench = Bench::new();
        let number = bench.slot.launch();
        let token = bench.token(HOUR);
        let draw = f64::from(index) / 1000.0;
        bench
            .slot
            .land(number, Ok(token), bench.now(), draw)
            .unwrap();
        let due = bench.slot.due().unwrap() - bench.start.instant;
        assert!(
            (secs(1710)..secs(1890)).contains(&due),
            "half an hour ± 5 %, not {due:?}"
        );
        *per_second.entry(due.as_secs()).or_insert(0) += 1;
    }
    assert_eq!(per_second.values().max(), Some(&6));
}

/// What may happen to a slot.
#[derive(Clone, Debug)]
enum Event {
    Wait(u64),
    Ask(u64),
    Tend,
    LandToken(u64, f64),
    LandFailure(FailureReason, Option<u64>, f64),
    Quarantine,
    Release,
}

fn event() -> impl Strategy<Value = Event> {
    let reason = prop_oneof![
        Just(FailureReason::CredentialMissing),
        Just(FailureReason::CredentialRejected),
        Just(FailureReason::Unavailable),
        Just(FailureReason::Throttled),
        Just(FailureReason::Malformed),
    ];
    prop_oneof![
        4 => prop_oneof![0..5_u64, 0..4000_u64].prop_map(Event::Wait),
        4 => prop_oneof![Just(0), 0..4000_u64].prop_map(Event::Ask),
        1 => Just(Event::Tend),
        3 => (prop_oneof![0..5_u64, 0..4000_u64], 0.0..1.0).prop_map(|(life, draw)| Event::LandToken(life, draw)),
        2 => (reason, proptest::option::of(0..1000_u64), 0.0..1.0).prop_map(|(reason, wait, draw)| Event::LandFailure(reason, wait, draw)),
        1 => Just(Event::Quarantine),
        1 => Just(Event::Release),
    ]
}

/// The promises, kept by a model that knows only what a caller could see.
#[derive(Default)]
struct Model {
    flight: Option<(FlightNumber, Duration)>,
    /// The last token that landed well: its name and when it may no longer be served.
    token: Option<(TokenId, Duration, Duration)>,
    /// No flight may start before.
    retry_at: Duration,
    quarantined: bool,
}

#[expect(clippy::too_many_lines, reason = "one arm for each event")]
fn keeps_the_promises(events: &[Event]) {
    let mut bench = Bench::new();
    let mut model = Model::default();
    for event in events {
        match *event {
            Event::Wait(seconds) => bench.now += secs(seconds),
            Event::Ask(validity) => {
                let decision = bench.slot.decide(bench.now(), secs(validity));
                let alive = model.token.filter(|(_, until, _)| bench.now < *until);
                let expiry = model.token.map_or(Duration::ZERO, |(_, _, expiry)| expiry);
                let suffices = alive.is_some() && bench.now + secs(validity) < expiry;
                match &decision {
                    Decision::Serve(token) | Decision::ServeAndLaunch(token) => {
                        assert!(!model.quarantined, "served in quarantine");
                        assert!(suffices, "served an expired token");
                        assert_eq!(alive.unwrap().0, token.id, "served a displaced token");
                    }
                    Decision::Refuse(Refusal::Quarantined) => assert!(model.quarantined),
                    Decision::Join(number) => {
                        assert_eq!(model.flight.unwrap().0, *number, "joined no flight");
                    }
                    Decision::LaunchAndJoin | Decision::Refuse(_) => {}
                }
                if !model.quarantined {
                    let served =
                        matches!(decision, Decision::Serve(_) | Decision::ServeAndLaunch(_));
                    assert_eq!(served, suffices, "with a valid token in hand nobody waits");
                }
                if let Decision::Refuse(Refusal::Failed { retry_at, .. }) = decision {
                    assert_eq!(retry_at, bench.start.instant + model.retry_at);
                }
                if decision.launches() {
                    assert!(model.flight.is_none(), "two flights for one key");
                    assert!(model.retry_at <= bench.now, "launched while backing off");
                    model.flight = Some((bench.slot.launch(), bench.now));
                }
            }
            Event::Tend => {
                if bench.slot.due().is_some_and(|due| due <= bench.now()) {
                    assert!(model.flight.is_none() && !model.quarantined);
                    assert!(model.retry_at <= bench.now, "tended while backing off");
                    model.flight = Some((bench.slot.launch(), bench.now));
                }
            }
            Event::LandToken(life, draw) => {
                let Some((number, launched)) = model.flight.take() else {
                    continue;
                };
                let token = Token {
                    requested_at: bench.start.after(launched),
                    origin: Origin::Here,
                    ..bench.token(secs(life))
                };
                let id = token.id;
                let expiry = launched + secs(life);
                let until = expiry.saturating_sub(MARGIN.min(secs(life) / 10));
                let landed = bench.slot.land(number, Ok(token), bench.now(), draw);
                if bench.now < until {
                    assert_eq!(landed.unwrap().id, id);
                    model.token = Some((id, until, expiry));
                    model.retry_at = Duration::ZERO;
                } else {
                    model.retry_at = backing_off(&bench, landed.unwrap_err());
                }
            }
            Event::LandFailure(reason, wait, draw) => {
                let Some((number, _)) = model.flight.take() else {
                    continue;
                };
                let failure = Failure {
                    reason,
                    retry: wait.map_or(Retry::Alone, |wait| Retry::NotBefore(secs(wait))),
                };
                let landed = bench.slot.land(number, Err(failure), bench.now(), draw);
                model.retry_at = backing_off(&bench, landed.unwrap_err());
            }
            Event::Quarantine => {
                bench.slot.quarantine();
                model = Model {
                    quarantined: true,
                    ..Model::default()
                };
            }
            Event::Release => {
                bench.slot.release();
                model.quarantined = false;
                model.retry_at = Duration::ZERO;
            }
        }
    }
    // No state is terminal: whatever happened, a while later a token can be minted.
    bench.slot.release();
    if let Some((number, _)) = model.flight {
        let failure = Failure {
            reason: FailureReason::CredentialRejected,
            retry: Retry::NotBefore(secs(86_400)),
        };
        bench
            .slot
            .land(number, Err(failure), bench.now(), 0.999)
            .unwrap_err();
    }
    bench.now += secs(7200);
    assert_eq!(bench.decide(Duration::ZERO), "launch and join");
    bench.land_token(HOUR).unwrap();
    assert_eq!(bench.decide(Duration::ZERO), "serve");
}

/// The retry time of a failure, which is bounded whatever the upstream asks for.
fn backing_off(bench: &Bench, refusal: Refusal) -> Duration {
    let Refusal::Failed { retry_at, .. } = refusal else {
        panic!("{refusal:?} is no failure");
    };
    let wait = retry_at - bench.now();
    assert!(
        wait >= Duration::from_millis(100),
        "no pause between two tries"
    );
    assert!(wait <= secs(330), "more than the longest pause");
    retry_at - bench.start.instant
}

#[test]
fn random_sequences_keep_the_promises() {
    let cases = std::env::var("TOKEN_BROKER_SLOT_CASES")
        .ok()
        .and_then(|count| count.parse().ok())
        .unwrap_or(100_000);
    let config = ProptestConfig {
        cases,
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    proptest!(config, |(events in proptest::collection::vec(event(), 1..40))| keeps_the_promises(&events));
}
