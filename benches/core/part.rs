//! The parts of a call that are measured, each alone.

use std::{hint::black_box, sync::Arc};

use bytes::Buf as _;
use futures_util::future::join_all;
use http_body_util::BodyExt as _;
use token_broker::{grpc::Body, token::Token};

use crate::site::{Ask, Site, TOKEN};

/// Calls that are under way at once where they wait for their record.
const AT_ONCE: usize = 64;

/// A part of a call, or all of it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    /// From the texts of a request to what the caller may have.
    Authorise,
    /// From there to the token at hand.
    Find,
    /// From the token to the bytes of the reply.
    Encode,
    /// These three: the core path.
    Core,
    /// The core path with a record in a file, 64 calls at once.
    Audited,
    /// From the request as it comes off a connection to the last frame of its reply: the core
    /// path, admission, metrics and what gRPC adds.
    Door,
}

impl Part {
    pub(crate) const ALL: [Self; 6] = [
        Self::Authorise,
        Self::Find,
        Self::Encode,
        Self::Core,
        Self::Audited,
        Self::Door,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Authorise => "authorise",
            Self::Find => "find",
            Self::Encode => "encode",
            Self::Core => "core",
            Self::Audited => "audited",
            Self::Door => "door",
        }
    }

    /// Does it so many times. Only what is done between the meter's two marks is of the part.
    pub(crate) async fn run(self, site: &Arc<Site>, calls: usize, meter: &mut dyn Meter) {
        match self {
            Self::Authorise => {
                meter.begin();
                for ask in site.asks(calls) {
                    black_box(site.authorise(ask));
                }
            }
            Self::Find => {
                let asks = site.asks(calls);
                let asks: Vec<_> = asks.map(|ask| (ask.asker(), site.authorise(ask))).collect();
                meter.begin();
                for (asker, granted) in &asks {
                    black_box(site.token(asker, granted).await);
                }
            }
            Self::Encode => {
                let mut tokens = Vec::new();
                for ask in site.asks(calls) {
                    tokens.push(site.token(&ask.asker(), &site.authorise(ask)).await);
                }
                meter.begin();
                for token in &tokens {
                    encode(token).await;
                }
            }
            Self::Core => {
                meter.begin();
                for ask in site.asks(calls) {
                    answer(site, ask).await;
                }
            }
            Self::Audited => {
                meter.begin();
                let callers = (0..AT_ONCE).map(|nth| {
                    let site = Arc::clone(site);
                    tokio::spawn(async move {
                        for ask in site.asks(calls).skip(nth).step_by(AT_ONCE) {
                            answer(&site, ask).await;
                        }
                    })
                });
                for ended in join_all(callers).await {
                    ended.unwrap();
                }
            }
            Self::Door => {
                let asks = site.asks(calls);
                let asks: Vec<_> = asks.map(|ask| (&ask.peer, ask.request())).collect();
                meter.begin();
                for (peer, request) in asks {
                    let Ok(call) = site.door.enter(Some(peer), request) else {
                        panic!("an ordinary call");
                    };
                    let reply = call.answer().await;
                    let sent = send(reply.into_body()).await;
                    assert!(sent > TOKEN, "{sent}");
                }
            }
        }
        meter.end();
    }
}

/// Measures what happens between two marks.
pub(crate) trait Meter {
    fn begin(&mut self);
    fn end(&mut self);
}

/// The core path.
async fn answer(site: &Site, ask: &Ask) {
    let granted = site.authorise(ask);
    let token = site.token(&ask.asker(), &granted).await;
    encode(&token).await;
}

/// The reply as it is on the wire.
async fn encode(token: &Token) {
    send(Body::from(token)).await;
}

/// Looks at all that goes to the connection, and says how long it is. To copy it is the
/// connection's.
async fn send(mut body: Body) -> usize {
    let mut sent = 0;
    while let Some(frame) = body.frame().await {
        match frame.unwrap().into_data() {
            Ok(mut data) => {
                while data.has_remaining() {
                    let length = black_box(data.chunk()).len();
                    sent += length;
                    data.advance(length);
                }
            }
            Err(trailers) => assert!(trailers.is_trailers()),
        }
    }
    sent
}
