//! Load on a server: as much as it takes, or so much a second.

use std::{
    io::{self, ErrorKind},
    net::TcpStream,
    time::{Duration, Instant},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
};

use crate::connection::Connection;

/// How many calls a connection has under way at most: as many as clients may assume
/// (RFC 9113 §6.5.2).
const MOST: usize = 100;
/// When answers that do not come are given up.
const GIVE_UP: Duration = Duration::from_secs(20);

/// Connections to one server, on which keys are asked for in turn.
pub(crate) struct Load {
    connections: Vec<Connection>,
    sockets: Vec<TcpStream>,
    keys: Keys,
    /// There is a core for the load alone, so that it need not sleep.
    may_spin: bool,
}

/// The keys, one after the other.
struct Keys {
    next: usize,
    count: usize,
}

/// What became of a load.
pub(crate) struct Done {
    pub(crate) calls: u64,
    pub(crate) took: Duration,
}

impl Load {
    pub(crate) fn new(connections: Vec<Connection>, keys: usize, may_spin: bool) -> Self {
        let socket = |connection: &Connection| connection.socket().try_clone().unwrap();
        Self {
            sockets: connections.iter().map(socket).collect(),
            connections,
            keys: Keys {
                next: 0,
                count: keys,
            },
            may_spin,
        }
    }

    /// Closed loop: each connection has so many calls under way, and for this long every
    /// answer is followed by the next question.
    pub(crate) fn full(&mut self, streams: usize, time: Duration) -> io::Result<Done> {
        let started = Instant::now();
        let until = started + time;
        let mut calls = 0;
        let next = |keys: &mut Keys, now| (now < until).then(|| keys.next());
        self.closed(streams, next, |_| calls += 1)?;
        let took = started.elapsed();
        Ok(Done { calls, took })
    }

    /// Asks for one key, so many times at once on each connection, and returns how long each of the
    /// answers took.
    pub(crate) fn once(&mut self, key: usize, streams: usize) -> io::Result<Vec<Duration>> {
        let mut left = self.connections.len() * streams;
        let next = |_: &mut Keys, _| {
            left = left.checked_sub(1)?;
            Some(key)
        };
        let mut latencies = Vec::new();
        self.closed(streams, next, |took| latencies.push(took))?;
        Ok(latencies)
    }

    /// Has so many calls under way on each connection, until there is no next key and all
    /// are answered.
    fn closed(
        &mut self,
        streams: usize,
        mut next: impl FnMut(&mut Keys, Instant) -> Option<usize>,
        mut took: impl FnMut(Duration),
    ) -> io::Result<()> {
        let now = Instant::now();
        for connection in &mut self.connections {
            for _ in 0..streams {
                if let Some(key) = next(&mut self.keys, now) {
                    connection.ask(key, now);
                }
            }
            connection.flush()?;
        }
        let mut sockets = watched(&self.sockets);
        let mut answered = Vec::new();
        while self.connections.iter().any(|it| it.under_way() > 0) {
            if wait(&mut sockets, GIVE_UP)? == 0 {
                return Err(ErrorKind::TimedOut.into());
            }
            for (connection, socket) in self.connections.iter_mut().zip(&sockets) {
                if socket.revents().is_empty() {
                    continue;
                }
                connection.receive(&mut answered)?;
                let now = Instant::now();
                for asked in answered.drain(..) {
                    took(now - asked);
                    if let Some(key) = next(&mut self.keys, now) {
                        connection.ask(key, now);
                    }
                }
                connection.flush()?;
            }
        }
        Ok(())
    }

    /// Open loop: so many calls a second, however long answers take. A latency is counted
    /// from the moment at which its call was due, so that a server that stalls cannot hide
    /// the calls that it kept from being sent.
    pub(crate) fn steady(&mut self, rate: f64, time: Duration) -> io::Result<Vec<Duration>> {
        let interval = Duration::from_secs_f64(1.0 / rate);
        let started = Instant::now();
        let until = started + time;
        let mut due = started;
        let mut turn = 0;
        let mut sockets = watched(&self.sockets);
        let mut answered = Vec::new();
        let mut latencies = Vec::new();
        loop {
            let now = Instant::now();
            while due <= now && due < until {
                let Some(connection) = with_room(&mut self.connections, &mut turn) else {
                    break;
                };
                connection.ask(self.keys.next(), due);
                due += interval;
            }
            for connection in &mut self.connections {
                connection.flush()?;
            }
            if due >= until && self.connections.iter().all(|it| it.under_way() == 0) {
                return Ok(latencies);
            }
            if now > until + GIVE_UP {
                return Err(ErrorKind::TimedOut.into());
            }
            let patience = match (self.may_spin, due < until) {
                (true, _) => Duration::ZERO,
                (false, true) => due.saturating_duration_since(now),
                (false, false) => GIVE_UP,
            };
            wait(&mut sockets, patience)?;
            for (connection, socket) in self.connections.iter_mut().zip(&sockets) {
                if !socket.revents().is_empty() {
                    connection.receive(&mut answered)?;
                    let now = Instant::now();
                    latencies.extend(answered.drain(..).map(|asked| now - asked));
                }
            }
        }
    }
}

impl Keys {
    fn next(&mut self) -> usize {
        self.next = (self.next + 1) % self.count;
        self.next
    }
}

/// The next connection that may have one more call under way.
fn with_room<'a>(
    connections: &'a mut [Connection],
    turn: &mut usize,
) -> Option<&'a mut Connection> {
    let count = connections.len();
    let at = (1..=count)
        .map(|step| (*turn + step) % count)
        .find(|at| connections[*at].under_way() < MOST)?;
    *turn = at;
    connections.get_mut(at)
}

fn watched(sockets: &[TcpStream]) -> Vec<PollFd<'_>> {
    let watch = |socket| PollFd::new(socket, PollFlags::IN);
    sockets.iter().map(watch).collect()
}

/// Waits until one of them has something to read. How many have?
fn wait(sockets: &mut [PollFd<'_>], patience: Duration) -> io::Result<usize> {
    let patience = Timespec::try_from(patience).map_err(io::Error::other)?;
    loop {
        match poll(sockets, Some(&patience)) {
            Err(Errno::INTR) => {}
            result => return Ok(result?),
        }
    }
}
