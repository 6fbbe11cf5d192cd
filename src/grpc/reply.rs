//! What goes out: a token without a copy of it, and the bodies that tonic makes.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::{Buf, BufMut, Bytes};
use http::{HeaderMap, HeaderName, HeaderValue};
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use prost::{
    Message as _,
    encoding::{WireType, encode_key, encode_varint},
};
use tonic::{Status, body::Body as Tonic};

use crate::{
    api::{proto, v1::GetTokenResponse},
    clock::Instant,
    secret::Secret,
    token::Token,
};

/// What precedes a message: that it is not compressed, and its length (gRPC over HTTP/2,
/// "Length-Prefixed-Message").
pub(super) const PREFIX: usize = 5;
/// The numbers of the fields of a `GetTokenResponse` that are texts.
const ACCESS_TOKEN: u32 = 1;
const TOKEN_TYPE: u32 = 2;
const TOKEN_ID: u32 = 5;
const BEARER: &str = "Bearer";
/// The most that precedes the bearer token: the prefix, and the token's tag and length.
const MAX_HEAD: usize = PREFIX + 1 + 10;
/// The most that follows the bearer token: its type, when it expires and in how long (each with
/// seconds and nanoseconds), and its id.
const MAX_TAIL: usize = (2 + BEARER.len()) + 2 * (2 + 11 + 6) + (2 + 32);
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

/// A reply with a token, or a part of it, as it is on the wire. All callers are sent the one
/// text of the bearer token that there is; what stands around it is each reply's own.
#[derive(Clone)]
pub struct Reply {
    token: Arc<Secret>,
    head: [u8; MAX_HEAD],
    token_at: usize,
    tail: [u8; MAX_TAIL],
    at: usize,
    end: usize,
}

impl Reply {
    /// A token, as of now.
    pub(super) fn new(token: &Token) -> Self {
        let text = Arc::clone(&token.access_token);
        let length = text.expose().len();
        let mut head = [0; MAX_HEAD];
        let mut rest = &mut head[PREFIX..];
        begin_text(ACCESS_TOKEN, length, &mut rest);
        let token_at = MAX_HEAD - rest.len();

        let mut tail = [0; MAX_TAIL];
        let mut rest = &mut tail[..];
        begin_text(TOKEN_TYPE, BEARER.len(), &mut rest);
        rest.put_slice(BEARER.as_bytes());
        // There is room for the longest.
        let _ = times(token).encode(&mut rest);
        let id = token.id.digits();
        begin_text(TOKEN_ID, id.len(), &mut rest);
        rest.put_slice(&id);

        let end = token_at + length + MAX_TAIL - rest.len();
        // A token is never so long that its length does not fit.
        let message = u32::try_from(end - PREFIX).unwrap_or(u32::MAX);
        head[1..PREFIX].copy_from_slice(&message.to_be_bytes());
        Self {
            token: text,
            head,
            token_at,
            tail,
            at: 0,
            end,
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
        let token = self.token.expose().as_bytes();
        let tail_at = self.token_at + token.len();
        let chunk = if self.at < self.token_at {
            &self.head[self.at..self.token_at]
        } else if self.at < tail_at {
            &token[self.at - self.token_at..]
        } else {
            &self.tail[self.at - tail_at..]
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

/// The tag and the length of a field that is a text.
fn begin_text(field: u32, length: usize, out: &mut impl BufMut) {
    encode_key(field, WireType::LengthDelimited, out);
    encode_varint(length.try_into().unwrap_or(u64::MAX), out);
}

/// A token as a message, as of now.
pub(super) fn message(token: &Token) -> GetTokenResponse {
    GetTokenResponse {
        access_token: token.access_token.expose().to_owned(),
        token_type: BEARER.to_owned(),
        token_id: token.id.to_string(),
        ..times(token)
    }
}

/// The part of a message that says how long a token lives, as of now.
fn times(token: &Token) -> GetTokenResponse {
    let expires_at = token.expires_at();
    let expires_in = expires_at.instant.saturating_duration_since(Instant::now());
    GetTokenResponse {
        expires_at: Some(expires_at.wall.into()),
        expires_in: proto(expires_in),
        ..GetTokenResponse::default()
    }
}
