//! A caller's connection that never connects anew, so that its end can be seen, and that
//! keeps no deadlines of its own.

use std::{
    io,
    task::{Context, Poll},
};

use futures_util::future::{BoxFuture, FutureExt as _};
use http::{Request, Response, Uri};
use hyper::{body::Incoming, client::conn::http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use token_broker::api::v1::{
    GetTokenRequest, GetTokenResponse, WatchTokenRequest, WatchTokenResponse,
    token_broker_client::TokenBrokerClient,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _},
    task::JoinHandle,
    time::timeout,
};
use tonic::{Status, Streaming, body::Body};

use crate::{
    disguise::{Disguise, Papers},
    trial::{GIVE_UP, Trial},
};

/// One connection.
pub(crate) struct Line {
    pub(crate) client: TokenBrokerClient<Wire>,
    pub(crate) wire: Wire,
    ended: JoinHandle<hyper::Result<()>>,
}

/// What requests are sent on.
#[derive(Clone)]
pub(crate) struct Wire(http2::SendRequest<Body>);

impl tower::Service<Request<Body>> for Wire {
    type Response = Response<Incoming>;
    type Error = hyper::Error;
    type Future = BoxFuture<'static, hyper::Result<Response<Incoming>>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<hyper::Result<()>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        self.0.send_request(request).boxed()
    }
}

impl Line {
    /// A connection of this caller.
    pub(crate) async fn of(trial: &Trial, caller: &str) -> Self {
        Self::open(&Disguise::of(trial, caller)).await.unwrap()
    }

    /// A connection with these papers, of the trial's broker's liking.
    pub(crate) async fn with(trial: &Trial, papers: &Papers) -> Self {
        Self::open(&Disguise::with(trial, Some(papers)))
            .await
            .unwrap()
    }

    pub(crate) async fn open(disguise: &Disguise) -> io::Result<Self> {
        let stream = TokioIo::new(disguise.handshake().await?);
        let (sender, connection) = http2::handshake(TokioExecutor::new(), stream)
            .await
            .map_err(io::Error::other)?;
        let wire = Wire(sender);
        let origin = Uri::from_static("https://broker");
        Ok(Self {
            client: TokenBrokerClient::with_origin(wire.clone(), origin),
            wire,
            ended: tokio::spawn(connection),
        })
    }

    pub(crate) async fn ask(&mut self, destination: &str) -> Result<GetTokenResponse, Status> {
        ask(&mut self.client, destination).await
    }

    pub(crate) async fn watch(&mut self, destination: &str) -> Streaming<WatchTokenResponse> {
        let request = WatchTokenRequest {
            destination_id: destination.to_owned(),
        };
        self.client.watch_token(request).await.unwrap().into_inner()
    }

    /// Whether the broker has not hung up.
    pub(crate) fn is_open(&self) -> bool {
        !self.ended.is_finished()
    }

    /// Waits until the broker hangs up; in good order, that is with a GOAWAY and when all
    /// streams have ended, or not.
    pub(crate) async fn ended(&mut self) -> hyper::Result<()> {
        let ended = timeout(GIVE_UP, &mut self.ended).await;
        ended.expect("the broker does not hang up").unwrap()
    }
}

/// Asks for a token.
pub(crate) async fn ask(
    client: &mut TokenBrokerClient<Wire>,
    destination: &str,
) -> Result<GetTokenResponse, Status> {
    let request = GetTokenRequest {
        destination_id: destination.to_owned(),
        min_validity: None,
    };
    let answer = timeout(GIVE_UP, client.get_token(request)).await;
    answer
        .expect("the broker does not answer")
        .map(tonic::Response::into_inner)
}

/// Waits until the broker hangs up on a peer that says nothing more.
pub(crate) async fn hung_up(mut peer: impl AsyncRead + Unpin) {
    let mut received = Vec::new();
    let read = async { while peer.read_buf(&mut received).await.is_ok_and(|n| n > 0) {} };
    timeout(GIVE_UP, read).await.expect("it does not hang up");
}
