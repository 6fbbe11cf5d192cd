//! Where the frames of an HTTP/2 connection begin, told from its bytes.

/// What a client sends before its first frame (RFC 9113 §3.4).
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Length, type, flags and stream of a frame (RFC 9113 §4.1).
const HEAD: usize = 9;

/// The head of one frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Frame {
    /// How long its payload is, in bytes.
    pub(super) length: u32,
    pub(super) kind: u8,
    pub(super) flags: u8,
    pub(super) stream: u32,
}

/// Follows one direction of a connection, whatever pieces its bytes come in. Payloads are
/// skipped, never kept.
#[derive(Debug)]
pub(super) struct Frames(At);

/// What the next byte belongs to.
#[derive(Debug)]
enum At {
    /// The preface, of which this much was seen.
    Preface(usize),
    /// The head of a frame, of which this much was seen.
    Head([u8; HEAD], usize),
    /// A payload, of which this much is to come.
    Payload(u32),
    /// Something that is not HTTP/2; hyper will refuse it.
    Lost,
}

impl Frames {
    /// What a client sends: the preface first.
    pub(super) fn of_client() -> Self {
        Self(At::Preface(0))
    }

    /// What a server sends: frames from the first byte on.
    pub(super) fn of_server() -> Self {
        Self(At::Head([0; HEAD], 0))
    }

    /// Follows the next bytes, and reports each frame as soon as its head is complete.
    pub(super) fn follow(&mut self, mut bytes: &[u8], mut report: impl FnMut(Frame)) {
        while !bytes.is_empty() {
            bytes = match &mut self.0 {
                At::Preface(seen) => {
                    let (now, rest) = take(bytes, PREFACE.len() - *seen);
                    let expected = &PREFACE[*seen..*seen + now.len()];
                    *seen += now.len();
                    if now != expected {
                        self.0 = At::Lost;
                    } else if *seen == PREFACE.len() {
                        self.0 = At::Head([0; HEAD], 0);
                    }
                    rest
                }
                At::Head(head, seen) => {
                    let (now, rest) = take(bytes, HEAD - *seen);
                    head[*seen..*seen + now.len()].copy_from_slice(now);
                    *seen += now.len();
                    if *seen == HEAD {
                        let frame = Frame::parse(*head);
                        report(frame);
                        self.0 = match frame.length {
                            0 => At::Head([0; HEAD], 0),
                            length => At::Payload(length),
                        };
                    }
                    rest
                }
                At::Payload(left) => {
                    let (now, rest) = take(bytes, usize::try_from(*left).unwrap_or(usize::MAX));
                    *left = left.saturating_sub(u32::try_from(now.len()).unwrap_or(u32::MAX));
                    if *left == 0 {
                        self.0 = At::Head([0; HEAD], 0);
                    }
                    rest
                }
                At::Lost => &[],
            };
        }
    }

    /// Whether a new frame could begin here.
    pub(super) fn is_between_frames(&self) -> bool {
        matches!(self.0, At::Head(_, 0))
    }
}

impl Frame {
    fn parse(head: [u8; HEAD]) -> Self {
        let [l0, l1, l2, kind, flags, s0, s1, s2, s3] = head;
        Self {
            length: u32::from_be_bytes([0, l0, l1, l2]),
            kind,
            flags,
            // The first bit is reserved and means nothing.
            stream: u32::from_be_bytes([s0 & 0x7f, s1, s2, s3]),
        }
    }
}

/// At most the first `most` bytes, and the rest.
fn take(bytes: &[u8], most: usize) -> (&[u8], &[u8]) {
    bytes.split_at(most.min(bytes.len()))
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*, sample::Index};

    use super::*;

    impl Frame {
        /// Its bytes, with a payload that looks like the heads of other frames.
        fn bytes(self) -> impl Iterator<Item = u8> {
            let [_, l0, l1, l2] = self.length.to_be_bytes();
            let [s0, s1, s2, s3] = self.stream.to_be_bytes();
            let payload = [0, 0, 8, 6, 0, 0, 0, 0, 0].into_iter().cycle();
            [l0, l1, l2, self.kind, self.flags, s0, s1, s2, s3]
                .into_iter()
                .chain(payload.take(self.length as usize))
        }
    }

    fn frames() -> impl Strategy<Value = Vec<Frame>> {
        let frame = (
            prop_oneof![Just(0_u32), 1_u32..32, Just(16_384)],
            any::<u8>(),
            any::<u8>(),
            0_u32..1 << 31,
        );
        let frame = frame.prop_map(|(length, kind, flags, stream)| Frame {
            length,
            kind,
            flags,
            stream,
        });
        vec(frame, 0..20)
    }

    /// Follows `bytes` in pieces cut at `cuts`.
    fn follow(mut follower: Frames, bytes: &[u8], cuts: &[Index]) -> (Vec<Frame>, Frames) {
        let mut cuts: Vec<_> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
        cuts.extend([0, bytes.len()]);
        cuts.sort_unstable();
        let mut seen = Vec::new();
        for piece in cuts.windows(2) {
            follower.follow(&bytes[piece[0]..piece[1]], |frame| seen.push(frame));
        }
        (seen, follower)
    }

    proptest! {
        #[test]
        fn every_frame_is_reported_once_however_the_bytes_are_cut(
            sent in frames(), cuts in vec(any::<Index>(), 0..40)
        ) {
            let bytes: Vec<u8> = sent.iter().flat_map(|frame| frame.bytes()).collect();
            let (seen, follower) = follow(Frames::of_server(), &bytes, &cuts);
            prop_assert_eq!(&seen, &sent);
            prop_assert!(follower.is_between_frames());

            let bytes: Vec<u8> = PREFACE.iter().copied().chain(bytes).collect();
            let (seen, follower) = follow(Frames::of_client(), &bytes, &cuts);
            prop_assert_eq!(&seen, &sent);
            prop_assert!(follower.is_between_frames());
        }

        #[test]
        fn garbage_is_followed_without_a_panic(
            bytes in vec(any::<u8>(), 0..2_000), cuts in vec(any::<Index>(), 0..40)
        ) {
            let preface: Vec<u8> = PREFACE.iter().copied().chain(bytes.iter().copied()).collect();
            let (whole, _) = follow(Frames::of_client(), &preface, &[]);
            prop_assert_eq!(follow(Frames::of_client(), &preface, &cuts).0, whole);
            follow(Frames::of_client(), &bytes, &cuts);
        }
    }

    #[test]
    fn what_is_not_http2_has_no_frames() {
        let request = b"GET / HTTP/1.1\r\nhost: broker.example\r\n\r\n";
        let (seen, follower) = follow(Frames::of_client(), request, &[]);
        assert_eq!(seen, []);
        assert!(!follower.is_between_frames());
    }
}
