//! `GetToken` over HTTP/2, written frame by frame: a client that costs next to nothing.

use std::{collections::VecDeque, rc::Rc, time::Instant};

use prost::Message as _;
use token_broker::api::v1::GetTokenRequest;

use crate::{
    site::{Policy, Site},
    talk::{Talk, Wrong, wrong},
};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// The head of a frame (RFC 9113 §4.1), and that of a gRPC message.
const FRAME: usize = 9;
const MESSAGE: usize = 5;

/// Frame types (RFC 9113 §6).
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const WINDOW_UPDATE: u8 = 8;

const ACK: u8 = 0x1;
const END_STREAM: u8 = 0x1;
const END_HEADERS: u8 = 0x4;

/// What a server must leave for the headers that it is told once (RFC 7541 §4.2).
const HEADER_TABLE_SIZE: u16 = 1;
const HEADER_TABLE: u32 = 4096;

/// Both windows of a connection begin with this (RFC 9113 §6.9.2).
const FIRST_WINDOW: u32 = 65_535;
/// What servers may send before they are told of more.
const WINDOW: u32 = 1 << 30;

/// The headers of a call, with the index of each name in the table of HPACK (RFC 7541,
/// appendix A); `te` is not in it. The server keeps them, the last one in the first place.
const SPELT: [(u8, &str, &str); 5] = [
    (4, ":path", "/tokenbroker.v1.TokenBroker/GetToken"),
    (1, ":authority", "localhost"),
    (31, "content-type", "application/grpc"),
    (0, "te", "trailers"),
    (58, "user-agent", "grpc-rust/0.14.9"),
];
/// `:method: POST` and `:scheme: https`, which every server knows.
const KNOWN: [u8; 2] = [0x83, 0x87];
/// All of them, once the server knows the others, too.
const HEADERS_AGAIN: [u8; 7] = [0x83, 0x87, 0xc2, 0xc1, 0xc0, 0xbf, 0xbe];

/// What is asked, and what is expected, by destination.
pub(crate) struct Questions {
    messages: Vec<Vec<u8>>,
    /// How each answer begins.
    expected: Vec<Vec<u8>>,
}

/// A connection on which tokens are asked for.
pub(crate) struct Http2 {
    questions: Rc<Questions>,
    calls: VecDeque<Call>,
    next_stream: u32,
    /// What may be sent still.
    window: u32,
    /// What was received since the server was last told of more.
    taken: u32,
    is_ready: bool,
}

struct Call {
    stream: u32,
    key: usize,
    asked: Instant,
    progress: Progress,
}

#[derive(Debug, PartialEq)]
enum Progress {
    Asked,
    Begun,
    Answered,
}

impl Questions {
    /// The first destinations of a policy. Each token is known as far as this says.
    pub(crate) fn new(destinations: usize, token: impl Fn(usize) -> String) -> Rc<Self> {
        let message = |key| {
            let request = GetTokenRequest {
                destination_id: Policy::destination(key),
                min_validity: None,
            };
            framed(&request.encode_to_vec())
        };
        // Field 1 of the reply, and how long it is.
        let mut field = vec![0x0a];
        prost::encoding::encode_varint(Site::TOKEN as u64, &mut field);
        Rc::new(Self {
            messages: (0..destinations).map(message).collect(),
            expected: (0..destinations)
                .map(|key| [&field, token(key).as_bytes()].concat())
                .collect(),
        })
    }
}

impl Http2 {
    pub(crate) fn new(questions: &Rc<Questions>) -> Self {
        Self {
            questions: Rc::clone(questions),
            calls: VecDeque::new(),
            next_stream: 1,
            window: FIRST_WINDOW,
            taken: 0,
            is_ready: false,
        }
    }

    fn call(&mut self, stream: u32) -> Result<usize, Wrong> {
        // Answers come in order, more or less.
        let at = self.calls.iter().position(|call| call.stream == stream);
        at.map_or_else(
            || wrong(format!("to call {stream}, which is not under way")),
            Ok,
        )
    }

    fn headers(&mut self, frame: &Frame<'_>) -> Result<Option<Instant>, Wrong> {
        let at = self.call(frame.stream)?;
        let call = &mut self.calls[at];
        if !frame.has(END_HEADERS) {
            return wrong("more headers than a frame holds");
        }
        match (&call.progress, frame.has(END_STREAM)) {
            (Progress::Asked, false) => call.progress = Progress::Begun,
            (Progress::Answered, true) => {
                let asked = call.asked;
                self.calls.remove(at);
                return Ok(Some(asked));
            }
            (progress, last) => {
                return wrong(format!(
                    "headers of {} bytes when it was {progress:?} (the last ones: {last})",
                    frame.payload.len()
                ));
            }
        }
        Ok(None)
    }

    fn data(&mut self, frame: &Frame<'_>) -> Result<(), Wrong> {
        let at = self.call(frame.stream)?;
        let call = &mut self.calls[at];
        if call.progress != Progress::Begun || frame.has(END_STREAM) {
            return wrong("data at the wrong moment");
        }
        let Some(([compressed, length @ ..], message)) =
            frame.payload.split_first_chunk::<MESSAGE>()
        else {
            return wrong("less than a message");
        };
        if *compressed != 0 || u32::from_be_bytes(*length) as usize != message.len() {
            return wrong("no whole message");
        }
        let expected = &self.questions.expected[call.key];
        if message.len() < Site::TOKEN || !message.starts_with(expected) {
            return wrong(format!(
                "another token than that of destination {}",
                call.key
            ));
        }
        call.progress = Progress::Answered;
        Ok(())
    }

    /// Lets the server send on.
    fn take(&mut self, length: usize, out: &mut Vec<u8>) {
        self.taken += u32::try_from(length).unwrap_or(u32::MAX);
        if self.taken >= WINDOW / 2 {
            frame(WINDOW_UPDATE, 0, 0, &self.taken.to_be_bytes(), out);
            self.taken = 0;
        }
    }
}

impl Talk for Http2 {
    fn greet(&mut self, out: &mut Vec<u8>) {
        out.extend(PREFACE);
        frame(SETTINGS, 0, 0, &[], out);
        let more = WINDOW - FIRST_WINDOW;
        frame(WINDOW_UPDATE, 0, 0, &more.to_be_bytes(), out);
    }

    fn is_ready(&self) -> bool {
        self.is_ready
    }

    fn under_way(&self) -> usize {
        self.calls.len()
    }

    fn ask(&mut self, key: usize, asked: Instant, out: &mut Vec<u8>) {
        let stream = self.next_stream;
        self.next_stream += 2;
        if stream == 1 {
            frame(HEADERS, END_HEADERS, stream, &first_headers(), out);
        } else {
            frame(HEADERS, END_HEADERS, stream, &HEADERS_AGAIN, out);
        }
        let message = &self.questions.messages[key];
        frame(DATA, END_STREAM, stream, message, out);
        let length = u32::try_from(message.len()).unwrap_or(u32::MAX);
        // The questions under way are a small part of any window.
        self.window = self
            .window
            .checked_sub(length)
            .expect("the server takes questions");
        self.calls.push_back(Call {
            stream,
            key,
            asked,
            progress: Progress::Asked,
        });
    }

    fn read(
        &mut self,
        received: &[u8],
        out: &mut Vec<u8>,
        answered: &mut Vec<Instant>,
    ) -> Result<usize, Wrong> {
        let mut rest = received;
        while let Some(frame) = Frame::split_from(&mut rest) {
            match frame.kind {
                HEADERS => answered.extend(self.headers(&frame)?),
                DATA => {
                    self.data(&frame)?;
                    self.take(frame.payload.len(), out);
                }
                SETTINGS if !frame.has(ACK) => {
                    look_at_settings(frame.payload)?;
                    self.is_ready = true;
                    self::frame(SETTINGS, ACK, 0, &[], out);
                }
                PING if !frame.has(ACK) => self::frame(PING, ACK, 0, frame.payload, out),
                WINDOW_UPDATE if frame.stream == 0 => {
                    let Some(more) = frame.payload.first_chunk() else {
                        return wrong("half a window update");
                    };
                    self.window = self.window.saturating_add(u32::from_be_bytes(*more));
                }
                SETTINGS | PING | WINDOW_UPDATE => {}
                // A reset, or the end of the connection.
                kind => {
                    let reason = String::from_utf8_lossy(frame.payload);
                    return wrong(format!("frame {kind} on {}: {reason:?}", frame.stream));
                }
            }
        }
        Ok(received.len() - rest.len())
    }
}

/// A frame that was received.
struct Frame<'a> {
    kind: u8,
    flags: u8,
    stream: u32,
    payload: &'a [u8],
}

impl<'a> Frame<'a> {
    /// The first frame, if it is whole.
    fn split_from(received: &mut &'a [u8]) -> Option<Self> {
        let (head, rest) = received.split_first_chunk::<FRAME>()?;
        let [l0, l1, l2, kind, flags, s0, s1, s2, s3] = *head;
        let (payload, rest) = rest.split_at_checked(u32::from_be_bytes([0, l0, l1, l2]) as usize)?;
        *received = rest;
        Some(Self {
            kind,
            flags,
            stream: u32::from_be_bytes([s0, s1, s2, s3]),
            payload,
        })
    }

    fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }
}

/// The headers of the first call, to be kept by the server (RFC 7541 §6.2.1).
fn first_headers() -> Vec<u8> {
    let mut block = KNOWN.to_vec();
    let text = |block: &mut Vec<u8>, text: &str| {
        block.push(u8::try_from(text.len()).expect("it is short"));
        block.extend(text.as_bytes());
    };
    for (index, name, value) in SPELT {
        block.push(0x40 | index);
        if index == 0 {
            text(&mut block, name);
        }
        text(&mut block, value);
    }
    block
}

fn look_at_settings(settings: &[u8]) -> Result<(), Wrong> {
    let (settings, _) = settings.as_chunks::<6>();
    for [i0, i1, value @ ..] in settings {
        let (id, value) = (u16::from_be_bytes([*i0, *i1]), u32::from_be_bytes(*value));
        if id == HEADER_TABLE_SIZE && value < HEADER_TABLE {
            return wrong("the server keeps too few headers for this client");
        }
    }
    Ok(())
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8], out: &mut Vec<u8>) {
    let length = u32::try_from(payload.len()).unwrap_or(u32::MAX);
    out.extend(&length.to_be_bytes()[1..]);
    out.extend([kind, flags]);
    out.extend(stream.to_be_bytes());
    out.extend(payload);
}

/// A message as gRPC sends it.
fn framed(message: &[u8]) -> Vec<u8> {
    let length = u32::try_from(message.len()).unwrap_or(u32::MAX);
    [&[0], &length.to_be_bytes()[..], message].concat()
}
