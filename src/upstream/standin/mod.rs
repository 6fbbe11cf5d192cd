//! A token endpoint to test against: it answers like Occtoo's and like any OAuth 2
//! token endpoint, counts what it is asked, and misbehaves on demand.
//!
//! It speaks HTTP/1.1 by hand, one request a connection, because a web framework
//! would not let it tear, reset or stall an answer. Nothing it does ends by a timeout, so that it
//! can live in tests that pause the clock. It is for tests and demonstrations only.

mod behaviour;
mod ledger;
mod request;
mod response;

use std::{
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

pub use behaviour::{Behaviour, Expiry, Fault};
pub use ledger::{MintedFor, UnreadableKey};

use self::{
    ledger::Ledger,
    request::{Question, Request},
    response::Response,
};
use crate::secret::Secret;

/// How long to wait after a connection could not be accepted.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// How a stand-in starts.
#[derive(Clone, Debug, Default)]
pub struct StandinSettings {
    /// How it answers until it is told otherwise.
    pub behaviour: Behaviour,
    /// Whether any client id and secret is accepted, beside the registered ones.
    pub accept_any: bool,
    /// Seeds the choice of requests that a fault hits.
    pub seed: u64,
}

/// A running stand-in. It stops when it is shut down, and at the latest when dropped.
pub struct Standin {
    address: SocketAddr,
    ledger: Arc<Mutex<Ledger>>,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Standin {
    /// Listens on an address, whose port may be 0, and answers until shut down.
    ///
    /// # Errors
    /// When the address cannot be listened on.
    pub async fn start(address: SocketAddr, settings: StandinSettings) -> io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let standin = Self {
            address: listener.local_addr()?,
            ledger: Arc::new(Mutex::new(Ledger::new(settings))),
            stop: CancellationToken::new(),
            tasks: TaskTracker::new(),
        };
        standin.tasks.spawn(accept(
            listener,
            standin.ledger.clone(),
            standin.stop.clone(),
            standin.tasks.clone(),
        ));
        Ok(standin)
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.address
    }

    /// The base URL for the `occtoo` protocol.
    pub fn base_url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The token endpoint for the `occtoo-ingest` protocol.
    pub fn ingest_url(&self) -> String {
        format!("{}/dataProviders/tokens", self.base_url())
    }

    /// The token endpoint for the `oauth2` protocol.
    pub fn oauth2_url(&self) -> String {
        format!("{}/oauth2/token", self.base_url())
    }

    /// Registers an application for a destination, or replaces its secret.
    pub fn register(&self, destination: &str, client_id: &str, secret: &str) {
        let secret = Secret::new(secret.to_owned());
        self.ledger().register(destination, client_id, secret);
    }

    /// Registers an application that signs assertions; the key is a public one in PEM.
    ///
    /// # Errors
    /// [`UnreadableKey`] for anything but a P-256, Ed25519 or RSA public key.
    pub fn register_key(
        &self,
        destination: &str,
        client_id: &str,
        public_key_pem: &str,
    ) -> Result<(), UnreadableKey> {
        let audience = self.oauth2_url();
        self.ledger()
            .register_key(destination, client_id, public_key_pem, audience)
    }

    /// Behaves differently from the next request on.
    pub fn behave(&self, behaviour: Behaviour) {
        self.ledger().behave(behaviour);
    }

    /// Behaves differently towards one destination; `None` ends that.
    pub fn behave_for(&self, destination: &str, behaviour: Option<Behaviour>) {
        self.ledger().behave_for(destination, behaviour);
    }

    /// How many token requests were received, whatever became of them.
    pub fn calls(&self) -> u64 {
        self.ledger().calls()
    }

    /// How many token requests were received for one destination.
    pub fn calls_for(&self, destination: &str) -> u64 {
        self.ledger().calls_for(destination)
    }

    /// For whom a token was minted, if it could be one of this stand-in's.
    pub fn minted_for(&self, token: &str) -> Option<MintedFor> {
        self.ledger().minted_for(token)
    }

    /// Stops listening, breaks off every exchange, and waits until all has ended.
    pub async fn shutdown(self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }

    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        lock(&self.ledger)
    }
}

impl Drop for Standin {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// No panic leaves the ledger half-written, so a poisoned lock is as good as any.
fn lock(ledger: &Mutex<Ledger>) -> MutexGuard<'_, Ledger> {
    ledger.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn accept(
    listener: TcpListener,
    ledger: Arc<Mutex<Ledger>>,
    stop: CancellationToken,
    tasks: TaskTracker,
) {
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        let Ok((stream, _)) = accepted else {
            // Most likely there are no file descriptors. Trying at once would spin.
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        let (ledger, stop) = (ledger.clone(), stop.clone());
        tasks.spawn(async move {
            tokio::select! {
                () = stop.cancelled() => {}
                // A peer that went away is the peer's affair.
                _ = exchange(stream, &ledger) => {}
            }
        });
    }
}

/// One request and its answer.
async fn exchange(mut stream: TcpStream, ledger: &Mutex<Ledger>) -> io::Result<()> {
    let Some(request) = Request::read(&mut stream).await? else {
        return Ok(());
    };
    let question = match Question::parse(&request) {
        Ok(question) => question,
        Err(status) => return Response::error(status).send(&mut stream).await,
    };
    let (answer, delay, fault) = {
        let mut ledger = lock(ledger);
        let destination = ledger.destination(&question);
        let (behaviour, fault) = ledger.receive(&destination);
        // A fault costs no token, and says nothing about the credentials.
        let answer = match fault {
            None | Some(Fault::Truncate) => ledger.answer(&question, &destination, &behaviour),
            _ => Response::error(200),
        };
        (answer, behaviour.delay, fault)
    };
    if !delay.is_zero() {
        tokio::time::sleep(delay).await;
    }
    match fault {
        None => answer.send(&mut stream).await,
        Some(Fault::Truncate) => answer.send_half(&mut stream).await,
        Some(Fault::Status {
            status,
            retry_after,
        }) => {
            let answer = Response::error(status).with_header("Retry-After", retry_after);
            answer.send(&mut stream).await
        }
        Some(Fault::Body(body)) => Response::body(body).send(&mut stream).await,
        Some(Fault::Redirect { status, to }) => {
            let answer = Response::error(status).with_header("Location", Some(to));
            answer.send(&mut stream).await
        }
        Some(Fault::Gzip) => {
            let answer = Response::body("{}".to_owned());
            let answer = answer.with_header("Content-Encoding", Some("gzip".to_owned()));
            answer.send(&mut stream).await
        }
        Some(Fault::Endless) => endless(&mut stream).await,
        Some(Fault::Reset) => stream.set_zero_linger(),
        Some(Fault::Silent) => until_peer_leaves(&mut stream).await,
    }
}

/// Sends a body that never ends, until the peer has enough of it.
async fn endless(stream: &mut TcpStream) -> io::Result<()> {
    stream
        .write_all(
            b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\
              Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n",
        )
        .await?;
    let chunk = format!("1000\r\n{}\r\n", " ".repeat(0x1000));
    loop {
        stream.write_all(chunk.as_bytes()).await?;
    }
}

async fn until_peer_leaves(stream: &mut TcpStream) -> io::Result<()> {
    let mut ignored = [0; 1024];
    while stream.read(&mut ignored).await? > 0 {}
    Ok(())
}
