//! What each frame costs its sender, and what each answered call earns it.
//!
//! Prices are relative to the cheapest frame. Per answered unary call an honest client
//! spends at most 7: a bandwidth-probing ping, window updates for the stream and the
//! connection, one piece of a request that is sent in two, and a late reset. A hedging
//! client spends 10 more for the attempt that it cancels. [`ANSWERED`] covers all of
//! this, so that the number of calls a second does not matter.

use std::{collections::BTreeMap, time::Duration};

use super::{
    bucket::{Bucket, Flood},
    frames::Frame,
};
use crate::clock::Instant;

/// Frame types (RFC 9113 §6).
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const PRIORITY: u8 = 2;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;

/// Flags (RFC 9113 §6.1, §6.2).
const END_STREAM: u8 = 0x1;
const END_HEADERS: u8 = 0x4;
const PADDED: u8 = 0x8;

/// Everything that is only looked at, or answered from a buffer.
const CHEAP: u32 = 1;
/// A ping makes the broker write; gRPC clients probe with one per answer at most.
const PING_PRICE: u32 = 2;
/// The broker writes, and adapts every stream.
const SETTINGS_PRICE: u32 = 10;
/// A piece of a header block, which is decoded without a call to show for it.
const FRAGMENT: u32 = 10;
/// DATA without anything in it.
const EMPTY: u32 = 12;
/// A call that was set up for nothing.
const RAPID_RESET: u32 = 10;
/// A call that the broker itself resets: refused, or malformed on purpose.
const OUR_RESET: u32 = 5;

/// What an answered call earns.
const ANSWERED: u32 = 20;
/// What sending this many bytes earns, since they must be acknowledged. Less would let a
/// peer earn by taking an answer in crumbs.
const BYTES_PER_CREDIT: u32 = 1_024;

/// A call that lived this long was given up by its caller; the limit on concurrent streams
/// bounds how many those can be. HTTP/2's rapid reset comes with the call itself.
const RAPID: Duration = Duration::from_millis(10);
/// As in h2: DATA smaller than this is mostly framing.
const SMALL: u32 = 256;
/// HEADERS and four CONTINUATION: what fits the header limit fits one frame. h2 gives up
/// too, at the sixth CONTINUATION, but counts neither blocks nor time.
const MAX_FRAGMENTS: u32 = 5;
/// More calls than this are never under way: clients assume at most 100 before they
/// know the limit.
const MAX_OPEN: usize = 256;

/// The account of one connection.
#[derive(Debug)]
pub(super) struct Account {
    bucket: Bucket,
    /// Calls under way, and since when.
    open: BTreeMap<u32, Instant>,
    /// The last call, in the order that HTTP/2 numbers them.
    last: u32,
    /// Pieces of the header block that is being received.
    fragments: u32,
}

impl Account {
    pub(super) fn open(now: Instant) -> Self {
        Self {
            bucket: Bucket::full(now),
            open: BTreeMap::new(),
            last: 0,
            fragments: 0,
        }
    }

    /// The last call that came in.
    pub(super) fn last_stream(&self) -> u32 {
        self.last
    }

    /// Charges for a frame from the peer.
    ///
    /// # Errors
    /// When the peer has spent more than it may.
    pub(super) fn received(&mut self, frame: Frame, now: Instant) -> Result<(), Flood> {
        let (on, price) = match frame.kind {
            HEADERS => return self.headers(frame, now),
            CONTINUATION => return self.fragment(frame, now),
            DATA if frame.has(END_STREAM) => return Ok(()),
            // Honest clients do not pad; padding can hide that there is nothing else.
            DATA if frame.length == 0 || frame.has(PADDED) => (Flood::EmptyData, EMPTY),
            DATA if frame.length < SMALL => (Flood::EmptyData, CHEAP),
            DATA => return Ok(()),
            PRIORITY => (Flood::Priority, CHEAP),
            RST_STREAM => {
                let opened = self.open.remove(&frame.stream);
                let price = match opened.map(|opened| now.saturating_duration_since(opened)) {
                    Some(age) if age >= RAPID => return Ok(()),
                    Some(_) => RAPID_RESET,
                    // It was answered before.
                    None => CHEAP,
                };
                (Flood::Reset, price)
            }
            SETTINGS => (Flood::Settings, SETTINGS_PRICE),
            PING => (Flood::Ping, PING_PRICE),
            WINDOW_UPDATE => (Flood::WindowUpdate, CHEAP),
            _ => (Flood::Unknown, PING_PRICE),
        };
        self.bucket.charge(on, price, now)
    }

    /// Credits, or charges, for a frame from the broker.
    ///
    /// # Errors
    /// When the peer has spent more than it may.
    pub(super) fn sent(&mut self, frame: Frame, now: Instant) -> Result<(), Flood> {
        match frame.kind {
            HEADERS | DATA if frame.has(END_STREAM) => {
                self.open.remove(&frame.stream);
                self.bucket.credit(ANSWERED);
            }
            DATA => self.bucket.credit(frame.length / BYTES_PER_CREDIT),
            RST_STREAM => {
                self.open.remove(&frame.stream);
                return self.bucket.charge(Flood::Reset, OUR_RESET, now);
            }
            _ => {}
        }
        Ok(())
    }

    fn headers(&mut self, frame: Frame, now: Instant) -> Result<(), Flood> {
        self.fragments = 0;
        if frame.stream > self.last {
            self.last = frame.stream;
            if self.open.len() == MAX_OPEN {
                self.bucket.charge(Flood::Reset, RAPID_RESET, now)?;
            } else {
                self.open.insert(frame.stream, now);
            }
        }
        if frame.has(END_HEADERS) {
            return Ok(());
        }
        self.fragment(frame, now)
    }

    fn fragment(&mut self, frame: Frame, now: Instant) -> Result<(), Flood> {
        self.fragments += 1;
        // One endless block costs as much as its length, however slowly it comes.
        if self.fragments > MAX_FRAGMENTS {
            return Err(Flood::Continuation);
        }
        if frame.has(END_HEADERS) {
            self.fragments = 0;
        }
        self.bucket.charge(Flood::Continuation, FRAGMENT, now)
    }
}

impl Frame {
    fn has(self, flag: u8) -> bool {
        self.flags & flag != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOAWAY: u8 = 7;
    /// A type that no specification knows.
    const GREASE: u8 = 0x1f;

    fn frame(kind: u8, flags: u8, length: u32, stream: u32) -> Frame {
        Frame {
            length,
            kind,
            flags,
            stream,
        }
    }

    /// A call that is complete with its headers and one small message.
    fn call(account: &mut Account, stream: u32, now: Instant) {
        for frame in [
            frame(HEADERS, END_HEADERS, 200, stream),
            frame(DATA, END_STREAM, 40, stream),
        ] {
            account.received(frame, now).unwrap();
        }
    }

    fn answer(account: &mut Account, stream: u32, now: Instant) {
        for frame in [
            frame(HEADERS, END_HEADERS, 100, stream),
            frame(DATA, 0, 1_200, stream),
            frame(HEADERS, END_HEADERS | END_STREAM, 20, stream),
        ] {
            account.sent(frame, now).unwrap();
        }
    }

    /// How many times the peer may send these frames, each on a new stream, in one moment.
    fn accepted(frames: &[(u8, u8, u32)]) -> (usize, Flood) {
        let now = Instant::now();
        let mut account = Account::open(now);
        for (count, stream) in (1_u32..).step_by(2).enumerate() {
            for &(kind, flags, length) in frames {
                if let Err(flood) = account.received(frame(kind, flags, length, stream), now) {
                    return (count, flood);
                }
            }
        }
        unreachable!("no flood goes on for ever");
    }

    #[test]
    fn each_flood_is_cut_after_an_exact_number_of_frames() {
        use Flood::{
            Continuation, EmptyData, Ping, Priority, Reset, Settings, Unknown, WindowUpdate,
        };
        let ack = 0x1;
        for (frames, expected) in [
            (&[(PING, 0, 8)][..], (500, Ping)),
            (&[(PING, ack, 8)], (500, Ping)),
            (&[(SETTINGS, 0, 0)], (100, Settings)),
            (&[(SETTINGS, 0, 36)], (100, Settings)),
            (&[(SETTINGS, ack, 0)], (100, Settings)),
            (&[(PRIORITY, 0, 5)], (1_000, Priority)),
            (&[(WINDOW_UPDATE, 0, 4)], (1_000, WindowUpdate)),
            (&[(RST_STREAM, 0, 4)], (1_000, Reset)),
            (
                &[(HEADERS, END_HEADERS | END_STREAM, 90), (RST_STREAM, 0, 4)],
                (100, Reset),
            ),
            (&[(DATA, 0, 0)], (83, EmptyData)),
            (&[(DATA, PADDED, 256)], (83, EmptyData)),
            (&[(DATA, 0, 1)], (1_000, EmptyData)),
            (&[(CONTINUATION, 0, 0)], (5, Continuation)),
            (&[(CONTINUATION, 0, 1_000)], (5, Continuation)),
            (&[(HEADERS, 0, 0)], (100, Continuation)),
            (
                &[(HEADERS, 0, 0), (CONTINUATION, END_HEADERS, 90)],
                (50, Continuation),
            ),
            (&[(GOAWAY, 0, 8)], (500, Unknown)),
            (&[(GREASE, 0, 16_384)], (500, Unknown)),
            // A connection full of calls, and then calls that can only be refused.
            (&[(HEADERS, END_HEADERS, 90)], (256 + 100, Reset)),
        ] {
            assert_eq!(accepted(frames), expected, "{frames:?}");
        }
    }

    #[test]
    fn honest_clients_never_run_dry_however_fast_they_call() {
        let now = Instant::now();
        let ping = frame(PING, 0, 8, 0);
        let update = |stream| frame(WINDOW_UPDATE, 0, 4, stream);
        let late_reset = |stream| frame(RST_STREAM, 0, 4, stream);
        let piece = |stream| frame(DATA, 0, 5, stream);
        // What comes with every call, in one moment, so that time gives nothing back.
        for (client, per_call) in [
            ("plain", vec![]),
            ("probing", vec![ping, update(0)]),
            ("eager to read", vec![update(0), update(1), update(1)]),
            ("sending in pieces", vec![piece(1), update(0), ping]),
            ("cancelling late", vec![late_reset(1), update(0), ping]),
            (
                "all of it",
                vec![
                    piece(1),
                    ping,
                    update(0),
                    update(1),
                    update(1),
                    late_reset(1),
                ],
            ),
        ] {
            let mut account = Account::open(now);
            for stream in (1..1_000_000).step_by(2) {
                call(&mut account, stream, now);
                answer(&mut account, stream, now);
                for frame in &per_call {
                    let on_stream = if frame.stream == 0 { 0 } else { stream };
                    let frame = Frame {
                        stream: on_stream,
                        ..*frame
                    };
                    assert_eq!(account.received(frame, now), Ok(()), "{client}");
                }
            }
        }
    }

    #[test]
    fn hedging_one_attempt_for_every_answer_is_honest() {
        let now = Instant::now();
        let mut account = Account::open(now);
        for stream in (1..200_000).step_by(4) {
            call(&mut account, stream, now);
            call(&mut account, stream + 2, now);
            answer(&mut account, stream, now);
            for frame in [
                frame(RST_STREAM, 0, 4, stream + 2),
                frame(PING, 0, 8, 0),
                frame(WINDOW_UPDATE, 0, 4, 0),
            ] {
                assert_eq!(account.received(frame, now), Ok(()));
            }
        }
    }

    #[test]
    fn calls_given_up_at_their_deadline_cost_nothing() {
        let mut now = Instant::now();
        let mut account = Account::open(now);
        let mut stream = 1;
        for _ in 0..10_000 {
            let calls: Vec<_> = (stream..).step_by(2).take(64).collect();
            stream += 128;
            for stream in &calls {
                call(&mut account, *stream, now);
            }
            now += RAPID;
            for stream in calls {
                let reset = frame(RST_STREAM, 0, 4, stream);
                assert_eq!(account.received(reset, now), Ok(()));
            }
        }
        assert!(account.open.is_empty());
    }

    #[test]
    fn everything_under_way_may_be_cancelled_at_once() {
        let now = Instant::now();
        let mut account = Account::open(now);
        for stream in (1..200).step_by(2) {
            call(&mut account, stream, now);
        }
        for stream in (1..200).step_by(2) {
            let reset = frame(RST_STREAM, 0, 4, stream);
            assert_eq!(account.received(reset, now), Ok(()));
        }
    }

    #[test]
    fn making_the_broker_reset_is_a_reset_flood() {
        let now = Instant::now();
        let mut account = Account::open(now);
        for stream in (1..401).step_by(2) {
            call(&mut account, stream, now);
            let reset = frame(RST_STREAM, 0, 4, stream);
            assert_eq!(account.sent(reset, now), Ok(()), "{stream}");
        }
        call(&mut account, 401, now);
        let reset = frame(RST_STREAM, 0, 4, 401);
        assert_eq!(account.sent(reset, now), Err(Flood::Reset));
    }

    #[test]
    fn an_answer_taken_in_crumbs_earns_nothing() {
        let now = Instant::now();
        let mut account = Account::open(now);
        call(&mut account, 1, now);
        let crumb = frame(DATA, 0, 64, 1);
        let update = frame(WINDOW_UPDATE, 0, 4, 1);
        for _ in 0..1_000 {
            account.sent(crumb, now).unwrap();
            account.received(update, now).unwrap();
        }
        assert_eq!(account.received(update, now), Err(Flood::WindowUpdate));
    }

    #[test]
    fn frames_that_carry_a_request_are_free() {
        let now = Instant::now();
        let mut account = Account::open(now);
        for _ in 0..100_000 {
            account.received(frame(DATA, 0, 16_384, 1), now).unwrap();
            account
                .received(frame(DATA, END_STREAM, 0, 1), now)
                .unwrap();
        }
    }
}
