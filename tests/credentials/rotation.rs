//! Rotations, from the command line to the token endpoint.

use std::{
    collections::{HashMap, HashSet},
    fs,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use jiff::Timestamp;
use serde_json::Value;
use token_broker::{
    api::v1::{ReportRejectedRequest, token_broker_client::TokenBrokerClient},
    upstream::standin::Behaviour,
};
use tokio::{
    task::{JoinHandle, JoinSet},
    time::{Instant, sleep, timeout},
};
use tonic::transport::Channel;

use crate::{
    broker::{Broker, machine, until},
    counters::reloads,
    line::Line,
    store::{credential, setup},
    trial::{CART, GIVE_UP, Setup, Site, Trial, ask, client_id, client_secret, http},
};

/// Within this time a changed store counts for every broker that has it.
const TAKEN_IN_WITHIN: Duration = Duration::from_secs(2);

/// A caller that must never be refused.
struct Caller {
    stop: Arc<AtomicBool>,
    calls: Arc<AtomicUsize>,
    work: JoinHandle<()>,
}

impl Caller {
    fn start(mut client: TokenBrokerClient<Channel>) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let calls = Arc::new(AtomicUsize::new(0));
        let (stopped, counted) = (Arc::clone(&stop), Arc::clone(&calls));
        let work = tokio::spawn(async move {
            while !stopped.load(Ordering::Relaxed) {
                ask(&mut client, "d0").await.unwrap();
                counted.fetch_add(1, Ordering::Relaxed);
                sleep(Duration::from_millis(1)).await;
            }
        });
        Self { stop, calls, work }
    }

    /// How many calls were answered; it panics if one was not.
    async fn stop(self) -> usize {
        self.stop.store(true, Ordering::Relaxed);
        self.work.await.unwrap();
        self.calls.load(Ordering::Relaxed)
    }
}

/// The client that the current token was minted for.
async fn minted_for(site: &Site, client: &TokenBrokerClient<Channel>) -> String {
    let token = ask(&mut client.clone(), "d0").await.unwrap().access_token;
    site.upstream.minted_for(&token).unwrap().client_id
}

async fn taken_in(broker: &Broker) -> u32 {
    let (_, metrics) = http(broker.http, "/metrics").await.unwrap();
    let counter = format!("{} ", reloads("ok"));
    let count = metrics
        .lines()
        .find_map(|line| line.strip_prefix(&*counter));
    count.map_or(0, |count| count.parse().unwrap())
}

/// Tells the broker that the current token was rejected, so that it mints another one.
async fn report(client: &TokenBrokerClient<Channel>) -> String {
    let mut client = client.clone();
    let token_id = ask(&mut client, "d0").await.unwrap().token_id;
    let request = ReportRejectedRequest {
        destination_id: "d0".to_owned(),
        token_id: token_id.clone(),
    };
    client.report_rejected(request).await.unwrap();
    token_id
}

#[tokio::test(flavor = "multi_thread")]
async fn a_good_secret_takes_over_and_the_old_one_goes() {
    let _machine = machine().await;
    let site = Site::new(setup()).await;
    let broker = Broker::start(&site).await;
    let client = broker.client(&site).await;
    let caller = Caller::start(client.clone());
    assert_eq!(minted_for(&site, &client).await, "client-of-d0");

    // As Occtoo has it: each application has one secret, so there is a second application.
    site.upstream.register("d0", "client-new", "canary-new");
    let said = site
        .run("rotate d0 --client-id client-new", "canary-new")
        .done();
    assert!(said.contains("minted a token that lives for 1h"), "{said}");
    assert_eq!(site.stored(), [("d0".to_owned(), 1, Some(2))]);
    until("the next secret mints", async || {
        minted_for(&site, &client).await == "client-new"
    })
    .await;

    site.run("rotate d0 --finish", "").done();
    assert_eq!(site.stored(), [("d0".to_owned(), 2, None)]);
    let old = client_secret("d0");
    let contents = site.store().read().unwrap();
    let current = &contents.find("d0").unwrap().current.credential;
    assert_eq!(&**current.client_id(), "client-new");
    until("the end of the rotation is taken in", async || {
        taken_in(&broker).await == 2
    })
    .await;

    // From now on the endpoint takes the old secret for a wrong one.
    site.upstream.register("d0", &client_id("d0"), "revoked");
    let before = site.upstream.calls_for("d0");
    let last = report(&client).await;
    until("another token is minted", async || {
        ask(&mut client.clone(), "d0").await.unwrap().token_id != last
    })
    .await;
    assert_eq!(minted_for(&site, &client).await, "client-new");
    assert_eq!(
        site.upstream.calls_for("d0"),
        before + 1,
        "nobody asked with the old one"
    );
    assert!(caller.stop().await > 0);
    let log = broker.log();
    assert_eq!(
        log.matches("the next secret works and mints from now on")
            .count(),
        1,
        "{log}"
    );
    assert!(!log.contains("canary") && !log.contains(&old), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_secret_is_rolled_back_and_no_call_fails() {
    let _machine = machine().await;
    let site = Site::new(setup()).await;
    let broker = Broker::start(&site).await;
    let client = broker.client(&site).await;
    let caller = Caller::start(client.clone());
    minted_for(&site, &client).await;
    assert_eq!(site.upstream.calls_for("d0"), 1);

    site.run("rotate d0 --no-verify", "canary-wrong").done();
    until("both secrets were asked with", async || {
        site.upstream.calls_for("d0") == 3
    })
    .await;
    let complaint = "the next secret is rejected: the current one goes on minting";
    until("it is said", async || broker.log().contains(complaint)).await;
    let last = report(&client).await;
    until("the current one mints", async || {
        ask(&mut client.clone(), "d0").await.unwrap().token_id != last
    })
    .await;
    assert_eq!(
        site.upstream.calls_for("d0"),
        4,
        "the wrong one was left alone"
    );
    let log = broker.log();
    let lines: Vec<_> = log
        .lines()
        .filter(|line| line.contains(complaint))
        .collect();
    assert_eq!(lines.len(), 1, "{log}");
    assert!(
        lines[0].contains(r#""credential":"sealed:d0","generation":"2""#),
        "{}",
        lines[0]
    );
    assert!(!log.contains("canary"), "{log}");

    site.run("rotate d0 --abort", "").done();
    until("that is taken in", async || taken_in(&broker).await == 2).await;
    assert_eq!(minted_for(&site, &client).await, "client-of-d0");
    assert!(caller.stop().await > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_does_not_try_a_rejected_secret_again() {
    let trial = Trial::start(setup()).await;
    let mut line = Line::of(&trial, CART).await;
    line.ask("d0").await.unwrap();
    trial.run("rotate d0 --no-verify", "canary-wrong").done();
    trial.until_counted(&reloads("ok"), 1).await;
    let both = async || trial.upstream.calls_for("d0") == 3;
    until("both secrets were asked with", both).await;

    trial.app.reload();
    trial.until_counted(&reloads("ok"), 2).await;
    let before = line.ask("d0").await.unwrap().token_id;
    let request = ReportRejectedRequest {
        destination_id: "d0".to_owned(),
        token_id: before.clone(),
    };
    line.client.report_rejected(request).await.unwrap();
    let another = async {
        while line.ask("d0").await.unwrap().token_id == before {
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(GIVE_UP, another).await.expect("no other token");
    assert_eq!(trial.upstream.calls_for("d0"), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_rejection_leaves_the_current_secret_its_time() {
    let trial = Trial::start(Setup {
        upstream: "timeout = \"3s\"",
        ..setup()
    })
    .await;
    let mut line = Line::of(&trial, CART).await;
    let before = line.ask("d0").await.unwrap().token_id;
    trial.upstream.behave(Behaviour {
        delay: Duration::from_millis(1800),
        ..Behaviour::default()
    });
    trial.run("rotate d0 --no-verify", "canary-wrong").done();
    let another = async {
        while line.ask("d0").await.unwrap().token_id == before {
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(GIVE_UP, another).await.expect("no other token");
    assert_eq!(trial.upstream.calls_for("d0"), 3, "in one flight");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_store_is_taken_in_within_two_seconds() {
    let _machine = machine().await;
    let site = Site::new(setup()).await;
    let (one, two) = (Broker::start(&site).await, Broker::start(&site).await);
    let mut quickest = Duration::MAX;
    // The machine may be busy with something else, but not every time.
    for round in 1..=3 {
        site.run(
            &format!("set new{round} --client-id id --no-verify"),
            "secret",
        )
        .done();
        let changed = Instant::now();
        for broker in [&one, &two] {
            until("the change is taken in", async || {
                taken_in(broker).await == round
            })
            .await;
        }
        println!("taken in after {:?}", changed.elapsed());
        quickest = quickest.min(changed.elapsed());
    }
    assert!(quickest < TAKEN_IN_WITHIN, "{quickest:?}");
    let client = one.client(&site).await;
    assert_eq!(minted_for(&site, &client).await, "client-of-d0");
}

/// Each fifth secret is wrong.
const WRONG_EVERY: u64 = 5;

/// How many rotations are done one after the other; `TOKEN_BROKER_ROTATIONS` sets it.
fn rotations() -> u64 {
    std::env::var("TOKEN_BROKER_ROTATIONS").map_or(40, |count| count.parse().unwrap())
}

/// Asks without a pause until it is stopped, and keeps every token once. It panics if there
/// is none.
async fn collect(
    mut client: TokenBrokerClient<Channel>,
    stop: Arc<AtomicBool>,
) -> HashMap<String, String> {
    let mut tokens = HashMap::new();
    while !stop.load(Ordering::Relaxed) {
        let reply = ask(&mut client, "d0").await.unwrap();
        tokens.insert(reply.token_id, reply.access_token);
    }
    tokens
}

#[tokio::test(flavor = "multi_thread")]
async fn many_rotations_fail_no_call_and_records_name_the_secret_of_each_token() {
    const CALLERS: usize = 4;
    let trial = Trial::start(Setup {
        server: "max_calls_per_second = 1000000",
        audit: "file = \"audit.jsonl\"\nmax_file_size = \"100GiB\"\nstall_timeout = \"30s\"",
        ..setup()
    })
    .await;
    let mut line = Line::of(&trial, CART).await;
    let mut last = line.ask("d0").await.unwrap().token_id;
    let stop = Arc::new(AtomicBool::new(false));
    let mut callers = JoinSet::new();
    for _ in 0..CALLERS {
        callers.spawn(collect(trial.client(CART).await, Arc::clone(&stop)));
    }
    let store = trial.store();
    let now = Timestamp::now;
    let mut generations = HashMap::from([(client_id("d0"), "1".to_owned())]);
    let mut rejected = 0;
    for round in 1..=rotations() {
        let (client, secret) = (format!("client-{round}"), format!("canary-{round}"));
        let is_wrong = round % WRONG_EVERY == 0;
        if !is_wrong {
            trial.upstream.register("d0", &client, &secret);
        }
        let next = credential("d0", &client, &secret);
        let calls = trial.upstream.calls_for("d0");
        let generation = store.change(|contents| contents.rotate("d0", &next, now()));
        let generation = generation.unwrap();
        last = another(&trial, &mut line, &last).await;
        // Rejected and then made up for, in one flight.
        let asked = if is_wrong { 2 } else { 1 };
        assert_eq!(trial.upstream.calls_for("d0"), calls + asked, "in {round}");
        if is_wrong {
            rejected += 1;
            store.change(|contents| contents.abort("d0")).unwrap();
        } else {
            generations.insert(client, generation.to_string());
            let finish = store.change(|contents| contents.finish("d0", generation));
            finish.unwrap();
        }
        last = another(&trial, &mut line, &last).await;
    }
    stop.store(true, Ordering::Relaxed);
    let tokens: HashMap<_, _> = callers.join_all().await.into_iter().flatten().collect();
    assert_eq!(rejected, rotations() / WRONG_EVERY);
    // Each step of a rotation brought a token of its own.
    assert_eq!(tokens.len() as u64, 1 + 2 * rotations());

    let (app, site) = trial.into_parts();
    app.stop().await;
    let mut recorded: HashMap<_, HashSet<_>> = HashMap::new();
    for record in records(&site).lines() {
        let record: Value = serde_json::from_str(record).unwrap();
        if let Some(id) = record["token_id"].as_str() {
            assert_eq!(record["credential"], "sealed:d0");
            let generation = record["generation"].as_str().unwrap().to_owned();
            recorded
                .entry(id.to_owned())
                .or_default()
                .insert(generation);
        }
    }
    for (id, token) in &tokens {
        let minted_for = site.upstream.minted_for(token).unwrap().client_id;
        let generation = generations[&minted_for].clone();
        assert_eq!(recorded[id], HashSet::from([generation]), "{minted_for}");
    }
}

/// All audit records: whatever asks for a reload begins a new file as well.
fn records(site: &Site) -> String {
    let files = fs::read_dir(site.folder.path()).unwrap();
    let files = files.map(|file| file.unwrap().path());
    let files = files.filter(|file| file.to_string_lossy().contains("audit.jsonl"));
    files
        .map(|file| fs::read_to_string(file).unwrap())
        .collect()
}

/// Has the broker take in the store, and waits for the token that this brings.
async fn another(trial: &Trial, line: &mut Line, last: &str) -> String {
    trial.app.reload();
    let another = async {
        loop {
            let token_id = line.ask("d0").await.unwrap().token_id;
            if token_id != last {
                return token_id;
            }
            sleep(Duration::from_millis(1)).await;
        }
    };
    timeout(GIVE_UP, another).await.expect("no other token")
}
