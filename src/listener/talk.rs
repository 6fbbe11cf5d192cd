//! What is spoken on a connection.

use std::time::Duration;

use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

use super::{answering::Answering, http1::Http1, http2::Http2, meter::Flood};

/// How the protocols are named in handshakes (RFC 7301), the preferred one first.
pub(super) const ALPN: [&[u8]; 2] = [HTTP2, b"http/1.1"];
const HTTP2: &[u8] = b"h2";

/// A connection, in the protocol that its handshake agreed on.
pub(super) enum Talk {
    Http1(Http1),
    Http2(Http2),
}

/// How a connection is left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Leave {
    /// As soon as nothing is under way.
    Soon,
    /// So that no request meets a closed connection, if the peer listens.
    Gently,
}

impl Talk {
    /// Begins to speak. A peer that did not say what it speaks, speaks HTTP/1.1. `head` is
    /// how long the headers of a request may take there.
    pub(super) fn new(stream: TlsStream<TcpStream>, answering: Answering, head: Duration) -> Self {
        let (_, session) = stream.get_ref();
        if session.alpn_protocol() == Some(HTTP2) {
            Self::Http2(Http2::new(stream, answering))
        } else {
            Self::Http1(Http1::new(stream, answering, head))
        }
    }

    /// Serves until the end.
    pub(super) async fn ended(&mut self) -> hyper::Result<()> {
        match self {
            Self::Http1(http1) => http1.ended().await,
            Self::Http2(http2) => http2.ended().await,
        }
    }

    /// Begins to end.
    pub(super) fn leave(&mut self, how: Leave) {
        match (self, how) {
            (Self::Http1(http1), Leave::Gently) => http1.leave_with_next_answer(),
            (Self::Http1(http1), Leave::Soon) => http1.leave(),
            // A GOAWAY is gentle.
            (Self::Http2(http2), _) => http2.leave(),
        }
    }

    /// Whether the peer may begin requests although it was to leave gently: it is told only
    /// by its next answer.
    pub(super) fn may_begin(&self) -> bool {
        matches!(self, Self::Http1(_))
    }

    /// Whether the peer has begun to speak. If not, there is nothing to end.
    pub(super) fn has_begun(&self) -> bool {
        match self {
            Self::Http1(http1) => http1.has_begun(),
            Self::Http2(http2) => http2.has_begun(),
        }
    }

    /// What the peer flooded the connection with, if it did.
    pub(super) fn flood(&self) -> Option<Flood> {
        match self {
            Self::Http1(_) => None,
            Self::Http2(http2) => http2.flood(),
        }
    }

    /// Whether it ended because a request came too slowly.
    pub(super) fn was_slow(&self) -> bool {
        matches!(self, Self::Http1(http1) if http1.was_slow())
    }
}
