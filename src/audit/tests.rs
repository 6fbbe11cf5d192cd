//! Sinks that work, rotate, stall, err and come back, and what is in their files then.

use std::{
    fs::{self, File},
    io::{BufRead as _, BufReader},
    path::Path,
    process::Command,
    sync::Arc,
    thread,
    time::Instant,
};

use serde_json::Value;
use tempfile::TempDir;

use super::{
    DEFAULT_STALL_TIMEOUT as PATIENCE,
    verify::{End, Verifier, Whole},
    *,
};

/// Not how fast a sink must be, but when a test that hangs is given up.
const GIVE_UP: Duration = Duration::from_secs(30);

/// A folder for the files of a trail.
struct Site(TempDir);

impl Site {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("audit.jsonl")
    }

    fn settings(&self) -> Settings {
        Settings {
            file: Some(self.path()),
            stdout: false,
            max_file_size: 1024 * 1024,
            stall_timeout: GIVE_UP,
            on_failure: OnFailure::Refuse,
        }
    }

    fn start(&self) -> Audit {
        start(&self.settings())
    }

    /// The files, the oldest first.
    fn files(&self) -> Vec<PathBuf> {
        let mut files: Vec<_> = fs::read_dir(self.0.path())
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| *path != self.path())
            .collect();
        files.sort();
        if self.path().exists() {
            files.push(self.path());
        }
        files
    }

    fn verify(&self, still_written: bool) -> Vec<Whole> {
        let mut verifier = Verifier::default();
        let read = |file: &PathBuf| verifier.read(file).unwrap();
        let wholes = self.files().iter().map(read).collect();
        verifier.finish(still_written).unwrap();
        wholes
    }

    fn kinds(&self) -> Vec<String> {
        kinds(&self.path())
    }
}

fn start(settings: &Settings) -> Audit {
    Audit::start(settings, &Metrics::new()).unwrap()
}

fn kinds(file: &Path) -> Vec<String> {
    let text = fs::read_to_string(file).unwrap();
    let kind = |line: &str| {
        let record: Value = serde_json::from_str(line).unwrap();
        record["kind"].as_str().unwrap().to_owned()
    };
    text.lines().map(kind).collect()
}

fn act(comment: &str) -> Event<'_> {
    Event::Act(Act {
        administrator: "spiffe://td/admin",
        act: "refresh",
        destination: None,
        application: None,
        comment: Some(comment),
        outcome: "ok",
        request_id: "r",
    })
}

async fn record(audit: &Audit) -> Result<(), AuditUnavailable> {
    audit.record(&act("why")).await
}

async fn close(audit: &Audit) {
    audit.close(GIVE_UP).await;
}

/// Waits for something that announces nothing.
async fn until(what: &str, is_so: impl Fn() -> bool) {
    let asked = Instant::now();
    while !is_so() {
        assert!(asked.elapsed() < GIVE_UP, "never: {what}");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test]
async fn without_a_sink_everything_is_accepted_at_once() {
    let audit = Audit::off();
    assert!(audit.accepts());
    audit.note(&act("why"));
    audit.rotate();
    assert_eq!(record(&audit).await, Ok(()));
    close(&audit).await;
}

#[tokio::test]
async fn a_record_is_in_the_file_when_it_is_accepted() {
    let site = Site::new();
    let audit = site.start();
    for n in 0..20 {
        let comment = format!("comment {n}");
        audit.record(&act(&comment)).await.unwrap();
        let text = fs::read_to_string(site.path()).unwrap();
        assert!(text.ends_with('\n') && text.contains(&comment));
    }
    close(&audit).await;
    let [whole] = site.verify(false).try_into().unwrap();
    assert_eq!((whole.records, whole.end), (22, End::Closed));
    assert_eq!(record(&audit).await, Err(AuditUnavailable));
}

#[tokio::test(flavor = "multi_thread")]
async fn records_of_many_tasks_are_all_there_once() {
    const TASKS: usize = 50;
    const EACH: usize = 40;
    let site = Site::new();
    let audit = Arc::new(site.start());
    let tasks: Vec<_> = (0..TASKS)
        .map(|task| {
            let audit = Arc::clone(&audit);
            tokio::spawn(async move {
                for n in 0..EACH {
                    audit.note(&act("note"));
                    audit.record(&act(&format!("{task}/{n}"))).await.unwrap();
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    close(&audit).await;
    let [whole] = site.verify(false).try_into().unwrap();
    assert_eq!(whole.records, 2 * (TASKS * EACH) as u64 + 2);
    let text = fs::read_to_string(site.path()).unwrap();
    for task in 0..TASKS {
        for n in 0..EACH {
            assert_eq!(text.matches(&format!("\"{task}/{n}\"")).count(), 1);
        }
    }
}

#[tokio::test]
async fn a_restart_after_an_orderly_stop_goes_on_in_the_same_file() {
    let site = Site::new();
    for _ in 0..3 {
        let audit = site.start();
        record(&audit).await.unwrap();
        close(&audit).await;
    }
    assert_eq!(site.kinds(), ["open", "act", "close"].repeat(3));
    let [whole] = site.verify(false).try_into().unwrap();
    assert_eq!((whole.first, whole.last), (1, 9));
}

#[tokio::test]
async fn a_file_that_was_not_closed_is_moved_aside_wherever_it_was_torn() {
    let site = Site::new();
    let audit = site.start();
    for _ in 0..3 {
        record(&audit).await.unwrap();
    }
    close(&audit).await;
    let whole = fs::read(site.path()).unwrap();
    let ends: Vec<_> = (0..whole.len()).filter(|at| whole[*at] == b'\n').collect();
    // Everywhere in the last two records, and where they end.
    for cut in ends[2] + 1..whole.len() {
        let site = Site::new();
        fs::write(site.path(), &whole[..cut]).unwrap();
        let audit = site.start();
        record(&audit).await.unwrap();
        close(&audit).await;
        let [old, new] = site.files().try_into().unwrap();
        assert_eq!(fs::read(&old).unwrap(), whole[..cut], "cut at {cut}");
        assert_eq!(kinds(&new), ["open", "act", "close"]);
        let text = fs::read_to_string(&new).unwrap();
        assert!(text.contains("\"unclean\":true"), "{text}");
        site.verify(false);
    }
}

#[tokio::test]
async fn what_is_no_audit_file_is_moved_aside_untouched() {
    let site = Site::new();
    fs::write(site.path(), "precious\n").unwrap();
    let audit = site.start();
    record(&audit).await.unwrap();
    close(&audit).await;
    let [old, new] = site.files().try_into().unwrap();
    assert_eq!(fs::read(old).unwrap(), b"precious\n");
    let mut verifier = Verifier::default();
    assert_eq!(verifier.read(&new).unwrap().first, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_file_grows_over_its_limit_and_the_chain_goes_on() {
    let site = Site::new();
    let settings = Settings {
        max_file_size: 4096,
        ..site.settings()
    };
    let audit = Arc::new(start(&settings));
    for _ in 0..100 {
        record(&audit).await.unwrap();
    }
    close(&audit).await;
    let wholes = site.verify(false);
    let files = site.files();
    assert!(files.len() > 5, "{files:?}");
    for file in &files {
        // A last batch and the closing may be over it, not more.
        assert!(fs::metadata(file).unwrap().len() < 4096 + 512);
        let kinds = kinds(file);
        assert_eq!(kinds.first().unwrap(), "open");
        assert_eq!(kinds.last().unwrap(), "close");
        assert!(kinds.len() > 2, "{kinds:?}");
    }
    let marks = 2 * files.len() as u64;
    let records: u64 = wholes.iter().map(|whole| whole.records).sum();
    assert_eq!(records, 100 + marks);
}

#[tokio::test]
async fn a_rotation_begins_a_new_file_unless_there_is_nothing_in_the_last() {
    let site = Site::new();
    let audit = site.start();
    audit.rotate();
    record(&audit).await.unwrap();
    assert_eq!(site.files().len(), 1);
    audit.rotate();
    record(&audit).await.unwrap();
    audit.rotate();
    close(&audit).await;
    assert_eq!(site.files().len(), 3);
    assert_eq!(site.kinds(), ["open", "close"]);
    let records: Vec<_> = site.verify(false).iter().map(|w| w.records).collect();
    assert_eq!(records, [3, 3, 2]);
}

#[tokio::test]
async fn a_file_that_somebody_moved_away_is_closed_where_it_is() {
    let site = Site::new();
    let audit = site.start();
    record(&audit).await.unwrap();
    let moved = site.0.path().join("audit.jsonl.1");
    fs::rename(site.path(), &moved).unwrap();
    record(&audit).await.unwrap();
    audit.rotate();
    record(&audit).await.unwrap();
    close(&audit).await;
    assert_eq!(kinds(&moved), ["open", "act", "act", "close"]);
    assert_eq!(site.files(), [moved, site.path()]);
    site.verify(false);
}

#[tokio::test]
async fn two_brokers_do_not_write_one_file() {
    let site = Site::new();
    let first = site.start();
    record(&first).await.unwrap();
    let second = Audit::start(&site.settings(), &Metrics::new());
    let Err(error) = second else {
        panic!("both write it")
    };
    assert!(matches!(error, AuditError::Locked(_)), "{error}");
    close(&first).await;
    close(&site.start()).await;
    site.verify(false);
}

#[tokio::test]
async fn a_device_that_is_full_refuses_at_once_and_on_failure_decides() {
    let full = Settings {
        file: Some("/dev/full".into()),
        ..Site::new().settings()
    };
    let audit = start(&full);
    until("it fails", || !audit.accepts()).await;
    let asked = Instant::now();
    for _ in 0..100 {
        assert_eq!(record(&audit).await, Err(AuditUnavailable));
    }
    // As long as one of them would take that waited.
    assert!(asked.elapsed() < GIVE_UP, "{:?}", asked.elapsed());

    let allowed = start(&Settings {
        on_failure: OnFailure::Allow,
        ..full
    });
    assert_eq!(record(&allowed).await, Ok(()));
    assert!(allowed.accepts());
}

/// A pipe, which somebody may read.
fn pipe(site: &Site) -> PathBuf {
    let path = site.0.path().join("pipe");
    let made = Command::new("mkfifo").arg(&path).status().unwrap();
    assert!(made.success());
    path
}

/// Reads a pipe to its end.
fn reader(path: &Path) -> thread::JoinHandle<Vec<String>> {
    let path = path.to_owned();
    thread::spawn(move || {
        let lines = BufReader::new(File::open(path).unwrap()).lines();
        lines.map(Result::unwrap).collect()
    })
}

#[tokio::test]
async fn stalled_audit_sink_is_failed_in_250_ms() {
    let mut tries = 1;
    let (site, pipe, audit) = loop {
        let site = Site::new();
        let pipe = pipe(&site);
        let settings = Settings {
            file: Some(pipe.clone()),
            stall_timeout: PATIENCE,
            ..site.settings()
        };
        let started = Instant::now();
        let audit = start(&settings);
        assert_eq!(record(&audit).await, Err(AuditUnavailable));
        let first = started.elapsed();
        assert!(first >= PATIENCE, "refused after {first:?}");
        // The machine may be busy with something else, but not every time.
        if first < 4 * PATIENCE {
            break (site, pipe, audit);
        }
        assert!(tries < 5, "refused after {first:?}");
        tries += 1;
    };
    // Nobody waits for it again.
    let asked = Instant::now();
    for _ in 0..1000 {
        assert_eq!(record(&audit).await, Err(AuditUnavailable));
    }
    assert!(asked.elapsed() < 40 * PATIENCE, "{:?}", asked.elapsed());
    assert!(!audit.accepts());

    let reader = reader(&pipe);
    // On a busy machine it may yet stall again.
    let mut refused = 1001;
    until("it works again", || audit.accepts()).await;
    while record(&audit).await.is_err() {
        refused += 1;
        until("it works again", || audit.accepts()).await;
    }
    close(&audit).await;
    let lines = reader.join().unwrap();
    let records: Vec<Value> = lines
        .iter()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let kinds: Vec<_> = records.iter().map(|record| &record["kind"]).collect();
    assert_eq!(kinds[..2], ["open", "gap"]);
    assert_eq!(kinds[kinds.len() - 2..], ["act", "close"]);
    let kept = site.path();
    fs::write(&kept, lines.join("\n") + "\n").unwrap();
    let missed = Verifier::default().read(&kept).unwrap().missed;
    // What was refused too late to be taken back is there all the same.
    assert!((1001..=refused).contains(&missed), "{missed} of {refused}");
}

#[tokio::test]
async fn a_stalled_sink_beside_one_that_works_costs_nobody_anything() {
    let site = Site::new();
    let metrics = Metrics::new();
    let sink = |name, target, stall_timeout| {
        let writer = Writer::new(target, u64::MAX, None);
        let queue = Queue::new(name, stall_timeout, &metrics);
        Sink::start(name, writer, queue).unwrap()
    };
    let audit = Audit {
        sinks: vec![
            sink("pipe", Target::Path(pipe(&site)), PATIENCE),
            sink("file", Target::Path(site.path()), GIVE_UP),
        ],
        on_failure: OnFailure::Refuse,
    };
    let asked = Instant::now();
    let mut count = 0;
    while asked.elapsed() < 2 * PATIENCE {
        record(&audit).await.unwrap();
        count += 1;
    }
    let accepting: Vec<_> = audit.sinks.iter().map(Sink::accepts).collect();
    assert_eq!(accepting, [false, true]);
    // The pipe is stuck, and does not hold up the end for longer than it may.
    let asked = Instant::now();
    audit.close(PATIENCE).await;
    assert!(asked.elapsed() < GIVE_UP, "{:?}", asked.elapsed());
    let [whole] = {
        let mut verifier = Verifier::default();
        [verifier.read(&site.path()).unwrap()]
    };
    assert_eq!((whole.records, whole.missed), (count + 2, 0));
}

#[tokio::test]
async fn a_reader_that_goes_is_waited_for_and_told_what_it_missed() {
    let site = Site::new();
    let pipe = pipe(&site);
    let audit = start(&Settings {
        file: Some(pipe.clone()),
        ..site.settings()
    });
    let first = {
        let pipe = pipe.clone();
        thread::spawn(move || {
            let mut lines = BufReader::new(File::open(pipe).unwrap()).lines();
            [(); 2].map(|()| lines.next().unwrap().unwrap())
        })
    };
    record(&audit).await.unwrap();
    first.join().unwrap();
    until("its end is noticed", || {
        !audit.accepts() || {
            audit.note(&act("into the void"));
            false
        }
    })
    .await;
    let reader = reader(&pipe);
    until("it works again", || audit.accepts()).await;
    record(&audit).await.unwrap();
    close(&audit).await;
    let lines = reader.join().unwrap();
    assert!(lines[0].contains("\"kind\":\"open\""), "{lines:?}");
    assert!(lines[1].contains("\"kind\":\"gap\""), "{lines:?}");
    assert_eq!(lines.len(), 4);
}
