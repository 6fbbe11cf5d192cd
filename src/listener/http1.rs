//! HTTP/1.1 on one connection: one request after the other, and none without an end.

use std::{
    convert::Infallible,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures_util::future::{BoxFuture, FutureExt as _};
use http::{
    HeaderValue, Request, Response, StatusCode, Version,
    header::{CONNECTION, HOST},
};
use hyper::{body::Incoming, server::conn::http1, service::Service};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

use super::{
    activity::Activity,
    answering::{Answering, MAX_HEADERS, Reply},
    pace::{Paced, Slow},
};

/// How many header lines a request may have. No honest one has a fifth of them.
const MAX_HEADER_LINES: usize = 100;

type Stream = TokioIo<Paced<TlsStream<TcpStream>>>;

/// A connection that speaks HTTP/1.1.
pub(super) struct Http1 {
    connection: Pin<Box<http1::Connection<Stream, Exchange>>>,
    activity: Arc<Activity>,
    slow: Slow,
    last: Arc<AtomicBool>,
}

impl Http1 {
    /// `head` is how long a request may take from its first byte to the end of its headers.
    pub(super) fn new(stream: TlsStream<TcpStream>, answering: Answering, head: Duration) -> Self {
        let activity = Arc::clone(&answering.activity);
        let (stream, slow) = Paced::new(stream, Arc::clone(&activity), head);
        let last = Arc::new(AtomicBool::new(false));
        let exchange = Exchange {
            answering,
            last: Arc::clone(&last),
        };
        // hyper reads the next request only when the last one is answered, and keeps no
        // more than this of those that a peer sends ahead.
        let connection = http1::Builder::new()
            .max_buf_size(usize::from(MAX_HEADERS))
            .max_header_size(usize::from(MAX_HEADERS))
            .max_headers(MAX_HEADER_LINES)
            // It would run between requests, too, and end what is merely unused.
            .header_read_timeout(None)
            .serve_connection(TokioIo::new(stream), exchange);
        Self {
            connection: Box::pin(connection),
            activity,
            slow,
            last,
        }
    }

    /// Serves until the end.
    pub(super) async fn ended(&mut self) -> hyper::Result<()> {
        self.connection.as_mut().await
    }

    /// Lets the request under way end, and begins no other.
    pub(super) fn leave(&mut self) {
        self.connection.as_mut().graceful_shutdown();
    }

    /// Says in the next answer that it is the last one. Nothing else tells a peer of
    /// HTTP/1.1 in time, and a request that meets a closed connection fails.
    pub(super) fn leave_with_next_answer(&self) {
        self.last.store(true, Ordering::Relaxed);
    }

    /// Whether the peer has asked anything yet.
    pub(super) fn has_begun(&self) -> bool {
        self.activity.requests() > 0
    }

    /// Whether it ended because the headers of a request did not come in time.
    pub(super) fn was_slow(&self) -> bool {
        self.slow.is_said()
    }
}

/// Answers one request, and knows whether it is the last.
struct Exchange {
    answering: Answering,
    last: Arc<AtomicBool>,
}

impl Service<Request<Incoming>> for Exchange {
    type Response = Response<Reply>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<Reply>, Infallible>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let answer = if names_one_host(&request) {
            self.answering.answer(request).boxed()
        } else {
            let refused = self.answering.refuse(StatusCode::BAD_REQUEST);
            async { Ok(refused) }.boxed()
        };
        let last = Arc::clone(&self.last);
        async move {
            let mut answer = answer.await?;
            if last.load(Ordering::Relaxed) {
                let close = HeaderValue::from_static("close");
                answer.headers_mut().insert(CONNECTION, close);
            }
            Ok(answer)
        }
        .boxed()
    }
}

/// A request of HTTP/1.1 must have exactly one `Host` (RFC 9112 §3.2), whatever its target.
fn names_one_host<B>(request: &Request<B>) -> bool {
    match request.headers().get_all(HOST).iter().count() {
        0 => request.version() < Version::HTTP_11,
        hosts => hosts == 1,
    }
}
