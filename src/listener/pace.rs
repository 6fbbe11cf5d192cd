//! How slowly a request of HTTP/1.1 may come.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Sleep, sleep_until},
};

use super::activity::Activity;
use crate::clock::Instant;

/// The server's end of an HTTP/1.1 connection. Bytes pass unchanged; but once the first
/// byte of a request is there, reading fails unless the rest of its head comes in time.
/// A peer that says nothing at all is merely idle.
///
/// What was sent ahead, while another request was under way, is not timed before more
/// of it comes: until then it costs no more than an idle connection.
pub(super) struct Paced<S> {
    stream: S,
    activity: Arc<Activity>,
    within: Duration,
    head: Option<Head>,
    slow: Slow,
}

/// A head that has begun.
struct Head {
    /// How many requests there had been before.
    after: u64,
    until: Instant,
    alarm: Option<Pin<Box<Sleep>>>,
}

/// Says, also when the connection is gone, whether a head did not come in time.
#[derive(Clone, Debug, Default)]
pub(super) struct Slow(Arc<AtomicBool>);

impl Slow {
    pub(super) fn is_said(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

impl<S> Paced<S> {
    /// `within` is how long a head may take, from its first byte on.
    pub(super) fn new(stream: S, activity: Arc<Activity>, within: Duration) -> (Self, Slow) {
        let slow = Slow::default();
        let paced = Self {
            stream,
            activity,
            within,
            head: None,
            slow: slow.clone(),
        };
        (paced, slow)
    }

    /// Bytes came: the first of a head, if no request is under way.
    fn heard(&mut self) {
        if self.head.is_none() && self.activity.is_quiet() {
            self.head = Some(Head {
                after: self.activity.requests(),
                until: Instant::now() + self.within,
                alarm: None,
            });
        }
    }

    /// Whether a head has begun, and should have ended by now. If not, the task is woken
    /// when it should have.
    fn is_late(&mut self, cx: &mut Context<'_>) -> bool {
        let Some(head) = &mut self.head else {
            return false;
        };
        let alarm = head
            .alarm
            .get_or_insert_with(|| Box::pin(sleep_until(head.until)));
        alarm.as_mut().poll(cx).is_ready()
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Paced<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let requests = this.activity.requests();
        // Its head was whole, so it has become a request.
        this.head.take_if(|head| head.after != requests);
        let before = buf.filled().len();
        // Looked at first: a byte now and then must not put it off.
        if this.is_late(cx) {
            this.slow.0.store(true, Ordering::Relaxed);
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        ready!(Pin::new(&mut this.stream).poll_read(cx, buf))?;
        if buf.filled().len() > before {
            this.heard();
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Paced<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _, duplex},
        time::{advance, sleep},
    };

    use super::*;

    const WITHIN: Duration = Duration::from_secs(10);

    #[tokio::test(start_paused = true)]
    async fn a_head_that_drips_is_given_up_in_time() {
        let (mut peer, stream) = duplex(1000);
        let (mut stream, slow) = Paced::new(stream, Activity::new(), WITHIN);
        let drip = async {
            loop {
                peer.write_all(b"a").await.unwrap();
                sleep(Duration::from_secs(1)).await;
            }
        };
        let read = async { while stream.read_u8().await.is_ok() {} };
        let began = Instant::now();
        tokio::select! { () = drip => {}, () = read => {} }
        assert_eq!(began.elapsed(), WITHIN);
        assert!(slow.is_said());
    }

    #[tokio::test(start_paused = true)]
    async fn silence_and_bodies_may_last() {
        let (mut peer, stream) = duplex(1000);
        let activity = Activity::new();
        let (mut stream, slow) = Paced::new(stream, Arc::clone(&activity), WITHIN);
        for _ in 0..3 {
            let silence = tokio::time::timeout(10 * WITHIN, stream.read_u8()).await;
            assert!(silence.is_err());
            peer.write_all(b"head").await.unwrap();
            stream.read_exact(&mut [0; 4]).await.unwrap();
            let request = activity.begin();
            advance(2 * WITHIN).await;
            peer.write_all(b"body").await.unwrap();
            stream.read_exact(&mut [0; 4]).await.unwrap();
            drop(request);
        }
        assert!(!slow.is_said());
    }
}
