//! HTTP/2 on one connection, and what a peer may take of it.

use std::{convert::Infallible, future::poll_fn, pin::Pin, time::Duration};

use http::{Request, Response};
use hyper::{
    body::Incoming,
    server::conn::http2,
    service::{Service, service_fn},
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

use super::{
    answering::{Answering, MAX_HEADERS, Reply},
    meter::{Flood, Metered, Verdict},
    streams::{Begun, Streams},
};

/// How many calls one connection may have under way. Clients assume 100 until they have
/// been told otherwise (RFC 9113 §6.5.2), and the first burst of a lower limit's victims fails.
const MAX_STREAMS: u32 = 100;
/// The smallest largest frame that HTTP/2 allows, in bytes. Requests are far smaller.
const MAX_FRAME: u32 = 16 * 1024;
/// What a peer may send of one request before it is read, in bytes: the protocol's default.
const STREAM_WINDOW: u32 = 64 * 1024 - 1;
/// What a peer may send of all its requests together, in bytes.
const CONNECTION_WINDOW: u32 = 256 * 1024;
/// What is kept for a peer that reads slowly, in bytes for each call.
const SEND_BUFFER: usize = 64 * 1024;
/// Calls that a peer reset before they were looked at. Above what the meter lets through,
/// so that the meter is what ends a flood, and says which it was.
const PENDING_RESETS: usize = 128;
/// A peer that does not answer pings for this long is gone.
const KEEP_ALIVE: Duration = Duration::from_secs(20);

type Stream = TokioIo<Metered<TlsStream<TcpStream>>>;

/// A connection that speaks HTTP/2.
pub(super) struct Http2 {
    connection: Pin<Box<dyn Conversation>>,
    streams: Streams,
    verdict: Verdict,
}

impl Http2 {
    pub(super) fn new(stream: TlsStream<TcpStream>, answering: Answering) -> Self {
        let (stream, verdict) = Metered::new(stream);
        let streams = Streams::default();
        let connection = http2::Builder::new(streams.begun())
            .timer(TokioTimer::new())
            .max_concurrent_streams(MAX_STREAMS)
            .max_header_list_size(u32::from(MAX_HEADERS))
            .max_frame_size(MAX_FRAME)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_send_buf_size(SEND_BUFFER)
            .max_pending_accept_reset_streams(PENDING_RESETS)
            .keep_alive_interval(KEEP_ALIVE)
            .keep_alive_timeout(KEEP_ALIVE)
            .serve_connection(
                TokioIo::new(stream),
                service_fn(move |request| answering.answer(request)),
            );
        Self {
            connection: Box::pin(connection),
            streams,
            verdict,
        }
    }

    /// Serves until the end.
    pub(super) async fn ended(&mut self) -> hyper::Result<()> {
        poll_fn(|context| {
            // What was waited for first, so that it is written with the rest.
            self.streams.go_on(context);
            let ended = self.connection.as_mut().poll(context);
            self.streams.go_on(context);
            ended
        })
        .await
    }

    /// Says GOAWAY, and lets the calls under way end.
    pub(super) fn leave(&mut self) {
        self.connection.as_mut().leave();
    }

    /// Whether the peer has begun to speak HTTP/2.
    pub(super) fn has_begun(&self) -> bool {
        self.verdict.has_greeted()
    }

    /// What the peer flooded the connection with, if it did.
    pub(super) fn flood(&self) -> Option<Flood> {
        self.verdict.flood()
    }
}

/// What hyper makes of a connection, whose type has no name: the answers have none.
trait Conversation: Future<Output = hyper::Result<()>> + Send {
    /// Says GOAWAY.
    fn leave(self: Pin<&mut Self>);
}

impl<S> Conversation for http2::Connection<Stream, S, Begun>
where
    S: Service<Request<Incoming>, Response = Response<Reply>, Error = Infallible> + Send,
    S::Future: Send + 'static,
{
    fn leave(self: Pin<&mut Self>) {
        self.graceful_shutdown();
    }
}
