//! Files that change under a broker that is busy.
//!
//! A minute of it is measured by
//! `cargo test --release --test front_door -- --ignored --nocapture a_minute_of_swaps`.

use std::{
    fs,
    os::unix::fs::symlink,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::Duration,
};

use rustls::pki_types::{CertificateDer, pem::PemObject as _};
use token_broker::api::v1::{WatchTokenResponse, watch_token_response::Event};
use tokio::{
    task::JoinHandle,
    time::{Instant, MissedTickBehavior, interval, sleep, timeout},
};
use tonic::Streaming;

use crate::{
    counters::{closed, connections, reloads},
    disguise::Disguise,
    line::{Line, ask},
    steady::Steady,
    trial::{CART, GIVE_UP, Setup, Trial, client_id, reason},
};

/// Within this time a grant that was withdrawn is none any more. A change is noticed by
/// two looks at the files, 250 ms apart: that is half of it, and a look takes little.
const WITHDRAWN_WITHIN: Duration = Duration::from_secs(1);
/// The grant of every destination of a trial.
const GRANT: &str = r#""spiffe://corp.example/ns/shop/sa/*", "cart.corp.example""#;

/// The certificate that the broker shows.
async fn shown(trial: &Trial) -> CertificateDer<'static> {
    let stream = Disguise::of(trial, CART).handshake().await.unwrap();
    let (_, session) = stream.get_ref();
    session.peer_certificates().unwrap()[0].clone().into_owned()
}

/// Puts another certificate with its key in place, and says which.
fn swap(trial: &Trial) -> CertificateDer<'static> {
    let signed = trial.authority.server([127, 0, 0, 1].into()).unwrap();
    trial.write("server.pem", &signed.certificate);
    trial.write("server.key", signed.key.expose());
    CertificateDer::from_pem_slice(signed.certificate.as_bytes()).unwrap()
}

/// Waits for this many changes to be taken in, or refused.
async fn reloaded(trial: &Trial, outcome: &str, times: u64) {
    trial.until_counted(&reloads(outcome), times).await;
}

/// Waits until the broker shows this certificate.
async fn shows(trial: &Trial, certificate: &CertificateDer<'_>) {
    let shows = async { while shown(trial).await != *certificate {} };
    timeout(GIVE_UP, shows).await.expect("the old certificate");
}

/// Waits until the upstream was asked this often for a destination.
async fn until_called(trial: &Trial, destination: &str, times: u64) {
    let called = async {
        while trial.upstream.calls_for(destination) < times {
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(GIVE_UP, called).await.expect("no call");
}

async fn next(stream: &mut Streaming<WatchTokenResponse>) -> Result<Event, tonic::Status> {
    let message = timeout(GIVE_UP, stream.message()).await.expect("no event");
    Ok(message?.unwrap().event.unwrap())
}

/// The configuration without one of its destinations.
fn without(config: &str, destination: &str) -> String {
    let mark = format!("id = \"{destination}\"\n");
    let sections: Vec<_> = config
        .split("[[destination]]\n")
        .filter(|section| !section.starts_with(&mark))
        .collect();
    sections.join("[[destination]]\n")
}

/// A caller that connects anew for every call, and must never be refused.
struct Restless {
    stop: Arc<AtomicBool>,
    calls: Arc<AtomicU32>,
    work: JoinHandle<()>,
}

impl Restless {
    fn start(disguise: Disguise) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let calls = Arc::new(AtomicU32::new(0));
        let (stopped, counted) = (Arc::clone(&stop), Arc::clone(&calls));
        let work = tokio::spawn(async move {
            while !stopped.load(Ordering::Relaxed) {
                let mut line = Line::open(&disguise).await.unwrap();
                line.ask("d0").await.unwrap();
                counted.fetch_add(1, Ordering::Relaxed);
            }
        });
        Self { stop, calls, work }
    }

    async fn stop(self) -> u32 {
        self.stop.store(true, Ordering::Relaxed);
        self.work.await.unwrap();
        self.calls.load(Ordering::Relaxed)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn certificate_swapped_under_load() {
    let trial = Trial::with(1).await;
    let steady = Steady::start(Line::of(&trial, CART).await);
    let restless = Restless::start(Disguise::of(&trial, CART));
    for _ in 0..5 {
        let new = swap(&trial);
        shows(&trial, &new).await;
        steady.goes_on().await;
    }
    assert!(restless.stop().await > 0);
    assert!(steady.stop().await > 0);
    assert_eq!(trial.upstream.calls(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_or_key_that_is_not_usable_is_refused_and_the_old_one_serves_on() {
    let trial = Trial::with(1).await;
    let steady = Steady::start(Line::of(&trial, CART).await);
    let before = shown(&trial).await;
    let other = trial.authority.server([127, 0, 0, 1].into()).unwrap();
    let half = |text: &str| text[..text.len() / 2].to_owned();
    for (name, file, content) in [
        (
            "another's key",
            "server.key",
            Some(other.key.expose().to_owned()),
        ),
        (
            "another's certificate",
            "server.pem",
            Some(other.certificate.clone()),
        ),
        ("garbage", "server.pem", Some("garbage".to_owned())),
        ("no certificate", "server.pem", Some(String::new())),
        (
            "a key that is garbage",
            "server.key",
            Some("garbage".to_owned()),
        ),
        (
            "half a certificate",
            "server.pem",
            Some(half(&trial.text("server.pem"))),
        ),
        (
            "half a key",
            "server.key",
            Some(half(&trial.text("server.key"))),
        ),
        (
            "an authority cut short",
            "ca.pem",
            Some(half(&trial.text("ca.pem"))),
        ),
        ("a missing certificate", "server.pem", None),
        ("a missing key", "server.key", None),
        ("a missing authority", "ca.pem", None),
        ("a missing configuration", "broker.toml", None),
    ] {
        let good = trial.text(file);
        match &content {
            Some(content) => trial.write(file, content),
            None => fs::remove_file(trial.path(file)).unwrap(),
        }
        let refused = trial.counted(&reloads("refused")).await;
        trial.app.reload();
        reloaded(&trial, "refused", refused + 1).await;
        assert_eq!(shown(&trial).await, before, "{name}");
        Line::of(&trial, CART).await.ask("d0").await.expect(name);
        let taken_in = trial.counted(&reloads("ok")).await;
        trial.write(file, &good);
        trial.app.reload();
        reloaded(&trial, "ok", taken_in + 1).await;
        steady.goes_on().await;
    }
    assert!(steady.stop().await > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_grant_that_is_withdrawn_is_none_within_a_second() {
    let trial = Trial::with(1).await;
    let mut line = Line::of(&trial, CART).await;
    let mut quickest = Duration::MAX;
    // The machine may be busy with something else, but not every time.
    for round in 1..=3 {
        let token = line.ask("d0").await.unwrap();
        let mut watched = line.watch("d0").await;
        next(&mut watched).await.unwrap();

        let withdrawn = Instant::now();
        trial.reconfigure(GRANT, r#""spiffe://corp.example/ns/shop/sa/other""#);
        let refused = loop {
            match line.ask("d0").await {
                Ok(same) => assert_eq!(same.token_id, token.token_id),
                Err(refused) => break refused,
            }
            assert!(withdrawn.elapsed() < GIVE_UP);
        };
        quickest = quickest.min(withdrawn.elapsed());
        println!("withdrawn after {:?}", withdrawn.elapsed());
        assert_eq!(reason(&refused), "NOT_GRANTED");
        let ended = next(&mut watched).await.unwrap_err();
        assert_eq!(reason(&ended), "NOT_GRANTED");
        assert!(line.is_open());

        trial.reconfigure(r#""spiffe://corp.example/ns/shop/sa/other""#, GRANT);
        reloaded(&trial, "ok", 2 * round).await;
    }
    assert!(quickest < WITHDRAWN_WITHIN, "{quickest:?}");
    assert_eq!(trial.upstream.calls(), 1, "nothing was minted anew");
}

#[tokio::test(flavor = "multi_thread")]
async fn destinations_come_and_go_and_those_that_stay_keep_their_token() {
    let trial = Trial::with(2).await;
    let mut line = Line::of(&trial, CART).await;
    let stays = line.ask("d0").await.unwrap();
    let goes = line.ask("d1").await.unwrap();
    let mut watched = line.watch("d1").await;
    next(&mut watched).await.unwrap();
    let refused = line.ask("late").await.unwrap_err();
    assert_eq!(reason(&refused), "NOT_GRANTED");

    let config = trial.text("broker.toml");
    let late = r#"
[[destination]]
id = "late"
upstream = "occtoo"
[[destination.application]]
name = "shop"
credential = "file:d0"
[[destination.grant]]
callers = ["spiffe://corp.example/ns/shop/sa/*"]
"#;
    trial
        .upstream
        .register("late", &client_id("d0"), "canary-secret-of-d0");
    trial.write("broker.toml", &format!("{}{late}", without(&config, "d1")));
    reloaded(&trial, "ok", 1).await;
    line.ask("late").await.unwrap();
    for name in ["d1", "name-of-d1"] {
        let refused = line.ask(name).await.unwrap_err();
        assert_eq!(reason(&refused), "NOT_GRANTED");
    }
    let ended = next(&mut watched).await.unwrap_err();
    assert_eq!(reason(&ended), "NOT_GRANTED");
    assert_eq!(line.ask("d0").await.unwrap().token_id, stays.token_id);

    trial.write("broker.toml", &config);
    reloaded(&trial, "ok", 2).await;
    assert_ne!(
        line.ask("d1").await.unwrap().token_id,
        goes.token_id,
        "what was removed was forgotten"
    );
    assert_eq!(line.ask("d0").await.unwrap().token_id, stays.token_id);
    let calls = ["d0", "d1", "late"].map(|name| trial.upstream.calls_for(name));
    assert_eq!(calls, [1, 2, 1]);
    assert!(line.is_open());
}

#[tokio::test(flavor = "multi_thread")]
async fn one_mistake_leaves_everything_as_it_was() {
    let trial = Trial::with(2).await;
    let mut line = Line::of(&trial, CART).await;
    let before = shown(&trial).await;
    line.ask("d0").await.unwrap();

    // Besides the mistake, d0 is taken away and there is another certificate.
    let config = trial.text("broker.toml");
    let fixed = without(&config, "d0");
    let wrong = fixed.replace("name = \"name-of-d1\"\n", "nmae = \"name-of-d1\"\n");
    assert_ne!(fixed, wrong);
    trial.write("broker.toml", &wrong);
    reloaded(&trial, "refused", 1).await;
    let new = swap(&trial);
    reloaded(&trial, "refused", 2).await;
    line.ask("d0").await.unwrap();
    line.ask("name-of-d1").await.unwrap();
    assert_eq!(shown(&trial).await, before);
    assert_eq!(trial.counted(&reloads("ok")).await, 0);

    trial.write("broker.toml", &fixed);
    reloaded(&trial, "ok", 1).await;
    let refused = line.ask("d0").await.unwrap_err();
    assert_eq!(reason(&refused), "NOT_GRANTED");
    line.ask("name-of-d1").await.unwrap();
    assert_eq!(shown(&trial).await, new);
    assert!(line.is_open());
    assert_eq!(trial.upstream.calls(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_configuration_that_lacked_a_file_is_taken_in_when_the_file_appears() {
    let trial = Trial::with(1).await;
    let mut line = Line::of(&trial, CART).await;
    line.ask("d0").await.unwrap();
    trial.reconfigure("file:d0", "file:late");
    reloaded(&trial, "refused", 1).await;
    line.ask("d0").await.unwrap();

    trial.upstream.register("d0", "late", "canary-late");
    fs::create_dir(trial.path("credentials/late")).unwrap();
    trial.write("credentials/late/client_secret", "canary-late");
    trial.write("credentials/late/client_id", "late");
    reloaded(&trial, "ok", 1).await;
    let token = line.ask("d0").await.unwrap();
    let minted_for = trial.upstream.minted_for(&token.access_token).unwrap();
    assert_eq!(minted_for.client_id, "late");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_secret_mints_anew_and_watchers_get_what_it_mints() {
    let trial = Trial::with(2).await;
    let mut line = Line::of(&trial, CART).await;
    let first = line.ask("d0").await.unwrap();
    let other = line.ask("d1").await.unwrap();
    let mut watched = line.watch("d0").await;
    next(&mut watched).await.unwrap();

    // A secret that is wrong costs nothing while the last token lives.
    trial.write("credentials/d0/client_secret", "canary-wrong");
    until_called(&trial, "d0", 2).await;
    reloaded(&trial, "ok", 1).await;
    assert_eq!(line.ask("d0").await.unwrap().token_id, first.token_id);

    trial
        .upstream
        .register("d0", &client_id("d0"), "canary-new");
    trial.write("credentials/d0/client_secret", "canary-new");
    // The last token may come again before its successor does.
    let successor = loop {
        match next(&mut watched).await.unwrap() {
            Event::Token(token) if token.token_id != first.token_id => break token,
            Event::Token(_) => {}
            Event::Unavailable(failure) => panic!("{failure:?}"),
        }
    };
    assert_eq!(line.ask("d0").await.unwrap().token_id, successor.token_id);
    assert_eq!(line.ask("d1").await.unwrap().token_id, other.token_id);
    assert_eq!(trial.upstream.calls_for("d0"), 3);
    assert_eq!(trial.upstream.calls_for("d1"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_that_kubernetes_swaps_is_taken_in_as_a_whole() {
    const FILES: [&str; 4] = ["broker.toml", "ca.pem", "server.pem", "server.key"];
    let trial = Trial::with(2).await;
    let steady = Steady::start(Line::of(&trial, CART).await);
    let mut line = Line::of(&trial, CART).await;
    line.ask("d1").await.unwrap();
    // As a volume is mounted: every file is a link into the folder that a link names.
    let version = |name: &str| {
        let folder = trial.path(name);
        fs::create_dir(&folder).unwrap();
        for file in FILES {
            fs::copy(trial.path(file), folder.join(file)).unwrap();
        }
        folder
    };
    let point_to = |version: &str| {
        symlink(version, trial.path("..new")).unwrap();
        fs::rename(trial.path("..new"), trial.path("..data")).unwrap();
    };
    version("..one");
    point_to("..one");
    for file in FILES {
        symlink(format!("..data/{file}"), trial.path("link")).unwrap();
        fs::rename(trial.path("link"), trial.path(file)).unwrap();
    }
    reloaded(&trial, "ok", 1).await;

    let two = version("..two");
    let signed = trial.authority.server([127, 0, 0, 1].into()).unwrap();
    let new = CertificateDer::from_pem_slice(signed.certificate.as_bytes()).unwrap();
    let config = without(&trial.text("broker.toml"), "d1");
    fs::write(two.join("broker.toml"), config).unwrap();
    fs::write(two.join("server.pem"), &signed.certificate).unwrap();
    fs::write(two.join("server.key"), signed.key.expose()).unwrap();
    assert_ne!(shown(&trial).await, new);
    let taken_in = trial.counted(&reloads("ok")).await;
    point_to("..two");
    reloaded(&trial, "ok", taken_in + 1).await;
    assert_eq!(shown(&trial).await, new);
    let refused = line.ask("d1").await.unwrap_err();
    assert_eq!(reason(&refused), "NOT_GRANTED");

    // And back again.
    point_to("..one");
    reloaded(&trial, "ok", taken_in + 2).await;
    line.ask("d1").await.unwrap();
    assert_eq!(trial.counted(&reloads("refused")).await, 0);
    assert!(steady.stop().await > 0);
    assert_eq!(trial.upstream.calls_for("d0"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_that_is_asked_for_changes_nothing_where_nothing_has_changed() {
    let trial = Trial::with(1).await;
    let mut line = Line::of(&trial, CART).await;
    let token = line.ask("d0").await.unwrap();
    let mut watched = line.watch("d0").await;
    next(&mut watched).await.unwrap();
    for times in 1..=3 {
        trial.app.reload();
        reloaded(&trial, "ok", times).await;
        assert_eq!(line.ask("d0").await.unwrap().token_id, token.token_id);
    }
    // One that cannot be taken in is refused as well when it is asked for.
    let good = trial.text("broker.toml");
    trial.write("broker.toml", "[server");
    trial.app.reload();
    reloaded(&trial, "refused", 1).await;
    trial.app.reload();
    reloaded(&trial, "refused", 2).await;
    trial.write("broker.toml", &good);
    reloaded(&trial, "ok", 4).await;
    line.ask("d0").await.unwrap();
    assert!(line.is_open());
    // The watcher was told nothing in all that time, and gets on.
    let quiet = timeout(Duration::from_millis(1), watched.message()).await;
    assert!(quiet.is_err(), "{quiet:?}");
    assert_eq!(trial.upstream.calls(), 1);
    assert_eq!(trial.counted(&connections("ok")).await, 1);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes a minute"]
async fn a_minute_of_swaps_under_a_thousand_calls_a_second() {
    const MINUTE: Duration = Duration::from_secs(60);
    const CONNECTIONS: usize = 10;
    let trial = Trial::start(Setup {
        destinations: 1,
        ..Setup::default()
    })
    .await;
    let until = Instant::now() + MINUTE;
    let mut callers = Vec::new();
    for n in 0..CONNECTIONS {
        // Every other one connects anew after each hundred calls.
        let reconnects = n % 2 == 1;
        let disguise = Disguise::of(&trial, CART);
        callers.push(tokio::spawn(async move {
            let mut line = Line::open(&disguise).await.unwrap();
            let mut ticks = interval(Duration::from_millis(10));
            ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
            let (mut calls, mut failed, mut connected) = (0_u32, 0_u32, 1_u32);
            while ticks.tick().await < until {
                calls += 1;
                if ask(&mut line.client, "d0").await.is_err() {
                    failed += 1;
                }
                if reconnects && calls % 100 == 0 || !line.is_open() {
                    line = Line::open(&disguise).await.unwrap();
                    connected += 1;
                }
            }
            (calls, failed, connected)
        }));
    }
    let mut swaps = 0;
    let mut ticks = interval(Duration::from_secs(1));
    while ticks.tick().await < until {
        let new = swap(&trial);
        shows(&trial, &new).await;
        swaps += 1;
    }
    let (mut calls, mut failed, mut connected) = (0, 0, 0);
    for caller in callers {
        let (own_calls, own_failed, own_connected) = caller.await.unwrap();
        calls += own_calls;
        failed += own_failed;
        connected += own_connected;
    }
    println!("{calls} calls on {connected} connections, {swaps} swaps: {failed} calls failed");
    assert_eq!(failed, 0);
    assert_eq!(trial.upstream.calls(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn changed_limits_count_for_calls_and_connections_that_are_there_already() {
    const LIMIT: &str = "max_calls_per_second = 1000000";
    let trial = Trial::start(Setup {
        destinations: 1,
        server: LIMIT,
        ..Setup::default()
    })
    .await;
    let mut line = Line::of(&trial, CART).await;
    ask(&mut line.client, "d0").await.unwrap();

    trial.reconfigure(LIMIT, "max_calls_per_second = 1");
    reloaded(&trial, "ok", 1).await;
    let outcomes = [
        ask(&mut line.client, "d0").await,
        ask(&mut line.client, "d0").await,
    ];
    let refused = outcomes.into_iter().find_map(Result::err).unwrap();
    assert_eq!(reason(&refused), "CALLER_RATE");

    trial.reconfigure("max_calls_per_second = 1", LIMIT);
    reloaded(&trial, "ok", 2).await;
    ask(&mut line.client, "d0").await.unwrap();

    // Its trust domain is not known any more, so the connection that is open is cut.
    trial.reconfigure(LIMIT, r#"trust_domains = ["other.example"]"#);
    let _cut = timeout(GIVE_UP, line.ended()).await.unwrap();
    trial
        .until_counted(&closed("identity_trust_domain"), 1)
        .await;
    assert_eq!(trial.upstream.calls(), 1);
}
