//! A broker in a process of its own.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    net::SocketAddr,
    process::{Child, ChildStderr, Command, ExitStatus, Stdio},
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use token_broker::api::v1::token_broker_client::TokenBrokerClient;
use tokio::{
    sync::{MutexGuard, oneshot},
    time::{Instant, sleep, timeout},
};
use tonic::transport::Channel;

use crate::trial::{CART, GIVE_UP, Site};

pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_token-broker");

/// How often something is looked at that announces nothing.
const LOOK_AGAIN: Duration = Duration::from_millis(10);
/// Processor time in `/proc` is counted in these on every Linux (proc(5), `USER_HZ`).
const TICK: Duration = Duration::from_millis(10);

/// Figures are of one broker at a time.
static MACHINE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

/// A running broker. Dropped, it is killed.
pub(crate) struct Broker {
    child: Child,
    pub(crate) address: SocketAddr,
    pub(crate) http: SocketAddr,
    log: Arc<Mutex<String>>,
}

/// The right to have brokers, until it is dropped.
pub(crate) async fn machine() -> MutexGuard<'static, ()> {
    // A plain HTTP client wants one, too.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    MACHINE.lock().await
}

impl Broker {
    pub(crate) async fn start(site: &Site) -> Self {
        Self::run(Command::new(PROGRAM), site).await
    }

    /// Starts a broker after this line of shell.
    pub(crate) async fn start_after(line: &str, site: &Site) -> Self {
        let mut shell = Command::new("sh");
        shell.args(["-c", &format!("{line}; exec \"$0\" \"$@\""), PROGRAM]);
        Self::run(shell, site).await
    }

    /// Starts what becomes a broker when it is told to serve.
    pub(crate) async fn run(mut program: Command, site: &Site) -> Self {
        let mut child = program
            .args(["serve", "--config"])
            .arg(site.config())
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let log = Arc::new(Mutex::new(String::new()));
        let (answering, answers) = oneshot::channel();
        let lines = child.stderr.take().unwrap();
        let keep = Arc::clone(&log);
        thread::spawn(move || listen(lines, &keep, answering));
        let started = timeout(GIVE_UP, answers).await;
        let Ok(Ok(event)) = started else {
            let _ = child.kill();
            let _ = child.wait();
            panic!("it did not start: {}", log.lock().unwrap());
        };
        let address = |field: &str| event[field].as_str().unwrap().parse().unwrap();
        Self {
            child,
            address: address("address"),
            http: address("http_address"),
            log,
        }
    }

    /// A client that is connected.
    pub(crate) async fn client(&self, site: &Site) -> TokenBrokerClient<Channel> {
        let endpoint = site.endpoint(self.address, CART);
        TokenBrokerClient::new(endpoint.connect().await.unwrap())
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// How it ended, and how long that took from now on.
    pub(crate) async fn ended(&mut self) -> (ExitStatus, Duration) {
        let asked = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return (status, asked.elapsed());
            }
            assert!(asked.elapsed() < GIVE_UP, "it does not end");
            sleep(LOOK_AGAIN).await;
        }
    }

    /// What it logged until now.
    pub(crate) fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    /// The content of one of its files under `/proc`.
    pub(crate) fn proc(&self, name: &str) -> std::io::Result<String> {
        let content = fs::read(format!("/proc/{}/{name}", self.child.id()))?;
        Ok(String::from_utf8_lossy(&content).into_owned())
    }

    /// The id of its process.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// The first number of a line of its status (proc(5)).
    pub(crate) fn status(&self, field: &str) -> u64 {
        let status = self.proc("status").unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(field));
        let number = line
            .unwrap()
            .trim_start_matches(':')
            .split_whitespace()
            .next()
            .unwrap();
        number.parse().unwrap()
    }

    /// The processor time that it has taken.
    pub(crate) fn processor_time(&self) -> Duration {
        const USER_AND_SYSTEM: std::ops::Range<usize> = 11..13;
        let stat = self.proc("stat").unwrap();
        // The name stands in parentheses, and may hold anything.
        let (_, fields) = stat.rsplit_once(") ").unwrap();
        let fields: Vec<_> = fields.split(' ').collect();
        fields[USER_AND_SYSTEM]
            .iter()
            .map(|ticks| TICK * ticks.parse::<u32>().unwrap())
            .sum()
    }

    /// The memory that it has in use, in bytes.
    pub(crate) fn resident_memory(&self) -> u64 {
        self.status("VmRSS") * 1024
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Waits until something is so that announces nothing.
pub(crate) async fn until<F: Future<Output = bool>>(what: &str, is_so: impl Fn() -> F) {
    let asked = Instant::now();
    while !is_so().await {
        assert!(asked.elapsed() < GIVE_UP, "never: {what}");
        sleep(LOOK_AGAIN).await;
    }
}

/// Keeps the log to its end, and hands on the event that says where it answers.
fn listen(lines: ChildStderr, log: &Mutex<String>, answering: oneshot::Sender<Value>) {
    let mut answering = Some(answering);
    for line in BufReader::new(lines).lines().map_while(Result::ok) {
        let event: Value = serde_json::from_str(&line).unwrap_or_default();
        log.lock().unwrap().extend([&*line, "\n"]);
        if event["message"] == "answering"
            && let Some(answering) = answering.take()
        {
            let _ = answering.send(event);
        }
    }
}
