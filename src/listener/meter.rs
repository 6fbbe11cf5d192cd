//! What a connection may cost beyond the calls it makes.
//!
//! hyper answers pings, settings and resets without a word, so a peer that sends nothing
//! else keeps a core busy. [`Metered`] reads along in both directions, charges the peer
//! for frames that carry no request, and ends the connection when the peer has spent
//! more than its answered calls have earned.

mod account;
mod bucket;
mod frames;

use std::{
    io,
    pin::Pin,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

pub(super) use self::bucket::Flood;
use self::{account::Account, frames::Frames};
use crate::clock::Instant;

/// GOAWAY and `ENHANCE_YOUR_CALM` (RFC 9113 §6.8, §7).
const GOAWAY: u8 = 7;
const ENHANCE_YOUR_CALM: u32 = 11;

/// The server's end of an HTTP/2 connection. Bytes pass unchanged until the peer floods;
/// then reading fails, and none of the bytes that were too much are handed on.
#[derive(Debug)]
pub(super) struct Metered<S> {
    stream: S,
    received: Frames,
    sent: Frames,
    account: Account,
    verdict: Verdict,
}

/// Says, also when the connection is gone, whether it ended because of a flood.
#[derive(Clone, Debug, Default)]
pub(super) struct Verdict(Arc<Seen>);

#[derive(Debug, Default)]
struct Seen {
    greeted: AtomicBool,
    flood: OnceLock<Flood>,
}

/// The error that reading ends with.
#[derive(Debug, thiserror::Error)]
#[error("the peer sends too many frames that carry no request: {}", .0.label())]
struct Flooded(Flood);

impl<S> Metered<S> {
    /// Meters a connection on which nothing was read or written yet.
    pub(super) fn new(stream: S) -> (Self, Verdict) {
        let verdict = Verdict::default();
        let metered = Self {
            stream,
            received: Frames::of_client(),
            sent: Frames::of_server(),
            account: Account::open(Instant::now()),
            verdict: verdict.clone(),
        };
        (metered, verdict)
    }

    fn received(&mut self, bytes: &[u8]) {
        let now = Instant::now();
        self.received.follow(bytes, |frame| {
            self.verdict.greeted();
            if let Err(flood) = self.account.received(frame, now) {
                self.verdict.is(flood);
            }
        });
    }

    fn sent(&mut self, bytes: &[u8], now: Instant) {
        self.sent.follow(bytes, |frame| {
            if let Err(flood) = self.account.sent(frame, now) {
                self.verdict.is(flood);
            }
        });
    }
}

impl<S: AsyncWrite + Unpin> Metered<S> {
    /// Tells the peer why, if it takes that now. A client that is merely misconfigured
    /// learns from it: gRPC's slow their pings down.
    fn part(&mut self, cx: &mut Context<'_>, flood: Flood) {
        // In the middle of another frame these bytes would mean something else.
        if !self.sent.is_between_frames() {
            return;
        }
        let goaway = goaway(self.account.last_stream(), flood);
        let stream = Pin::new(&mut self.stream);
        if let Poll::Ready(Ok(_)) = stream.poll_write(cx, &goaway) {
            let _ = Pin::new(&mut self.stream).poll_flush(cx);
        }
    }
}

impl Verdict {
    /// What the peer flooded the connection with, if it did.
    pub(super) fn flood(&self) -> Option<Flood> {
        self.0.flood.get().copied()
    }

    /// Whether the peer has begun to speak HTTP/2.
    pub(super) fn has_greeted(&self) -> bool {
        self.0.greeted.load(Ordering::Relaxed)
    }

    fn greeted(&self) {
        self.0.greeted.store(true, Ordering::Relaxed);
    }

    /// The first verdict stands.
    fn is(&self, flood: Flood) {
        let _ = self.0.flood.set(flood);
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Metered<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        // Writing may have overdrawn the account too: it is the peer that makes us reset.
        if this.verdict.flood().is_none() {
            ready!(Pin::new(&mut this.stream).poll_read(cx, buf))?;
            this.received(&buf.filled()[before..]);
        }
        let Some(flood) = this.verdict.flood() else {
            return Poll::Ready(Ok(()));
        };
        buf.set_filled(before);
        this.part(cx, flood);
        let error = io::Error::new(io::ErrorKind::ConnectionAborted, Flooded(flood));
        Poll::Ready(Err(error))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Metered<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = ready!(Pin::new(&mut this.stream).poll_write(cx, buf))?;
        this.sent(&buf[..written], Instant::now());
        Poll::Ready(Ok(written))
    }

    // It writes one buffer at a time: h2 then gathers what it has for many calls in its own, and
    // writes that at once, where it would write each reply by itself.

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}

/// The frame that ends a connection because of a flood.
fn goaway(last_stream: u32, flood: Flood) -> Vec<u8> {
    let why = match flood {
        // The words that gRPC clients listen for (gRPC proposal A8).
        Flood::Ping => "too_many_pings",
        flood => flood.label(),
    };
    let length = u8::try_from(8 + why.len()).unwrap_or(8);
    let mut frame = vec![0, 0, length, GOAWAY, 0, 0, 0, 0, 0];
    frame.extend(last_stream.to_be_bytes());
    frame.extend(ENHANCE_YOUR_CALM.to_be_bytes());
    frame.extend(why.bytes());
    frame
}

#[cfg(test)]
mod tests {
    use std::io::IoSlice;

    use proptest::{collection::vec, prelude::*};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};

    use super::*;

    const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    const PING: [u8; 17] = [0, 0, 8, 6, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8];
    /// The pings that pass in one moment.
    const PINGS: usize = 500;

    fn flood(pings: usize) -> Vec<u8> {
        [PREFACE, &PING.repeat(pings)].concat()
    }

    /// Reads in pieces of this size until the end, or an error.
    async fn read<S>(stream: &mut S, piece: usize) -> (Vec<u8>, io::Result<()>)
    where
        S: AsyncRead + Unpin,
    {
        let mut all = Vec::new();
        let mut buf = vec![0; piece];
        loop {
            match stream.read(&mut buf).await {
                Ok(0) => return (all, Ok(())),
                Ok(read) => all.extend_from_slice(&buf[..read]),
                Err(error) => return (all, Err(error)),
            }
        }
    }

    /// What the metered end hands on of what the peer sends before it closes.
    async fn hand_on(sent: &[u8], piece: usize) -> (Vec<u8>, io::Result<()>, Verdict) {
        let (mut peer, stream) = duplex(sent.len().max(1));
        let (mut stream, verdict) = Metered::new(stream);
        peer.write_all(sent).await.unwrap();
        peer.shutdown().await.unwrap();
        let (read, ended) = read(&mut stream, piece).await;
        (read, ended, verdict)
    }

    fn in_paused_time<F: Future>(run: F) -> F::Output {
        tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap()
            .block_on(run)
    }

    proptest! {
        #[test]
        fn bytes_pass_unchanged_both_ways(
            pings in 0..=PINGS,
            garbage in vec(any::<u8>(), 0..8),
            piece in 1_usize..20_000,
            answer in vec(vec(any::<u8>(), 0..200), 0..5),
        ) {
            in_paused_time(async {
                // Too short for the head of another frame.
                let sent = [flood(pings), garbage].concat();
                let (read_on, ended, verdict) = hand_on(&sent, piece).await;
                assert_eq!(read_on, sent);
                assert!(ended.is_ok());
                assert_eq!(verdict.flood(), None);

                let (mut peer, stream) = duplex(usize::MAX);
                let (mut stream, _) = Metered::new(stream);
                let mut slices: Vec<_> = answer.iter().map(|part| IoSlice::new(part)).collect();
                let mut slices = slices.as_mut_slice();
                while slices.iter().any(|slice| !slice.is_empty()) {
                    let written = stream.write_vectored(slices).await.unwrap();
                    IoSlice::advance_slices(&mut slices, written);
                }
                drop(stream);
                let mut seen = Vec::new();
                peer.read_to_end(&mut seen).await.unwrap();
                assert_eq!(seen, answer.concat());
            });
        }

        #[test]
        fn garbage_of_any_kind_neither_panics_nor_hangs(
            preface in any::<bool>(), bytes in vec(any::<u8>(), 0..3_000), piece in 1_usize..500,
        ) {
            in_paused_time(async {
                let preface = if preface { PREFACE } else { b"" };
                let sent = [preface, &bytes].concat();
                let (read_on, ended, verdict) = hand_on(&sent, piece).await;
                assert!(sent.starts_with(&read_on));
                assert_eq!(ended.is_err(), verdict.flood().is_some());
            });
        }
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_of_the_piece_that_was_too_much_is_handed_on() {
        let sent = flood(100_000);
        let allowed = PREFACE.len() + PINGS * PING.len();
        for piece in [1, 9, 17, 1_000, 8_192] {
            let (read_on, ended, verdict) = hand_on(&sent, piece).await;
            assert_eq!(ended.unwrap_err().kind(), io::ErrorKind::ConnectionAborted);
            assert_eq!(verdict.flood(), Some(Flood::Ping));
            assert!(sent.starts_with(&read_on));
            // A ping is known by its head, nine bytes.
            let most = allowed + 8;
            let least = (allowed + 9).saturating_sub(piece);
            assert!((least..=most).contains(&read_on.len()), "pieces of {piece}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_peer_is_told_to_calm_down_and_the_end_is_final() {
        let (mut peer, stream) = duplex(100_000);
        let (mut stream, verdict) = Metered::new(stream);
        let call = [0, 0, 0, 1, 5, 0, 0, 0, 7];
        peer.write_all(&[PREFACE, &call, &PING.repeat(PINGS + 1)].concat())
            .await
            .unwrap();
        assert!(read(&mut stream, 8_192).await.1.is_err());
        assert_eq!(verdict.flood(), Some(Flood::Ping));

        let mut told = [0; 31];
        peer.read_exact(&mut told).await.unwrap();
        assert_eq!(told[..9], [0, 0, 22, 7, 0, 0, 0, 0, 0]);
        // The last call that came in, and ENHANCE_YOUR_CALM.
        assert_eq!(told[9..17], [0, 0, 0, 7, 0, 0, 0, 11]);
        assert_eq!(&told[17..], b"too_many_pings");

        peer.write_all(&PING).await.unwrap();
        let (read_on, ended) = read(&mut stream, 8_192).await;
        assert_eq!(read_on, b"");
        assert!(ended.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn the_goaway_never_lands_inside_another_frame() {
        let (mut peer, stream) = duplex(100_000);
        let (mut stream, _) = Metered::new(stream);
        let cut_short = &PING[..12];
        stream.write_all(cut_short).await.unwrap();
        peer.write_all(&flood(PINGS + 1)).await.unwrap();
        assert!(read(&mut stream, 8_192).await.1.is_err());
        drop(stream);
        let mut told = Vec::new();
        peer.read_to_end(&mut told).await.unwrap();
        assert_eq!(told, cut_short);
    }

    #[tokio::test(start_paused = true)]
    async fn answered_calls_pay_for_pings_without_end() {
        let (mut peer, stream) = duplex(100_000);
        let (mut stream, verdict) = Metered::new(stream);
        peer.write_all(PREFACE).await.unwrap();
        stream.read_exact(&mut [0; 24]).await.unwrap();
        let call = [0, 0, 0, 1, 5, 0, 0, 0, 1];
        let trailers = [0, 0, 0, 1, 5, 0, 0, 0, 1];
        for _ in 0..10_000 {
            peer.write_all(&[&call[..], &PING].concat()).await.unwrap();
            stream.read_exact(&mut [0; 26]).await.unwrap();
            stream.write_all(&trailers).await.unwrap();
            peer.read_exact(&mut [0; 9]).await.unwrap();
        }
        assert_eq!(verdict.flood(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn resets_that_the_broker_must_send_end_the_connection_too() {
        let (_peer, stream) = duplex(100_000);
        let (mut stream, verdict) = Metered::new(stream);
        let reset = [0, 0, 4, 3, 0, 0, 0, 0, 1, 0, 0, 0, 1];
        stream.write_all(&reset.repeat(200)).await.unwrap();
        assert_eq!(verdict.flood(), None);
        stream.write_all(&reset).await.unwrap();
        assert_eq!(verdict.flood(), Some(Flood::Reset));
        // Without waiting for the peer, which may have fallen silent.
        assert!(stream.read(&mut [0; 9]).await.is_err());
    }
}
