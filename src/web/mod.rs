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

use axum::{Router, extract::Request, response::Response, routing};
use tokio::time::timeout_at;

use self::refusal::{Fault, Refusal};
use crate::{
    admission::Connected,
    broker::{Asker, Broker, CallError},
    clock::Instant,
    destination::DestinationId,
    request_id::RequestId,
    telemetry::{Call, Calls, Operation},
    token::Token,
};

/// What the doors without gRPC are made of.
pub struct Door {
    /// Who answers.
    pub broker: Arc<Broker>,
    /// Where calls are counted, logged and traced.
    pub calls: Calls,
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

    /// A call begins at a route, if the certificate of the connection names a caller.
    fn visit(&self, name: &'static str, route: &'static str, request: &Request) -> Option<Visit> {
        let peer = peer(request)?;
        let (operation, headers) = (Operation::Post(route), request.headers());
        let id = RequestId::of(headers);
        let call = self.calls.begin(name, operation, headers, id);
        Some(Visit { peer, call })
    }

    /// Answers one call with a token: lets it in, learns what it wants, asks the policy and
    /// then the cache; and counts and logs what became of it. All of it has the time that
    /// the longest call may take.
    async fn token(
        &self,
        visit: Option<Visit>,
        wanted: impl Future<Output = Result<DestinationId, Refusal>>,
        answer: impl Fn(Result<&Token, Refusal>) -> Response,
    ) -> Response {
        // Counted as a connection, for nothing that it asks is a call.
        let Some(Visit { peer, call }) = visit else {
            return answer(Err(CallError::CallerUnidentified.into()));
        };
        let asker = Asker::of(peer.id().clone(), &call);
        let mut granted = None;
        let result = self.ask(&peer, &asker, wanted, &mut granted).await;
        // Only a granted destination is named: anything else is the caller's invention.
        let destination = granted.as_ref().map_or("", DestinationId::as_str);
        let outcome = result.as_ref().map_or_else(Refusal::code, |_| "ok");
        if let Ok(token) = &result {
            call.span.token(token.id);
        }
        let response = answer(result.as_deref().map_err(|refusal| *refusal));
        let status = response.status();
        call.span
            .number("http.response.status_code", status.as_u16());
        if !status.is_server_error() {
            call.span.blames_caller();
        }
        let caller = asker.caller.as_str();
        self.calls.answered(&call, caller, destination, outcome);
        response
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
        *named = Some(granted.destination().clone());
        let token = self.broker.token(asker, &granted, Duration::ZERO);
        let token = timeout_at(deadline, token).await;
        Ok(token.unwrap_or(Err(CallError::DeadlineExceeded))?)
    }
}

/// A call, and who calls.
struct Visit {
    peer: Arc<Connected>,
    call: Call,
}

/// Who calls, by the verified certificate of the connection and by nothing else.
fn peer(request: &Request) -> Option<Arc<Connected>> {
    request.extensions().get::<Arc<Connected>>().cloned()
}
