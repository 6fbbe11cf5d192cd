//! Tokens without gRPC, for programs that can change the address they ask, and no more:
//! OAuth 2's token endpoint, and Occtoo's. Who calls is what the certificate says here as
//! well; whatever such programs send to prove themselves is ignored.

mod body;
mod form;
mod metadata;
mod oauth2;
mod occtoo;
mod refusal;
mod reply;

use std::{sync::Arc, time::Duration};

use axum::{Router, extract::Request, routing};
use tokio::time::timeout_at;
use tracing::debug;

use self::refusal::{Fault, Refusal};
use crate::{
    admission::Connected,
    broker::{Asker, Broker, CallError},
    clock::Instant,
    destination::DestinationId,
    metrics::Metrics,
    request_id::RequestId,
    token::Token,
};

/// What the doors without gRPC are made of.
pub struct Door {
    /// Who answers.
    pub broker: Arc<Broker>,
    /// Where calls are counted.
    pub metrics: Arc<Metrics>,
}

impl Door {
    /// Everything that answers without gRPC. What else is asked for is the other door's.
    pub fn router(self) -> Router {
        Router::new()
            .route(oauth2::PATH, routing::post(oauth2::token))
            .route(metadata::PATH, routing::get(metadata::metadata))
            .route(occtoo::PATH, routing::post(occtoo::token))
            .with_state(Arc::new(self))
    }

    /// Answers one call with a token: lets it in, learns what it wants, asks the policy and
    /// then the cache; and counts and logs what became of it. All of it has the time that
    /// the longest call may take.
    async fn token(
        &self,
        name: &'static str,
        visitor: Visitor,
        wanted: impl Future<Output = Result<DestinationId, Refusal>>,
    ) -> Result<Arc<Token>, Refusal> {
        // Counted as a connection, for nothing that it asks is a call.
        let Visitor { peer, request_id } = visitor;
        let peer = peer.ok_or(CallError::CallerUnidentified)?;
        let asker = Asker {
            caller: peer.id().clone(),
            door: name,
            request_id,
        };
        let mut granted = None;
        let result = self.ask(&peer, &asker, wanted, &mut granted).await;
        // Only a granted destination is named: anything else is the caller's invention.
        let destination = granted.as_ref().map_or("", DestinationId::as_str);
        let outcome = result.as_ref().map_or_else(Refusal::code, |_| "ok");
        self.metrics.call(name, destination, outcome);
        debug!(
            caller = asker.caller.as_str(),
            destination,
            outcome,
            request_id = asker.request_id.as_str(),
            "answered"
        );
        result
    }

    async fn ask(
        &self,
        peer: &Connected,
        asker: &Asker,
        wanted: impl Future<Output = Result<DestinationId, Refusal>>,
        named: &mut Option<DestinationId>,
    ) -> Result<Arc<Token>, Refusal> {
        let _call = peer.call().map_err(CallError::from)?;
        let deadline = Instant::now() + peer.longest_call();
        let wanted = timeout_at(deadline, wanted)
            .await
            .unwrap_or(Err(Fault::TooSlow.into()))?;
        let granted = self.broker.authorise(&asker.caller, &wanted)?;
        *named = Some(granted.destination.clone());
        let token = self.broker.token(asker, &granted, Duration::ZERO);
        let token = timeout_at(deadline, token).await;
        Ok(token.unwrap_or(Err(CallError::DeadlineExceeded))?)
    }
}

/// Who calls, by the verified certificate of the connection and by nothing else, and how
/// they name the call.
struct Visitor {
    peer: Option<Arc<Connected>>,
    request_id: RequestId,
}

impl Visitor {
    fn of(request: &Request) -> Self {
        Self {
            peer: request.extensions().get::<Arc<Connected>>().cloned(),
            request_id: RequestId::of(request.headers()),
        }
    }
}
