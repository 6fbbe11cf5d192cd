//! A broker in a process of its own.

use std::{
    io::{BufRead as _, BufReader},
    net::SocketAddr,
    path::Path,
    process::{ChildStderr, Command, Stdio},
    sync::mpsc::{self, Sender},
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;

use super::{Cores, Process, Site};

/// When a start that hangs is given up.
const GIVE_UP: Duration = Duration::from_secs(60);

/// A running broker. Dropped, it is killed.
pub(crate) struct Broker {
    pub(crate) process: Process,
    /// Where it answers callers.
    pub(crate) address: SocketAddr,
    /// Where its health and metrics are.
    pub(crate) http: SocketAddr,
    /// How long it took from its start to "answering".
    pub(crate) took: Duration,
}

impl Broker {
    /// Starts the broker that was built with this benchmark.
    pub(crate) fn start(site: &Site, cores: &Cores) -> Self {
        Self::run(env!("CARGO_BIN_EXE_token-broker").as_ref(), site, cores)
    }

    /// Starts a broker that was built before.
    pub(crate) fn run(program: &Path, site: &Site, cores: &Cores) -> Self {
        let mut command = Command::new(program);
        command
            .args(["serve", "--config"])
            .arg(site.path("broker.toml"))
            .stdin(Stdio::null())
            .stderr(Stdio::piped());
        let started = Instant::now();
        let mut process = Process::start(&mut command, cores);
        let log = process.take_stderr();
        let (answering, answers) = mpsc::channel();
        thread::spawn(move || listen(log, &answering));
        let Ok((event, at)) = answers.recv_timeout(GIVE_UP) else {
            panic!("the broker did not start");
        };
        let address = |field: &str| event[field].as_str().unwrap().parse().unwrap();
        Self {
            process,
            address: address("address"),
            http: address("http_address"),
            took: at - started,
        }
    }
}

/// Reads the log to its end, hands on the event that says where it answers, and shows what
/// else is worth a warning.
fn listen(log: ChildStderr, answering: &Sender<(Value, Instant)>) {
    for line in BufReader::new(log).lines().map_while(Result::ok) {
        let event: Value = serde_json::from_str(&line).unwrap_or_default();
        if event["message"] == "answering" {
            let _ = answering.send((event, Instant::now()));
        } else if event["level"] != "INFO" {
            eprintln!("broker: {line}");
        }
    }
}
