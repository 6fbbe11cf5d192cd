//! `tokenbroker.v1.TokenBroker`.

use std::{sync::Arc, time::Duration};

use tokio::time::timeout;
use tonic::{Request, Response, Status};
use tracing::debug;

use super::{deadline, status::status};
use crate::{
    api::v1::{GetTokenRequest, GetTokenResponse, token_broker_server::TokenBroker},
    broker::{Broker, CallError},
    clock::Instant,
    destination::DestinationId,
    identity::{CallerId, Peer},
    metrics::Metrics,
    token::Token,
};

/// How the metrics name this door.
const DOOR: &str = "grpc";

/// Answers callers over gRPC.
pub struct TokenService {
    broker: Arc<Broker>,
    metrics: Arc<Metrics>,
    max_deadline: Duration,
}

impl TokenService {
    /// A service in which no call takes longer than `max_deadline`.
    pub fn new(broker: Arc<Broker>, metrics: Arc<Metrics>, max_deadline: Duration) -> Self {
        Self {
            broker,
            metrics,
            max_deadline,
        }
    }

    /// One call, from its parsing to its token. `destination` is filled in as soon as the
    /// caller is known to be granted it.
    async fn token(
        &self,
        request: &Request<GetTokenRequest>,
        granted_destination: &mut Option<DestinationId>,
    ) -> Result<Arc<Token>, CallError> {
        let deadline = deadline::of(request.metadata(), self.max_deadline);
        let caller = caller(request)?;
        let body = request.get_ref();
        let destination = DestinationId::parse(&body.destination_id)
            .map_err(|_| CallError::InvalidDestinationId)?;
        let min_validity = validity(body.min_validity)?;

        let granted = self.broker.authorise(caller, &destination)?;
        *granted_destination = Some(granted.destination.clone());
        timeout(deadline, self.broker.token(&granted, min_validity))
            .await
            .unwrap_or(Err(CallError::DeadlineExceeded))
    }
}

#[tonic::async_trait]
impl TokenBroker for TokenService {
    async fn get_token(
        &self,
        request: Request<GetTokenRequest>,
    ) -> Result<Response<GetTokenResponse>, Status> {
        let mut destination = None;
        let result = self.token(&request, &mut destination).await;
        let destination = destination.as_ref().map_or("", DestinationId::as_str);
        let outcome = result.as_ref().map_or_else(CallError::code, |_| "ok");
        self.metrics.call(DOOR, destination, outcome);
        let caller = caller(&request).map_or("", CallerId::as_str);
        match result {
            Ok(token) => {
                debug!(caller, destination, token_id = %token.id, outcome, "answered");
                Ok(Response::new(reply(&token)))
            }
            Err(error) => {
                debug!(caller, destination, outcome, "answered");
                Err(status(error))
            }
        }
    }
}

/// Who calls, by the verified certificate of the connection and by nothing else.
fn caller<T>(request: &Request<T>) -> Result<&CallerId, CallError> {
    request
        .extensions()
        .get::<Peer>()
        .and_then(|peer| peer.0.as_ref().ok())
        .ok_or(CallError::CallerUnidentified)
}

fn validity(wanted: Option<prost_types::Duration>) -> Result<Duration, CallError> {
    wanted.map_or(Ok(Duration::ZERO), |wanted| {
        Duration::try_from(wanted).map_err(|_| CallError::InvalidMinValidity)
    })
}

fn reply(token: &Token) -> GetTokenResponse {
    let expires_at = token.expires_at();
    let left = expires_at.instant.saturating_duration_since(Instant::now());
    GetTokenResponse {
        access_token: token.access_token.expose().to_owned(),
        token_type: "Bearer".to_owned(),
        expires_at: Some(expires_at.wall.into()),
        expires_in: prost_types::Duration::try_from(left).ok(),
        token_id: token.id.to_string(),
    }
}
