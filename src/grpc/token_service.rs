//! `tokenbroker.v1.TokenBroker`.

use std::{sync::Arc, time::Duration};

use futures_util::{
    StreamExt as _,
    stream::{self, BoxStream},
};
use tokio::time::timeout_at;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};
use tracing::debug;

use super::{
    DOOR, deadline,
    status::{status, unavailable},
};
use crate::{
    admission::Connected,
    api::{
        proto, span,
        v1::{
            GetTokenRequest, GetTokenResponse, ReportOutcome, ReportRejectedRequest,
            ReportRejectedResponse, WatchTokenRequest, WatchTokenResponse,
            token_broker_server::TokenBroker, watch_token_response::Event,
        },
    },
    broker::{Asker, Broker, CallError, Granted},
    clock::Instant,
    destination::DestinationId,
    metrics::Metrics,
    request_id::RequestId,
    slot::Report,
    token::{Token, TokenId},
};

/// Answers callers over gRPC.
pub(super) struct TokenService {
    broker: Arc<Broker>,
    metrics: Arc<Metrics>,
    stop: CancellationToken,
}

impl TokenService {
    /// A service whose streams end when `stop` is cancelled.
    pub(super) fn new(broker: Arc<Broker>, metrics: Arc<Metrics>, stop: CancellationToken) -> Self {
        Self {
            broker,
            metrics,
            stop,
        }
    }

    /// Parses what every call begins with, and asks the policy.
    fn authorise<T>(
        &self,
        request: &Request<T>,
        request_id: &RequestId,
        destination: &str,
    ) -> Result<(Asker, Granted), CallError> {
        let caller = peer(request)?.id();
        let destination =
            DestinationId::parse(destination).map_err(|_| CallError::InvalidDestinationId)?;
        let granted = self.broker.authorise(caller, &destination)?;
        let asker = Asker {
            caller: caller.clone(),
            door: DOOR,
            request_id: request_id.clone(),
        };
        Ok((asker, granted))
    }

    /// Counts and logs an answered call, and turns its error into a status.
    fn answer<T, R>(
        &self,
        request: &Request<T>,
        request_id: &RequestId,
        granted: Option<&Granted>,
        result: Result<R, CallError>,
    ) -> Result<Response<R>, Status> {
        // Only a granted destination is named: anything else is the caller's invention.
        let destination = granted.map_or("", |granted| granted.destination.as_str());
        let outcome = result.as_ref().map_or_else(CallError::code, |_| "ok");
        self.metrics.call(DOOR, destination, outcome);
        let caller = peer(request).map_or("", |peer| peer.id().as_str());
        debug!(caller, destination, outcome, %request_id, "answered");
        result.map(Response::new).map_err(status)
    }
}

#[tonic::async_trait]
impl TokenBroker for TokenService {
    type WatchTokenStream = BoxStream<'static, Result<WatchTokenResponse, Status>>;

    async fn get_token(
        &self,
        request: Request<GetTokenRequest>,
    ) -> Result<Response<GetTokenResponse>, Status> {
        let body = request.get_ref();
        let id = RequestId::of(request.metadata().as_ref());
        let (asker, granted) = match self.authorise(&request, &id, &body.destination_id) {
            Ok(authorised) => authorised,
            Err(error) => return self.answer(&request, &id, None, Err(error)),
        };
        let result = match validity(body.min_validity.as_ref()) {
            Ok(min_validity) => {
                let longest = peer(&request).map_or(Duration::ZERO, Connected::longest_call);
                let deadline = deadline::of(request.metadata(), longest);
                let deadline = Some(Instant::now() + deadline);
                until(deadline, self.broker.token(&asker, &granted, min_validity)).await
            }
            Err(error) => Err(error),
        };
        let reply = result.map(|token| reply(&token));
        self.answer(&request, &id, Some(&granted), reply)
    }

    async fn watch_token(
        &self,
        request: Request<WatchTokenRequest>,
    ) -> Result<Response<Self::WatchTokenStream>, Status> {
        let body = request.get_ref();
        let id = RequestId::of(request.metadata().as_ref());
        let (asker, granted) = match self.authorise(&request, &id, &body.destination_id) {
            Ok(authorised) => authorised,
            Err(error) => return self.answer(&request, &id, None, Err(error)),
        };
        // A stream may last, so only the caller's own deadline ends it.
        let deadline = deadline::asked(request.metadata()).map(|asked| Instant::now() + asked);
        let watch = self.broker.watch(asker, &granted);
        let events = stream::unfold(Some(watch), move |watch| async move {
            let mut watch = watch?;
            let event = match until(deadline, watch.next()).await {
                Ok(token) => Event::Token(reply(&token)),
                Err(error @ (CallError::Refused(_) | CallError::AuditUnavailable { .. })) => {
                    Event::Unavailable(unavailable(error))
                }
                // Not granted any more, or too late: the end.
                Err(error) => return Some((Err(status(error)), None)),
            };
            Some((Ok(WatchTokenResponse { event: Some(event) }), Some(watch)))
        });
        let stream = events
            .take_until(self.stop.clone().cancelled_owned())
            .boxed();
        self.answer(&request, &id, Some(&granted), Ok(stream))
    }

    async fn report_rejected(
        &self,
        request: Request<ReportRejectedRequest>,
    ) -> Result<Response<ReportRejectedResponse>, Status> {
        let body = request.get_ref();
        let id = RequestId::of(request.metadata().as_ref());
        let (_, granted) = match self.authorise(&request, &id, &body.destination_id) {
            Ok(authorised) => authorised,
            Err(error) => return self.answer(&request, &id, None, Err(error)),
        };
        // A text that names no token cannot name the current one.
        let report = TokenId::parse(&body.token_id).map_or(Report::AlreadyReplaced, |id| {
            let afford = || peer(&request).is_ok_and(|peer| peer.may_report(Instant::now()));
            self.broker.report(&granted, id, afford)
        });
        let outcome = match report {
            Report::Refresh | Report::UnderWay => ReportOutcome::Refreshing,
            Report::AlreadyReplaced => ReportOutcome::AlreadyReplaced,
            Report::TooOften => ReportOutcome::IgnoredRate,
        };
        let reply = ReportRejectedResponse {
            outcome: outcome.into(),
        };
        self.answer(&request, &id, Some(&granted), Ok(reply))
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

/// Waits for a call, until its deadline if it has one.
pub(super) async fn until<T>(
    deadline: Option<Instant>,
    call: impl Future<Output = Result<T, CallError>>,
) -> Result<T, CallError> {
    match deadline {
        Some(deadline) => timeout_at(deadline, call)
            .await
            .unwrap_or(Err(CallError::DeadlineExceeded)),
        None => call.await,
    }
}

fn validity(wanted: Option<&prost_types::Duration>) -> Result<Duration, CallError> {
    let span = wanted.map_or(Some(Duration::ZERO), span);
    span.ok_or(CallError::InvalidMinValidity)
}

fn reply(token: &Token) -> GetTokenResponse {
    let expires_at = token.expires_at();
    let left = expires_at.instant.saturating_duration_since(Instant::now());
    GetTokenResponse {
        access_token: token.access_token.expose().to_owned(),
        token_type: "Bearer".to_owned(),
        expires_at: Some(expires_at.wall.into()),
        expires_in: proto(left),
        token_id: token.id.to_string(),
    }
}

#[cfg(test)]
mod fuzz;
