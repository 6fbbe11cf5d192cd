//! What goes out: a token without a copy of it, and the bodies that tonic makes.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use bytes::{Buf, Bytes};
use http::{HeaderMap, HeaderName, HeaderValue};
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use prost::Message as _;
use tonic::{Status, body::Body as Tonic};
use zeroize::{Zeroize as _, Zeroizing};

use crate::{
    api::{proto, v1::GetTokenResponse},
    clock::Instant,
    token::Token,
};

/// What precedes a message: that it is not compressed, and its length (gRPC over HTTP/2,
/// "Length-Prefixed-Message").
pub(super) const PREFIX: usize = 5;
/// The most that `expires_in` takes, in bytes: its tag and length, the seconds and the
/// nanoseconds.
const MAX_EXPIRES_IN: usize = 2 + 11 + 6;
/// What `token_id` takes, the last field.
const TOKEN_ID: usize = 2 + 32;
/// The largest part of a message that is sent as one frame. What is smaller than a kibibyte
/// h2 gathers with the replies of other calls, and writes them all at once.
const MAX_PART: usize = 1023;

/// The body of a reply.
pub enum Body {
    /// A token.
    Token(Ending),
    /// Whatever else is answered.
    Other(Tonic),
}

/// A piece of a body.
pub enum Data {
    /// Of a token.
    Token(Reply),
    /// Of something else.
    Other(Bytes),
}

/// A reply, and then that all is well.
pub struct Ending {
    rest: Option<Reply>,
    is_told: bool,
}

/// A reply with a token, or a part of it, as it is on the wire. The bearer token is in the
/// bytes that all its callers share; what differs is around them.
#[derive(Clone)]
pub struct Reply {
    shared: Bytes,
    /// The prefix; then, behind what is shared, `expires_in` and `token_id`.
    own: [u8; PREFIX + MAX_EXPIRES_IN + TOKEN_ID],
    at: usize,
    end: usize,
}

impl Reply {
    /// A token, as of now.
    pub(super) fn new(token: &Token) -> Self {
        let encoded = token.encoded.expose(|| encode(token));
        let (shared, id) = (encoded.len() - TOKEN_ID, encoded.len() - TOKEN_ID..);
        let own_field = GetTokenResponse {
            expires_in: expires_in(token),
            ..GetTokenResponse::default()
        };
        let mut own = [0; PREFIX + MAX_EXPIRES_IN + TOKEN_ID];
        let id_at = PREFIX + own_field.encoded_len();
        let own_end = id_at + TOKEN_ID;
        let length = shared + own_end - PREFIX;
        // A token is never so long that its length does not fit.
        let told = u32::try_from(length).unwrap_or(u32::MAX);
        own[1..PREFIX].copy_from_slice(&told.to_be_bytes());
        let _ = own_field.encode(&mut &mut own[PREFIX..id_at]);
        own[id_at..own_end].copy_from_slice(&encoded[id]);
        Self {
            shared: encoded.slice(..shared),
            own,
            at: 0,
            end: PREFIX + length,
        }
    }

    /// Takes the first part, if there is more than one.
    fn split(&mut self) -> Option<Self> {
        let end = self.at + MAX_PART;
        (end < self.end).then(|| {
            let part = Self {
                end,
                ..self.clone()
            };
            self.at = end;
            part
        })
    }
}

impl Buf for Reply {
    fn remaining(&self) -> usize {
        self.end - self.at
    }

    fn chunk(&self) -> &[u8] {
        let shared_end = PREFIX + self.shared.len();
        let chunk = if self.at < PREFIX {
            &self.own[self.at..PREFIX]
        } else if self.at < shared_end {
            &self.shared[self.at - PREFIX..]
        } else {
            &self.own[self.at - self.shared.len()..]
        };
        &chunk[..chunk.len().min(self.remaining())]
    }

    fn advance(&mut self, by: usize) {
        assert!(by <= self.remaining(), "no more than there is");
        self.at += by;
    }
}

impl Buf for Data {
    fn remaining(&self) -> usize {
        match self {
            Self::Token(reply) => reply.remaining(),
            Self::Other(bytes) => bytes.remaining(),
        }
    }

    fn chunk(&self) -> &[u8] {
        match self {
            Self::Token(reply) => reply.chunk(),
            Self::Other(bytes) => bytes.chunk(),
        }
    }

    fn advance(&mut self, by: usize) {
        match self {
            Self::Token(reply) => reply.advance(by),
            Self::Other(bytes) => bytes.advance(by),
        }
    }
}

impl From<&Token> for Body {
    /// A token, as of now.
    fn from(token: &Token) -> Self {
        Self::Token(Ending {
            rest: Some(Reply::new(token)),
            is_told: false,
        })
    }
}

impl Ending {
    fn next(&mut self) -> Option<Frame<Data>> {
        let part = self.rest.as_mut().and_then(Reply::split);
        if let Some(part) = part.or_else(|| self.rest.take()) {
            return Some(Frame::data(Data::Token(part)));
        }
        let is_first = !std::mem::replace(&mut self.is_told, true);
        is_first.then(|| Frame::trailers(all_is_well()))
    }
}

impl HttpBody for Body {
    type Data = Data;
    type Error = Status;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Data>, Status>>> {
        match self.get_mut() {
            Self::Token(ending) => Poll::Ready(ending.next().map(Ok)),
            Self::Other(body) => Pin::new(body)
                .poll_frame(context)
                .map_ok(|frame| frame.map_data(Data::Other)),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Token(ending) => ending.is_told,
            Self::Other(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Token(_) => SizeHint::default(),
            Self::Other(body) => body.size_hint(),
        }
    }
}

/// The trailers of a call that was answered.
fn all_is_well() -> HeaderMap {
    const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
    let mut trailers = HeaderMap::with_capacity(1);
    trailers.insert(GRPC_STATUS, HeaderValue::from_static("0"));
    trailers
}

/// A token as a message, as of now.
pub(super) fn message(token: &Token) -> GetTokenResponse {
    GetTokenResponse {
        expires_in: expires_in(token),
        ..timeless(token)
    }
}

/// What a message says whenever it is sent.
fn timeless(token: &Token) -> GetTokenResponse {
    GetTokenResponse {
        access_token: token.access_token.expose().to_owned(),
        token_type: "Bearer".to_owned(),
        expires_at: Some(token.expires_at().wall.into()),
        expires_in: None,
        token_id: token.id.to_string(),
    }
}

fn encode(token: &Token) -> Zeroizing<Vec<u8>> {
    let mut message = timeless(token);
    let encoded = Zeroizing::new(message.encode_to_vec());
    message.access_token.zeroize();
    encoded
}

fn expires_in(token: &Token) -> Option<prost_types::Duration> {
    let expires_at = token.expires_at().instant;
    proto(expires_at.saturating_duration_since(Instant::now()))
}
