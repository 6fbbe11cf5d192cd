//! `tokenbroker.v1.TokenBroker`.

use std::{
    future::poll_fn,
    pin::{Pin, pin},
    sync::Arc,
    time::Duration,
};

use futures_util::{
    StreamExt as _,
    stream::{self, BoxStream},
};
use http::HeaderMap;
use tokio::time::sleep_until;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

use super::{
    DOOR, deadline, method,
    reply::message,
    status::{note_error, note_status, status, unavailable},
};
use crate::{
    admission::Connected,
    api::{
        span,
        v1::{
            GetTokenRequest, GetTokenResponse, ReportOutcome, ReportRejectedRequest,
            ReportRejectedResponse, WatchTokenRequest, WatchTokenResponse,
            token_broker_server::TokenBroker, watch_token_response::Event,
        },
    },
    broker::{Asker, Broker, CallError, Granted},
    clock::Instant,
    destination::DestinationName,
    request_id::RequestId,
    slot::Report,
    telemetry::{Call, Calls, End, Operation},
    token::{Token, TokenId},
};

/// Answers callers over gRPC.
pub(super) struct TokenService {
    broker: Arc<Broker>,
    calls: Calls,
    stop: CancellationToken,
}

impl TokenService {
    /// A service whose streams end when `stop` is cancelled.
    pub(super) fn new(broker: Arc<Broker>, calls: Calls, stop: CancellationToken) -> Self {
        Self {
            broker,
            calls,
            stop,
        }
    }

    fn begin(&self, method: &'static str, headers: &HeaderMap) -> Call {
        let id = RequestId::of(headers);
        self.calls.begin(DOOR, Operation::Grpc(method), headers, id)
    }

    /// Parses what every call begins with, and asks the policy.
    fn authorise(
        &self,
        peer: Result<&Connected, CallError>,
        call: &Call,
        destination: &str,
    ) -> Result<(Asker, Granted), CallError> {
        let caller = peer?.id();
        let destination =
            DestinationName::parse(destination).map_err(|_| CallError::InvalidDestinationId)?;
        let granted = self.broker.authorise(caller, destination)?;
        Ok((Asker::of(caller.clone(), call), granted))
    }

    /// Counts and logs an answered call.
    fn answered<T>(
        &self,
        peer: Result<&Connected, CallError>,
        call: &Call,
        granted: Option<&Granted>,
        result: Result<T, CallError>,
    ) -> Result<T, CallError> {
        // Only a granted destination is named: anything else is the caller's invention.
        let to = granted.map(|granted| &*granted.tally);
        let outcome = result.as_ref().map_or_else(CallError::code, |_| "ok");
        note_error(result.as_ref().err().copied(), &call.span);
        self.calls.answered(call, name(peer), to, outcome);
        result
    }

    /// A token for whoever asks with these headers for this: one call, in whichever way it
    /// came in.
    pub(super) async fn token(
        &self,
        peer: Result<&Connected, CallError>,
        headers: &HeaderMap,
        request: &GetTokenRequest,
    ) -> Result<Arc<Token>, CallError> {
        let call = self.begin(method::GET_TOKEN, headers);
        let (asker, granted) = match self.authorise(peer, &call, &request.destination_id) {
            Ok(authorised) => authorised,
            Err(error) => return self.answered(peer, &call, None, Err(error)),
        };
        let result = match validity(request.min_validity.as_ref()) {
            Ok(min_validity) => {
                let longest = peer.map_or(Duration::ZERO, Connected::longest_call);
                let deadline = Some(Instant::now() + deadline::of(headers, longest));
                let token = pin!(self.broker.token(&asker, &granted, min_validity));
                until(deadline, token).await
            }
            Err(error) => Err(error),
        };
        if let Ok(token) = &result {
            call.span.token(token.id);
        }
        self.answered(peer, &call, Some(&granted), result)
    }
}

#[tonic::async_trait]
impl TokenBroker for TokenService {
    type WatchTokenStream = BoxStream<'static, Result<WatchTokenResponse, Status>>;

    async fn get_token(
        &self,
        request: Request<GetTokenRequest>,
    ) -> Result<Response<GetTokenResponse>, Status> {
        let headers = request.metadata().as_ref();
        let token = self.token(peer(&request), headers, request.get_ref()).await;
        let token = token.map_err(status)?;
        Ok(Response::new(message(&token)))
    }

    async fn watch_token(
        &self,
        request: Request<WatchTokenRequest>,
    ) -> Result<Response<Self::WatchTokenStream>, Status> {
        let body = request.get_ref();
        let call = self.begin(method::WATCH_TOKEN, request.metadata().as_ref());
        let peer = peer(&request);
        let (asker, granted) = match self.authorise(peer, &call, &body.destination_id) {
            Ok(authorised) => authorised,
            Err(error) => {
                let refused = self.answered(peer, &call, None, Err(error));
                return refused.map_err(status);
            }
        };
        // A stream may last, so only the caller's own deadline ends it.
        let deadline =
            deadline::asked(request.metadata().as_ref()).map(|asked| Instant::now() + asked);
        let span = call.span.clone();
        let watch = Some((self.broker.watch(asker, &granted), span));
        let events = stream::unfold(watch, move |watch| async move {
            let (mut watch, span) = watch?;
            let next = until(deadline, pin!(watch.next())).await;
            let event = match next {
                Ok(token) => Event::Token(message(&token)),
                Err(error @ (CallError::Refused(_) | CallError::AuditUnavailable { .. })) => {
                    Event::Unavailable(unavailable(error))
                }
                // Not granted any more, or too late: the end.
                Err(error) => {
                    let last = Err(status(error));
                    note_status(&last, &span);
                    span.end(End::Badly(error.code()));
                    return Some((last, None));
                }
            };
            let response = WatchTokenResponse { event: Some(event) };
            Some((Ok(response), Some((watch, span))))
        });
        let stream = events
            .take_until(self.stop.clone().cancelled_owned())
            .boxed();
        let to = Some(&*granted.tally);
        self.calls.opened(&call, name(peer), to);
        Ok(Response::new(stream))
    }

    async fn report_rejected(
        &self,
        request: Request<ReportRejectedRequest>,
    ) -> Result<Response<ReportRejectedResponse>, Status> {
        let body = request.get_ref();
        let call = self.begin(method::REPORT_REJECTED, request.metadata().as_ref());
        let peer = peer(&request);
        let (_, granted) = match self.authorise(peer, &call, &body.destination_id) {
            Ok(authorised) => authorised,
            Err(error) => {
                let refused = self.answered(peer, &call, None, Err(error));
                return refused.map_err(status);
            }
        };
        // A text that names no token cannot name the current one.
        let report = TokenId::parse(&body.token_id).map_or(Report::AlreadyReplaced, |id| {
            let afford = || peer.is_ok_and(|peer| peer.may_report(Instant::now()));
            self.broker.report(&granted, id, afford, &call.span)
        });
        let outcome = match report {
            Report::Refresh | Report::UnderWay => ReportOutcome::Refreshing,
            Report::AlreadyReplaced => ReportOutcome::AlreadyReplaced,
            Report::TooOften => ReportOutcome::IgnoredRate,
        };
        let reply = ReportRejectedResponse {
            outcome: outcome.into(),
        };
        let reply = self.answered(peer, &call, Some(&granted), Ok(reply));
        reply.map(Response::new).map_err(status)
    }
}

/// Who calls, by the verified certificate of the connection and by nothing else.
pub(super) fn peer<T>(request: &Request<T>) -> Result<&Connected, CallError> {
    request
        .extensions()
        .get::<Arc<Connected>>()
        .map(|peer| &**peer)
        .ok_or(CallError::CallerUnidentified)
}

/// The name of who calls; empty where there is none.
fn name(peer: Result<&Connected, CallError>) -> &str {
    peer.map_or("", |peer| peer.id().as_str())
}

/// Waits for a call, until its deadline if it has one. The call is pinned where it is: what an
/// `async fn` is given takes its place twice.
pub(super) fn until<T>(
    deadline: Option<Instant>,
    mut call: Pin<&mut impl Future<Output = Result<T, CallError>>>,
) -> impl Future<Output = Result<T, CallError>> {
    let mut timer = None;
    poll_fn(move |context| {
        let answer = call.as_mut().poll(context);
        let Some(deadline) = deadline.filter(|_| answer.is_pending()) else {
            return answer;
        };
        // Only who has to wait pays for a timer.
        let timer = timer.get_or_insert_with(|| Box::pin(sleep_until(deadline)));
        let is_late = timer.as_mut().poll(context);
        is_late.map(|()| Err(CallError::DeadlineExceeded))
    })
}

fn validity(wanted: Option<&prost_types::Duration>) -> Result<Duration, CallError> {
    let span = wanted.map_or(Some(Duration::ZERO), span);
    span.ok_or(CallError::InvalidMinValidity)
}

#[cfg(test)]
mod fuzz;
