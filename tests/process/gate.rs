//! A gate before an upstream: calls wait at it until it is opened.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;

/// A gate, closed at first. Dropped, nothing comes through any more.
pub(crate) struct Gate {
    pub(crate) address: SocketAddr,
    open: CancellationToken,
    arrivals: Arc<AtomicUsize>,
    accepting: JoinHandle<()>,
}

impl Gate {
    pub(crate) async fn before(upstream: SocketAddr) -> Self {
        let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        let open = CancellationToken::new();
        let opened = open.clone();
        let arrivals = Arc::new(AtomicUsize::new(0));
        let arrived = Arc::clone(&arrivals);
        let accepting = tokio::spawn(async move {
            while let Ok((mut caller, _)) = socket.accept().await {
                arrived.fetch_add(1, Ordering::Relaxed);
                let opened = opened.clone();
                tokio::spawn(async move {
                    opened.cancelled().await;
                    let mut upstream = TcpStream::connect(upstream).await?;
                    copy_bidirectional(&mut caller, &mut upstream).await
                });
            }
        });
        Self {
            address,
            open,
            arrivals,
            accepting,
        }
    }

    /// How many have come to it, whether or not they have gone through.
    pub(crate) fn arrivals(&self) -> usize {
        self.arrivals.load(Ordering::Relaxed)
    }

    pub(crate) fn open(&self) {
        self.open.cancel();
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}
