//! The parts of a call that are measured, each alone.

use std::{hint::black_box, sync::Arc};

use bytes::{BufMut as _, Bytes, BytesMut};
use futures_util::future::join_all;
use http::HeaderMap;
use http_body_util::BodyExt as _;
use prost::Message as _;
use token_broker::{
    api::{proto, v1::GetTokenResponse},
    clock::Instant,
    token::Token,
};
use tower::Service as _;

use crate::site::{Ask, Site};

/// Calls that are under way at once where they wait for their record.
const AT_ONCE: usize = 64;
/// What precedes a message in gRPC, in bytes.
const FRAME: usize = 5;

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
                    black_box(encode(token));
                }
            }
            Self::Core => {
                meter.begin();
                for ask in site.asks(calls) {
                    black_box(answer(site, ask).await);
                }
            }
            Self::Audited => {
                meter.begin();
                let callers = (0..AT_ONCE).map(|nth| {
                    let site = Arc::clone(site);
                    tokio::spawn(async move {
                        for ask in site.asks(calls).skip(nth).step_by(AT_ONCE) {
                            black_box(answer(&site, ask).await);
                        }
                    })
                });
                for ended in join_all(callers).await {
                    ended.unwrap();
                }
            }
            Self::Door => {
                let requests: Vec<_> = site.asks(calls).map(Ask::request).collect();
                let mut door = site.door.clone();
                meter.begin();
                for request in requests {
                    let reply = door.call(request).await.unwrap();
                    let reply = reply.into_body().collect().await.unwrap();
                    assert!(reply.trailers().is_none_or(is_ok));
                    black_box(reply);
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
async fn answer(site: &Site, ask: &Ask) -> Bytes {
    let granted = site.authorise(ask);
    let token = site.token(&ask.asker(), &granted).await;
    encode(&token)
}

/// The reply as gRPC frames it.
fn encode(token: &Token) -> Bytes {
    let expires_at = token.expires_at();
    let left = expires_at.instant.saturating_duration_since(Instant::now());
    let reply = GetTokenResponse {
        access_token: token.access_token.expose().to_owned(),
        token_type: "Bearer".to_owned(),
        expires_at: Some(expires_at.wall.into()),
        expires_in: proto(left),
        token_id: token.id.to_string(),
    };
    let length = reply.encoded_len();
    let mut frame = BytesMut::with_capacity(FRAME + length);
    frame.put_u8(0);
    frame.put_u32(u32::try_from(length).unwrap());
    reply.encode(&mut frame).unwrap();
    frame.freeze()
}

fn is_ok(trailers: &HeaderMap) -> bool {
    trailers.get("grpc-status").is_some_and(|code| code == "0")
}
