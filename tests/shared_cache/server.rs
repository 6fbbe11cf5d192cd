//! A Redis server in a process of its own.

use std::{
    env,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    process::{Child, Command, Stdio},
    time::Duration,
};

use redis::{FromRedisValue, RedisResult};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tokio::time::{Instant, sleep};

use crate::trial::GIVE_UP;

/// How often a server that starts is asked whether it answers.
const LOOK_AGAIN: Duration = Duration::from_millis(10);
/// How long a test waits for one answer of the server.
const PATIENCE: Duration = Duration::from_secs(5);
/// What it takes from those who are to be let in.
pub(crate) const PASSWORD: &str = "canary-password-of-the-server";

/// A running server, which keeps nothing on the disk. Dropped, it is killed.
pub(crate) struct Server {
    child: Child,
    pub(crate) address: SocketAddr,
    folder: TempDir,
}

impl Server {
    pub(crate) async fn start() -> Self {
        /// Somebody else may take a free port first.
        const TRIES: usize = 10;
        let folder = tempfile::tempdir().unwrap();
        for _ in 0..TRIES {
            let address = free_address();
            let mut child = run(address, &folder);
            if answers(&mut child, address).await {
                return Self {
                    child,
                    address,
                    folder,
                };
            }
        }
        panic!("redis-server does not start; tests/shared_cache/run installs it");
    }

    /// Ends it at once, as a machine that fails does.
    pub(crate) fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Starts it again where it was, with nothing in it.
    pub(crate) async fn restart(&mut self) {
        self.kill();
        let begun = Instant::now();
        loop {
            self.child = run(self.address, &self.folder);
            if answers(&mut self.child, self.address).await {
                return;
            }
            // The port may be taken for a moment, if only by one of those who dial it: where
            // nobody listens, a connection can be to itself.
            assert!(begun.elapsed() < GIVE_UP, "its port is taken");
            sleep(LOOK_AGAIN).await;
        }
    }

    /// Lets it answer nothing until [`Server::resume`].
    pub(crate) fn suspend(&self) {
        self.signal(Signal::STOP);
    }

    pub(crate) fn resume(&self) {
        self.signal(Signal::CONT);
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// A connection past its door.
    pub(crate) fn connect(&self) -> redis::Connection {
        connect(self.address, PASSWORD).unwrap()
    }

    /// The answer to one command.
    pub(crate) fn ask<T: FromRedisValue>(&self, command: &[&str]) -> T {
        told(command).query(&mut self.connect()).unwrap()
    }

    /// Tells it something.
    pub(crate) fn tell(&self, command: &[&str]) {
        self.ask::<redis::Value>(command);
    }

    /// The names of all that it holds.
    pub(crate) fn names(&self) -> Vec<Vec<u8>> {
        self.ask(&["KEYS", "*"])
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Connects with this password.
pub(crate) fn connect(address: SocketAddr, password: &str) -> RedisResult<redis::Connection> {
    let client = redis::Client::open(format!("redis://:{password}@{address}/"))?;
    let connection = client.get_connection_with_timeout(PATIENCE)?;
    connection.set_read_timeout(Some(PATIENCE))?;
    connection.set_write_timeout(Some(PATIENCE))?;
    Ok(connection)
}

pub(crate) fn told(command: &[&str]) -> redis::Cmd {
    let mut told = redis::Cmd::new();
    told.arg(command);
    told
}

fn run(address: SocketAddr, folder: &TempDir) -> Child {
    let program = env::var_os("REDIS_SERVER").unwrap_or_else(|| "redis-server".into());
    Command::new(program)
        .args(["--bind", &address.ip().to_string()])
        .args(["--port", &address.port().to_string()])
        .args(["--save", "", "--appendonly", "no"])
        .args(["--requirepass", PASSWORD])
        .arg("--dir")
        .arg(folder.path())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("redis-server starts; tests/shared_cache/run installs it")
}

/// Waits until it answers; `false` once it has ended.
async fn answers(child: &mut Child, address: SocketAddr) -> bool {
    let begun = Instant::now();
    loop {
        if child.try_wait().unwrap().is_some() {
            return false;
        }
        let answer = connect(address, PASSWORD).and_then(|mut connection| {
            let ping = told(&["PING"]);
            ping.query::<String>(&mut connection)
        });
        if answer.is_ok() {
            return true;
        }
        assert!(begun.elapsed() < GIVE_UP, "it does not answer: {answer:?}");
        sleep(LOOK_AGAIN).await;
    }
}

fn free_address() -> SocketAddr {
    let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    free.local_addr().unwrap()
}
