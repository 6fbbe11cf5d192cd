//! The audit trail of a process: rotated, killed, and on a disk that is full.

use std::{
    collections::HashMap,
    fs::{self, File},
    path::PathBuf,
    process::{Command, Output},
    sync::{Arc, Mutex},
    time::Duration,
};

use rustix::process::{Pid, Resource, Rlimit, Signal, prlimit};
use token_broker::api::v1::{GetTokenRequest, token_broker_client::TokenBrokerClient};
use tokio::{task::JoinSet, time::Instant};
use tonic::{Request, transport::Channel};

use crate::{
    broker::{Broker, PROGRAM, machine, until},
    trail::{hand_outs, kinds, verify},
    trial::{GIVE_UP, Setup, Site, ask, http, reason},
};

const CALLERS: usize = 8;
/// What a file may grow to on a disk that is full, in bytes.
const DISK: u64 = 64 * 1024;

async fn site(audit: &'static str) -> Site {
    Site::new(Setup {
        destinations: 1,
        audit,
        server: "max_calls_per_second = 1000000",
        ..Setup::default()
    })
    .await
}

impl Site {
    fn audit(&self) -> PathBuf {
        self.folder.path().join("audit.jsonl")
    }

    /// The audit files, the oldest first.
    fn audits(&self) -> Vec<PathBuf> {
        let mut files: Vec<_> = fs::read_dir(self.folder.path())
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.to_string_lossy().contains("audit.jsonl."))
            .collect();
        files.sort();
        files.push(self.audit());
        files
    }
}

async fn stop(mut broker: Broker) {
    broker.signal(Signal::TERM);
    let (status, _) = broker.ended().await;
    assert_eq!(status.code(), Some(0), "{}", broker.log());
}

fn assert_passes(output: &Output) {
    let told = String::from_utf8_lossy(&output.stdout);
    let wrong = String::from_utf8_lossy(&output.stderr);
    print!("{told}{wrong}");
    assert!(output.status.success(), "{told}{wrong}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hangup_begins_a_new_file_and_closes_one_that_was_moved_away() {
    let _machine = machine().await;
    let site = site("file = \"audit.jsonl\"\nstall_timeout = \"30s\"").await;
    let broker = Broker::start(&site).await;
    let mut client = broker.client(&site).await;
    ask(&mut client, "d0").await.unwrap();
    broker.signal(Signal::HUP);
    until("a new file is begun", async || site.audits().len() == 2).await;
    ask(&mut client, "d0").await.unwrap();

    // As logrotate does it.
    let moved = site.folder.path().join("audit.jsonl.3");
    fs::rename(site.audit(), &moved).unwrap();
    ask(&mut client, "d0").await.unwrap();
    broker.signal(Signal::HUP);
    until("the moved file is closed", async || {
        kinds(&moved).last().is_some_and(|kind| kind == "close")
    })
    .await;
    ask(&mut client, "d0").await.unwrap();
    stop(broker).await;

    let told: Vec<_> = site.audits().iter().map(|file| kinds(file)).collect();
    assert_eq!(
        told,
        [
            &["open", "mint", "token", "close"][..],
            &["open", "token", "token", "close"],
            &["open", "token", "close"]
        ]
    );
    assert_passes(&verify(&site.audits()));
}

/// Asks until the broker is gone, and keeps the names of the requests that were answered.
async fn keep_asking(
    mut client: TokenBrokerClient<Channel>,
    name: usize,
    answered: Arc<Mutex<HashMap<String, String>>>,
) {
    for n in 0.. {
        let request = format!("{name}.{n}");
        let mut call = Request::new(GetTokenRequest {
            destination_id: "d0".to_owned(),
            min_validity: None,
        });
        let metadata = call.metadata_mut();
        metadata.insert("x-request-id", request.parse().unwrap());
        let Ok(reply) = client.get_token(call).await else {
            return;
        };
        let token = reply.into_inner().token_id;
        answered.lock().unwrap().insert(request, token);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_is_killed_has_recorded_every_token_that_it_handed_out() {
    let _machine = machine().await;
    let site = site("file = \"audit.jsonl\"\nstall_timeout = \"30s\"").await;
    let mut broker = Broker::start(&site).await;
    let answered = Arc::default();
    let mut callers = JoinSet::new();
    for name in 0..CALLERS {
        let client = broker.client(&site).await;
        callers.spawn(keep_asking(client, name, Arc::clone(&answered)));
    }
    until("a thousand calls are answered", async || {
        answered.lock().unwrap().len() > 1000
    })
    .await;
    broker.signal(Signal::KILL);
    broker.ended().await;
    callers.join_all().await;

    let broker = Broker::start(&site).await;
    let mut client = broker.client(&site).await;
    ask(&mut client, "d0").await.unwrap();
    stop(broker).await;
    let files = site.audits();
    let [killed, next] = files.as_slice() else {
        panic!("{files:?}")
    };
    assert_eq!(kinds(next), ["open", "mint", "token", "close"]);
    let text = fs::read_to_string(next).unwrap();
    assert!(text.contains("\"unclean\":true"), "{text}");
    let recorded = hand_outs(killed);
    let answered = answered.lock().unwrap();
    for (request, token) in answered.iter() {
        let [one] = recorded[request].as_slice() else {
            panic!("{request} has {} records", recorded[request].len())
        };
        assert_eq!(one.record["token_id"], **token);
    }
    println!("{} answered, {} recorded", answered.len(), recorded.len());
    assert!(recorded.len() - answered.len() <= CALLERS);
    assert_passes(&verify(&files));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_refuses_calls_tears_nothing_and_is_recovered_from() {
    let _machine = machine().await;
    let site = site("file = \"audit.jsonl\"\nstall_timeout = \"30s\"").await;
    // Blocks of 512 bytes (POSIX, "ulimit").
    let limit = format!("trap '' XFSZ; ulimit -S -f {}", DISK / 512);
    let broker = Broker::start_after(&limit, &site).await;
    let mut client = broker.client(&site).await;
    let mut answered = 0;
    let refused = loop {
        match ask(&mut client, "d0").await {
            Ok(_) => answered += 1,
            Err(refused) => break refused,
        }
        assert!(answered < 1000, "the disk is never full");
    };
    assert_eq!(reason(&refused), "AUDIT_UNAVAILABLE");
    let full = fs::read_to_string(site.audit()).unwrap();
    assert!(full.ends_with("\"}\n"), "nothing torn is left");
    assert_eq!(full.lines().count(), answered + 2);
    let (status, _) = http(broker.http, "/readyz").await.unwrap();
    assert_eq!(status, 503);

    let mut missed = 1;
    let room = Rlimit {
        current: None,
        maximum: None,
    };
    let process = Pid::from_raw(broker.id().try_into().unwrap());
    prlimit(process, Resource::Fsize, room).unwrap();
    let asked = Instant::now();
    while ask(&mut client, "d0").await.is_err() {
        missed += 1;
        assert!(asked.elapsed() < GIVE_UP, "it never recovers");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    println!(
        "{answered} answered, {missed} refused, then again one after {:?}",
        asked.elapsed()
    );
    stop(broker).await;
    let told = fs::read_to_string(site.audit()).unwrap();
    assert!(told.starts_with(&full));
    let kinds = kinds(&site.audit());
    assert_eq!(kinds[answered + 2..], ["gap", "token", "close"]);
    assert!(told.contains(&format!("\"missed\":{missed},")), "{told}");
    assert_passes(&verify(&site.audits()));
}

#[tokio::test(flavor = "multi_thread")]
async fn standard_output_is_a_sink_beside_a_file() {
    let _machine = machine().await;
    let site = site("file = \"audit.jsonl\"\nstdout = true").await;
    let collected = site.folder.path().join("stdout");
    let mut program = Command::new(PROGRAM);
    program.stdout(File::create(&collected).unwrap());
    let broker = Broker::run(program, &site).await;
    let mut client = broker.client(&site).await;
    for _ in 0..3 {
        ask(&mut client, "d0").await.unwrap();
    }
    stop(broker).await;
    for file in [site.audit(), collected] {
        let told = ["open", "mint", "token", "token", "token", "close"];
        assert_eq!(kinds(&file), told);
        assert_passes(&verify(&[file]));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sink_that_is_stuck_does_not_hold_up_the_end() {
    let _machine = machine().await;
    let site = site("file = \"audit.jsonl\"").await;
    let made = Command::new("mkfifo").arg(site.audit()).status().unwrap();
    assert!(made.success());
    let mut broker = Broker::start(&site).await;
    let mut client = broker.client(&site).await;
    let refused = ask(&mut client, "d0").await.unwrap_err();
    assert_eq!(reason(&refused), "AUDIT_UNAVAILABLE");
    broker.signal(Signal::TERM);
    let (status, took) = broker.ended().await;
    println!("{status} after {took:?}");
    assert_eq!(status.code(), Some(0));
    assert!(took < Duration::from_secs(5), "{took:?}");
}
