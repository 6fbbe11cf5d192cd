//! Many hand-outs at once, each with its record.

use std::{
    env,
    fs::{self, File},
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
};

use serde::Deserialize;
use tokio::{task::JoinSet, time::Instant};

use super::*;
use crate::audit::verify::Verifier;

const TASKS: usize = 64;

/// What a caller received, and how long the file was then.
struct Received {
    request: usize,
    token: TokenId,
    length: u64,
}

#[derive(Deserialize)]
struct Record {
    kind: String,
    request_id: Option<String>,
    token_id: Option<String>,
}

fn count() -> usize {
    env::var("TOKEN_BROKER_HANDOUTS").map_or(100_000, |count| {
        count.parse().expect("a number of hand-outs")
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn every_hand_out_of_many_tasks_has_one_record_that_was_there_first() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("audit.jsonl");
    let (broker, audit, _schedule) = broker_with(settings(&file)).await;
    let each = count().div_ceil(TASKS);
    let started = Instant::now();
    let mut tasks = JoinSet::new();
    for task in 0..TASKS {
        let requests = task * each..(task + 1) * each;
        tasks.spawn(ask(Arc::clone(&broker), file.clone(), requests));
    }
    let received: Vec<_> = tasks.join_all().await.into_iter().flatten().collect();
    let took = started.elapsed();
    audit.close(Duration::from_secs(60)).await;
    println!("{} hand-outs recorded in {took:?}", received.len());

    let mut recorded = vec![None; TASKS * each];
    let mut end = 0;
    for line in BufReader::new(File::open(&file).unwrap()).lines() {
        let line = line.unwrap();
        end += line.len() as u64 + 1;
        let record: Record = serde_json::from_str(&line).unwrap();
        if record.kind == "token" {
            let request: usize = record.request_id.unwrap().parse().unwrap();
            let token = TokenId::parse(&record.token_id.unwrap()).unwrap();
            let earlier = recorded[request].replace((token, end));
            assert_eq!(earlier, None, "{request} is recorded twice");
        }
    }
    assert_eq!(received.len(), TASKS * each);
    for Received {
        request,
        token,
        length,
    } in received
    {
        let (of, end) = recorded[request].expect("a record");
        assert_eq!(of, token);
        assert!(end <= length, "{request} got its token before its record");
    }
    let mut verifier = Verifier::default();
    let whole = verifier.read(&file).unwrap();
    // Opened, minted once, closed.
    assert_eq!(whole.records, (TASKS * each + 3) as u64);
    verifier.finish(false).unwrap();
}

async fn ask(
    broker: Arc<Broker>,
    file: PathBuf,
    requests: std::ops::Range<usize>,
) -> Vec<Received> {
    let mut received = Vec::with_capacity(requests.len());
    for request in requests {
        let asker = asker(&request.to_string());
        let granted = granted(&broker, &asker);
        let token = broker.token(&asker, &granted, Duration::ZERO).await;
        received.push(Received {
            request,
            token: token.unwrap().id,
            length: fs::metadata(&file).unwrap().len(),
        });
    }
    received
}

fn settings(file: &Path) -> Settings {
    Settings {
        file: Some(file.to_owned()),
        stdout: false,
        max_file_size: u64::MAX,
        stall_timeout: Duration::from_secs(30),
        on_failure: OnFailure::Refuse,
    }
}

/// Says what a record costs a call: `cargo test --release --lib what_a_record_costs --
/// --ignored --nocapture`.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "a figure, which means something only in a release build on a quiet machine"]
async fn what_a_record_costs() {
    const CALLS: usize = 1_000_000;
    let folder = tempfile::tempdir().unwrap();
    let recorded = settings(&folder.path().join("audit.jsonl"));
    let unrecorded = Settings {
        file: None,
        ..recorded.clone()
    };
    for (name, settings) in [("unrecorded", unrecorded), ("recorded", recorded)] {
        let (broker, audit, _schedule) = broker_with(settings).await;
        for tasks in [1, 16, 256] {
            let calls = if tasks == 1 { CALLS / 10 } else { CALLS };
            let started = Instant::now();
            let mut running = JoinSet::new();
            for _ in 0..tasks {
                let broker = Arc::clone(&broker);
                running.spawn(async move {
                    let asker = asker("r");
                    for _ in 0..calls / tasks {
                        let granted = granted(&broker, &asker);
                        let token = broker.token(&asker, &granted, Duration::ZERO).await;
                        token.unwrap();
                    }
                });
            }
            running.join_all().await;
            let each = started.elapsed() / u32::try_from(calls).unwrap();
            println!("{tasks} tasks, {name}: a call every {each:?}");
        }
        audit.close(Duration::from_secs(60)).await;
    }
}
