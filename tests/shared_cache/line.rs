//! The line between replicas and their server, which can be cut, slowed down and tapped.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::{mpsc, watch},
    task::JoinHandle,
    time::{Instant, sleep_until},
};

/// How a line treats what is sent over it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Quality {
    /// It passes everything on.
    Good,
    /// It takes everything, and passes nothing on: a firewall that drops packets.
    Firewalled,
    /// It passes everything on so much later.
    Slow(Duration),
    /// It says nonsense instead of what the server says.
    Garbled,
}

/// A line to a server. Dropped, it is cut.
pub(crate) struct Line {
    pub(crate) address: SocketAddr,
    quality: watch::Sender<Quality>,
    tap: Arc<Tap>,
    accepting: JoinHandle<()>,
}

/// What was sent over a line, one text a connection.
#[derive(Default)]
struct Tap {
    sent: Mutex<Vec<Vec<u8>>>,
    received: Mutex<Vec<Vec<u8>>>,
}

impl Line {
    pub(crate) async fn to(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (quality, seen) = watch::channel(Quality::Good);
        let tap = Arc::new(Tap::default());
        let tapped = Arc::clone(&tap);
        let accepting = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(carry(stream, server, seen.clone(), Arc::clone(&tapped)));
            }
        });
        Self {
            address,
            quality,
            tap,
            accepting,
        }
    }

    /// From now on, also for the connections that there are.
    pub(crate) fn becomes(&self, quality: Quality) {
        self.quality.send_replace(quality);
    }

    /// What was sent to the server, one text a connection.
    pub(crate) fn sent(&self) -> Vec<Vec<u8>> {
        self.tap.sent.lock().unwrap().clone()
    }

    /// What was sent by the server, one text a connection.
    pub(crate) fn received(&self) -> Vec<Vec<u8>> {
        self.tap.received.lock().unwrap().clone()
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// Carries one connection until either side, or the line itself, has gone.
async fn carry(
    near: TcpStream,
    server: SocketAddr,
    quality: watch::Receiver<Quality>,
    tap: Arc<Tap>,
) {
    let mut open = quality.clone();
    // Who connects through a firewall that drops packets is left waiting.
    if open
        .wait_for(|now| *now != Quality::Firewalled)
        .await
        .is_err()
    {
        return;
    }
    let Ok(far) = TcpStream::connect(server).await else {
        return;
    };
    let _ = (near.set_nodelay(true), far.set_nodelay(true));
    let (near_read, near_write) = near.into_split();
    let (far_read, far_write) = far.into_split();
    tokio::select! {
        () = pass(near_read, far_write, false, quality.clone(), &tap.sent) => {}
        () = pass(far_read, near_write, true, quality.clone(), &tap.received) => {}
        () = async { while open.changed().await.is_ok() {} } => {}
    }
}

async fn pass(
    mut from: OwnedReadHalf,
    to: OwnedWriteHalf,
    is_answer: bool,
    quality: watch::Receiver<Quality>,
    tap: &Mutex<Vec<Vec<u8>>>,
) {
    let number = {
        let mut tap = tap.lock().unwrap();
        tap.push(Vec::new());
        tap.len() - 1
    };
    let (under_way, arriving) = mpsc::unbounded_channel();
    let read = async {
        let mut buffer = vec![0; 0x4000];
        while let Ok(length @ 1..) = from.read(&mut buffer).await {
            let read = &buffer[..length];
            tap.lock().unwrap()[number].extend(read);
            let _ = under_way.send((Instant::now(), read.to_vec()));
        }
    };
    tokio::select! {
        () = read => {}
        () = arrive(arriving, to, is_answer, quality) => {}
    }
}

async fn arrive(
    mut arriving: mpsc::UnboundedReceiver<(Instant, Vec<u8>)>,
    mut to: OwnedWriteHalf,
    is_answer: bool,
    mut quality: watch::Receiver<Quality>,
) {
    while let Some((sent_at, bytes)) = arriving.recv().await {
        let open = quality.wait_for(|now| *now != Quality::Firewalled).await;
        let Ok(now) = open.map(|now| *now) else {
            return;
        };
        let written = match now {
            Quality::Slow(late) if is_answer => {
                sleep_until(sent_at + late).await;
                to.write_all(&bytes).await
            }
            Quality::Garbled if is_answer => to.write_all(b"HTTP/1.1 \xff\0?\r\n").await,
            _ => to.write_all(&bytes).await,
        };
        if written.is_err() {
            return;
        }
    }
}
