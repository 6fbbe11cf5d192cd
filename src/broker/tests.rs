//! What the broker sees to itself: the last look before a token leaves, and readiness.

mod crowd;

use futures_util::future::{BoxFuture, FutureExt as _};

use super::*;
use crate::{
    audit::{OnFailure, Settings},
    cache::{Edition, MintTerms, Schedule},
    clock::Moment,
    metrics::{Door, Metrics},
    policy::CallerPattern,
    request_id::RequestId,
    secret::Secret,
    shared_cache::SharedCache,
    telemetry::Traces,
    token::{LifetimeRule, Minted, Origin, SecretName},
    upstream::{FetchError, Rotation, TokenSource},
};

mod hand_outs;
mod replicas;

/// Mints at once, or never ends.
struct Endpoint {
    answers: bool,
}

impl TokenSource for Endpoint {
    fn mint<'a>(&'a self, _flight: &'a Span) -> BoxFuture<'a, Result<Minted, FetchError>> {
        if !self.answers {
            return std::future::pending().boxed();
        }
        let minted = Minted {
            access_token: Secret::new("token".to_owned()),
            expires_in: None,
        };
        std::future::ready(Ok(minted)).boxed()
    }
}

fn registration(destination: &str, edition: Edition, answers: bool) -> Arc<Registration> {
    Arc::new(Registration {
        edition,
        rotation: Rotation::of(Arc::new(Endpoint { answers })),
        ..sample(destination)
    })
}

fn sample(destination: &str) -> Registration {
    let rotation = Rotation::of(Arc::new(Endpoint { answers: true }));
    Registration {
        warm: true,
        ..Registration::sample(destination, rotation)
    }
}

fn catalogue(edition: Edition, registrations: &[Arc<Registration>]) -> Catalogue {
    let mut catalogue = Catalogue::new(edition, Arc::default());
    for registration in registrations {
        let listing = Listing {
            id: registration.key.destination.clone(),
            name: None,
            grants: crate::policy::Grants::new([]),
            registrations: vec![Arc::clone(registration)],
            tally: Metrics::new().tally(&registration.key.destination),
        };
        catalogue.add(listing);
    }
    catalogue
}

#[test]
fn a_token_of_another_key_does_not_leave() {
    let [one, other] = ["one", "other"].map(|name| registration(name, Edition::default(), true));
    let token = Arc::new(Token {
        key: Arc::clone(&other.key),
        access_token: Arc::new(Secret::new("token".to_owned())),
        id: TokenId::random(),
        requested_at: Moment::now(),
        origin: Origin::Here,
        lifetime: Duration::from_secs(3600),
        secret: SecretName::sample(),
    });
    assert!(hand_out(&other, Ok(Arc::clone(&token))).is_ok());
    let refused = hand_out(&one, Ok(token)).unwrap_err();
    assert_eq!(refused.code(), "UPSTREAM_UNAVAILABLE");
}

#[tokio::test(start_paused = true)]
async fn one_more_warm_destination_does_not_make_a_ready_broker_unready() {
    let first = Edition::default();
    let (cache, _schedule) = Cache::new(
        Arc::new(Metrics::new()),
        Arc::new(Audit::off()),
        SharedCache::off(),
        Traces::off(),
    );
    let good = registration("good", first, true);
    let broker = Broker::new(catalogue(first, &[good]), cache, Arc::new(Audit::off()));
    broker.warm();
    assert!(!broker.is_ready(), "nothing was tried yet");
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(broker.is_ready());

    let next = first.next();
    let both = [
        registration("good", next, true),
        registration("hangs", next, false),
    ];
    broker.replace(catalogue(next, &both));
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(
        broker.is_ready(),
        "the new one hangs, the other has its token"
    );
}

/// A broker with a warm destination, whose records go to this file.
async fn recorded(file: &str, on_failure: OnFailure) -> (Arc<Broker>, Arc<Audit>, Schedule) {
    broker_with(Settings {
        file: Some(file.into()),
        stdout: false,
        max_file_size: 1024 * 1024,
        stall_timeout: crate::audit::DEFAULT_STALL_TIMEOUT,
        on_failure,
    })
    .await
}

async fn broker_with(settings: Settings) -> (Arc<Broker>, Arc<Audit>, Schedule) {
    broker_of(registration("one", Edition::default(), true), settings).await
}

async fn broker_of(
    one: Arc<Registration>,
    settings: Settings,
) -> (Arc<Broker>, Arc<Audit>, Schedule) {
    let metrics = Arc::new(Metrics::new());
    let audit = Arc::new(Audit::start(&settings, &metrics).unwrap());
    let mut catalogue = Catalogue::new(Edition::default(), Arc::default());
    let pattern = CallerPattern::parse("spiffe://td/**").unwrap();
    catalogue.add(Listing::sample(one, pattern, &metrics));
    let (cache, schedule) = Cache::new(
        metrics,
        Arc::clone(&audit),
        SharedCache::off(),
        Traces::off(),
    );
    let broker = Arc::new(Broker::new(catalogue, cache, Arc::clone(&audit)));
    broker.warm();
    let mut landings = broker.cache().landings();
    landings.wait_for(|landed| *landed > 0).await.unwrap();
    (broker, audit, schedule)
}

fn asker(request: &str) -> Asker {
    Asker {
        span: Span::none(),
        caller: CallerId::from_spiffe("spiffe://td/cart").unwrap(),
        door: Door::Grpc,
        request_id: RequestId::parse(request).unwrap(),
    }
}

fn granted(broker: &Broker, asker: &Asker) -> Granted {
    let destination = DestinationId::parse("one").unwrap();
    broker.authorise(&asker.caller, &destination).unwrap()
}

#[tokio::test]
async fn what_is_minted_handed_out_and_watched_is_recorded() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("audit.jsonl");
    let name = file.to_str().unwrap();
    let (broker, audit, _schedule) = recorded(name, OnFailure::Refuse).await;
    let asker = asker("r-1");
    let granted = granted(&broker, &asker);
    let token = broker.token(&asker, &granted, Duration::ZERO).await;
    let token = token.unwrap();
    let mut watch = broker.watch(asker.clone(), &granted);
    assert_eq!(watch.next().await.unwrap().id, token.id);
    audit.close(Duration::from_secs(30)).await;

    let text = std::fs::read_to_string(&file).unwrap();
    let records: Vec<serde_json::Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let kinds: Vec<_> = records.iter().map(|record| &record["kind"]).collect();
    assert_eq!(kinds, ["open", "mint", "token", "token", "close"]);
    let id = token.id.to_string();
    for (record, cache) in records[2..4].iter().zip(["hit", "watch"]) {
        assert_eq!(record["cache"], cache);
        assert_eq!(record["token_id"], id);
        assert_eq!(record["caller"], "spiffe://td/cart");
        assert_eq!(record["destination"], "one");
        assert_eq!(record["application"], "app");
        assert_eq!(record["request_id"], "r-1");
        assert_eq!(record["expires_at"], records[1]["expires_at"]);
    }
    assert_eq!(records[1]["token_id"], id);
    assert!(!text.contains("\"token\":"), "no token is recorded: {text}");
}

#[tokio::test]
async fn without_a_record_no_token_leaves() {
    let (broker, audit, _schedule) = recorded("/dev/full", OnFailure::Refuse).await;
    let asker = asker("r-1");
    let granted = granted(&broker, &asker);
    for _ in 0..3 {
        let refused = broker.token(&asker, &granted, Duration::ZERO).await;
        assert_eq!(refused.unwrap_err().code(), "AUDIT_UNAVAILABLE");
    }
    assert!(!broker.is_ready());
    let mut watch = broker.watch(asker.clone(), &granted);
    let refused = watch.next().await.unwrap_err();
    assert_eq!(refused.code(), "AUDIT_UNAVAILABLE");
    // It is told once, and the token is tried again for as long as it takes.
    let again = tokio::time::timeout(crate::audit::RETRY * 3 / 2, watch.next());
    assert!(again.await.is_err());
    drop(audit);

    let (broker, _audit, _schedule) = recorded("/dev/full", OnFailure::Allow).await;
    assert!(broker.token(&asker, &granted, Duration::ZERO).await.is_ok());
    assert!(broker.is_ready());
}

#[tokio::test]
async fn a_watcher_gets_its_token_once_it_can_be_recorded() {
    let folder = tempfile::tempdir().unwrap();
    let pipe = folder.path().join("pipe");
    let made = std::process::Command::new("mkfifo").arg(&pipe).status();
    assert!(made.unwrap().success());
    let (broker, audit, _schedule) = recorded(pipe.to_str().unwrap(), OnFailure::Refuse).await;
    let asker = asker("r-1");
    let granted = granted(&broker, &asker);
    let mut watch = broker.watch(asker, &granted);
    let refused = watch.next().await.unwrap_err();
    assert_eq!(refused.code(), "AUDIT_UNAVAILABLE");
    let reader = std::thread::spawn(move || std::fs::read_to_string(pipe).unwrap());
    let token = watch.next().await.unwrap();
    audit.close(Duration::from_secs(30)).await;
    let records = reader.join().unwrap();
    let handed_out = records
        .lines()
        .filter(|line| line.contains("\"cache\":\"watch\""));
    let handed_out: Vec<_> = handed_out.collect();
    assert_eq!(handed_out.len(), 1, "{records}");
    assert!(handed_out[0].contains(&token.id.to_string()));
}

/// A pipe that nobody reads yet, and a broker whose records wait for that, with tokens that
/// live so long.
async fn stalled(life: Duration) -> (tempfile::TempDir, Arc<Broker>, Schedule) {
    let folder = tempfile::tempdir().unwrap();
    let pipe = folder.path().join("pipe");
    let made = std::process::Command::new("mkfifo").arg(&pipe).status();
    assert!(made.unwrap().success());
    let settings = Settings {
        file: Some(pipe),
        stdout: false,
        max_file_size: 1024 * 1024,
        stall_timeout: Duration::from_secs(30),
        on_failure: OnFailure::Refuse,
    };
    let one = Registration {
        terms: Arc::new(MintTerms {
            lifetimes: LifetimeRule {
                default: life,
                max: life,
            },
            expiry_margin: Duration::ZERO,
            ..MintTerms::sample()
        }),
        ..sample("one")
    };
    let (broker, _, schedule) = broker_of(Arc::new(one), settings).await;
    (folder, broker, schedule)
}

/// Reads the records from now on, for as long as there are any.
fn read(folder: &tempfile::TempDir) {
    let pipe = folder.path().join("pipe");
    std::thread::spawn(move || std::fs::read(pipe));
}

#[tokio::test]
async fn a_token_that_died_while_it_waited_for_its_record_does_not_leave() {
    let life = Duration::from_secs(2);
    let (folder, broker, _schedule) = stalled(life).await;
    let asker = asker("r-1");
    let granted = granted(&broker, &asker);
    let first = broker.cache().survey(&granted.registration).unwrap();
    let first = first.token.unwrap();
    let mut watch = broker.watch(asker.clone(), &granted);
    let mut asking = std::pin::pin!(broker.token(&asker, &granted, life / 2));
    let mut watching = std::pin::pin!(watch.next());
    assert!((&mut asking).now_or_never().is_none());
    assert!((&mut watching).now_or_never().is_none());
    tokio::time::sleep(life).await;
    read(&folder);
    assert_ne!(asking.await.unwrap().id, first.id);
    assert_ne!(watching.await.unwrap().id, first.id);
}

#[tokio::test]
async fn a_quarantine_holds_for_a_token_that_waits_for_its_record() {
    let (folder, broker, _schedule) = stalled(Duration::from_secs(3600)).await;
    let asker = asker("r-1");
    let granted = granted(&broker, &asker);
    let mut watch = broker.watch(asker.clone(), &granted);
    let mut asking = std::pin::pin!(broker.token(&asker, &granted, Duration::ZERO));
    let mut watching = std::pin::pin!(watch.next());
    assert!((&mut asking).now_or_never().is_none());
    assert!((&mut watching).now_or_never().is_none());
    broker.cache().quarantine(granted.destination(), None);
    tokio::time::sleep(2 * LONG_WAIT).await;
    read(&folder);
    for refused in [asking.await, watching.await] {
        assert_eq!(refused.unwrap_err().code(), "DESTINATION_QUARANTINED");
    }
}
