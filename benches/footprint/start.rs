//! How long a broker takes until it answers, and until it is ready.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::TcpStream,
    thread,
    time::{Duration, Instant},
};

use crate::{
    report::{Report, Target, Unit},
    site::{Broker, Cores, Policy, Site},
};

const POLICY: Policy = Policy {
    destinations: 1000,
    callers: 1,
};
/// How often it is started: the median counts.
const STARTS: usize = 9;
const LOOK_AGAIN: Duration = Duration::from_millis(1);
const GIVE_UP: Duration = Duration::from_secs(60);

/// A start until the log says "answering", and until readiness says yes.
pub(crate) struct Start {
    pub(crate) answering: Duration,
    pub(crate) ready: Duration,
}

pub(crate) async fn measure(cores: &Cores, report: &mut Report) {
    let site = Site::new(POLICY).await;
    let Start { answering, ready } = median(&site, cores);
    report.add(
        "start to answering, 1,000 sealed credentials",
        milliseconds(answering),
        Unit::Milliseconds,
    );
    report.compare(
        "start to ready, 1,000 sealed credentials",
        milliseconds(ready),
        Unit::Milliseconds,
        Target {
            at_most: 100.0,
            aim: 30.0,
        },
    );
    keep_warm(&site);
    let Start { ready, .. } = median(&site, cores);
    report.add(
        "start to ready, a token minted for each of 1,000",
        milliseconds(ready),
        Unit::Milliseconds,
    );
}

/// The median of several starts.
pub(crate) fn median(site: &Site, cores: &Cores) -> Start {
    let (mut answering, mut ready) = (Vec::new(), Vec::new());
    for _ in 0..STARTS {
        let began = Instant::now();
        let broker = afresh(site, cores);
        while !is_ready(&broker) {
            assert!(began.elapsed() < GIVE_UP, "it is never ready");
            thread::sleep(LOOK_AGAIN);
        }
        answering.push(broker.took);
        ready.push(began.elapsed());
    }
    let middle = |mut times: Vec<Duration>| {
        times.sort_unstable();
        times[times.len() / 2]
    };
    Start {
        answering: middle(answering),
        ready: middle(ready),
    }
}

/// Starts a broker whose last one left nothing behind.
pub(crate) fn afresh(site: &Site, cores: &Cores) -> Broker {
    // A broker that was killed has not closed it, which is for the next one to see to.
    let _ = fs::remove_file(site.path("audit.jsonl"));
    Broker::start(site, cores)
}

pub(crate) fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// Whoever runs it has the destinations' tokens minted before anybody asks.
fn keep_warm(site: &Site) {
    let lines = fs::read_to_string(site.path("broker.toml")).unwrap();
    let lines = lines.replace("[[destination]]\n", "[[destination]]\nwarm = true\n");
    site.write("broker.toml", lines);
}

fn is_ready(broker: &Broker) -> bool {
    let mut peer = TcpStream::connect(broker.http).unwrap();
    peer.write_all(b"GET /readyz HTTP/1.1\r\nhost: broker\r\nconnection: close\r\n\r\n")
        .unwrap();
    let mut answer = String::new();
    peer.read_to_string(&mut answer).unwrap();
    answer.starts_with("HTTP/1.1 200 ")
}
