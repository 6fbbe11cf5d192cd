//! A redis-server over the same TLS, for comparison.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use prost::Message as _;
use rustls::{ClientConnection, StreamOwned};
use token_broker::api::v1::GetTokenResponse;

use crate::{
    resp,
    site::{Cores, Process, Site},
    tls,
};

/// When a start that hangs is given up.
const GIVE_UP: Duration = Duration::from_secs(10);
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// A running server that holds one value for each destination.
pub(crate) struct Redis {
    pub(crate) process: Process,
    pub(crate) address: SocketAddr,
    pub(crate) value: Vec<u8>,
}

impl Redis {
    /// Starts a server with the certificates of this site, if there is one on this machine.
    pub(crate) fn start(site: &Site, reply: &GetTokenResponse, cores: &Cores) -> Option<Self> {
        Command::new("redis-server")
            .arg("--version")
            .output()
            .ok()?;
        let address = TcpListener::bind(("127.0.0.1", 0))
            .unwrap()
            .local_addr()
            .unwrap();
        let mut command = Command::new("redis-server");
        command
            .args([
                "--port",
                "0",
                "--bind",
                "127.0.0.1",
                "--save",
                "",
                "--tls-port",
            ])
            .arg(address.port().to_string())
            .arg("--tls-cert-file")
            .arg(site.path("server.pem"))
            .arg("--tls-key-file")
            .arg(site.path("server.key"))
            .arg("--tls-ca-cert-file")
            .arg(site.path("ca.pem"))
            .args(["--tls-auth-clients", "yes", "--tls-protocols", "TLSv1.3"])
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        let redis = Self {
            process: Process::start(&mut command, cores),
            address,
            value: reply.encode_to_vec(),
        };
        redis.fill(site);
        Some(redis)
    }

    fn fill(&self, site: &Site) {
        let started = Instant::now();
        let socket = loop {
            match TcpStream::connect(self.address) {
                Ok(socket) => break socket,
                Err(error) => assert!(started.elapsed() < GIVE_UP, "redis: {error}"),
            }
            thread::sleep(LOOK_AGAIN);
        };
        let config = tls::client(site, 0, tls::Care::Full);
        let tls = ClientConnection::new(config, self.address.ip().into()).unwrap();
        let mut stream = StreamOwned::new(tls, socket);
        for key in 0..site.policy.destinations {
            stream.write_all(&resp::set(key, &self.value)).unwrap();
            let mut answer = [0; 5];
            stream.read_exact(&mut answer).unwrap();
            assert_eq!(&answer, b"+OK\r\n");
        }
    }
}
