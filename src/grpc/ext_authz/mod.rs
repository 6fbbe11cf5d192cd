//! `envoy.service.auth.v3.Authorization`: a proxy asks for each request, and the token
//! comes back as a header for it.

mod check;
mod verdict;

use std::{pin::pin, sync::Arc, time::Duration};

use envoy_types::pb::envoy::service::auth::v3::CheckResponse;
use tonic::{Request, Response, Status};

pub(super) use self::{check::Check, verdict::verdict};
use super::{
    deadline,
    envoy::authorization_server::Authorization,
    method,
    status::note_in_band,
    token_service::{peer, until},
};
use crate::{
    broker::{Asker, Broker, CallError, Granted},
    clock::Instant,
    destination::DestinationId,
    mesh::{LiveMesh, Mesh},
    metrics::Door,
    request_id::RequestId,
    telemetry::{Call, Calls, Operation},
    token::Token,
    trace_context::{TRACEPARENT, TraceContext},
};

/// How the metrics name this door.
pub(super) const DOOR: Door = Door::ExtAuthz;

/// Answers proxies.
pub(super) struct ExtAuthz {
    pub(super) broker: Arc<Broker>,
    pub(super) calls: Calls,
    pub(super) mesh: Arc<LiveMesh>,
}

impl ExtAuthz {
    /// Who asks, and for what, and whether they may have it.
    fn authorise(
        &self,
        request: &Request<Check>,
        call: &Call,
    ) -> (Option<Asker>, Result<Granted, CallError>) {
        let mesh = self.mesh.load();
        let check = request.get_ref();
        let caller = peer(request)
            .ok()
            .and_then(|peer| mesh.caller(peer.id(), &check.principal));
        let Some(caller) = caller else {
            return (None, Err(CallError::CallerUnidentified));
        };
        let granted = destination(&mesh, check)
            .and_then(|destination| self.broker.authorise(&caller, &destination));
        (Some(Asker::of(caller, call)), granted)
    }

    /// A token within the deadline of the call.
    async fn token<T>(
        &self,
        request: &Request<T>,
        asker: &Asker,
        granted: &Granted,
    ) -> Result<Arc<Token>, CallError> {
        let longest = peer(request)?.longest_call();
        let deadline = Instant::now() + deadline::of(request.metadata().as_ref(), longest);
        let token = pin!(self.broker.token(asker, granted, Duration::ZERO));
        until(Some(deadline), token).await
    }
}

#[tonic::async_trait]
impl Authorization for ExtAuthz {
    async fn check(&self, request: Request<Check>) -> Result<Response<CheckResponse>, Status> {
        let check = request.get_ref();
        let operation = Operation::Grpc(method::CHECK);
        let id = RequestId::given(check.request_id.as_deref());
        // Which trace it belongs to is the proxy's own word, or that of its client.
        let own = request.metadata().as_ref();
        let call = if own.contains_key(TRACEPARENT) {
            self.calls.begin(DOOR, operation, own, id)
        } else {
            let context = check.traceparent.as_deref();
            let context = context.and_then(|text| TraceContext::parse(text.as_bytes()));
            let state = || check.tracestate.clone().unwrap_or_default();
            self.calls.begin_in(DOOR, operation, context, state, id)
        };
        let (asker, granted) = self.authorise(&request, &call);
        let result = match (&asker, &granted) {
            (Some(asker), Ok(granted)) => self.token(&request, asker, granted).await,
            (None, Ok(_)) => Err(CallError::CallerUnidentified),
            (_, Err(error)) => Err(*error),
        };
        // Only a granted destination is named: anything else is the caller's invention.
        let to = granted.as_ref().ok().map(|granted| &*granted.tally);
        let outcome = result.as_ref().map_or_else(CallError::code, |_| "ok");
        let caller = asker.as_ref().map_or("", |asker| asker.caller.as_str());
        if let Ok(token) = &result {
            call.span.token(token.id);
        }
        note_in_band(result.as_ref().err().copied(), &call.span);
        let verdict = verdict(result.as_deref().map_err(|error| *error));
        self.calls.answered(&call, caller, to, outcome);
        Ok(Response::new(verdict))
    }
}

/// What the route of the proxy says, or else where the request itself goes.
fn destination(mesh: &Mesh, check: &Check) -> Result<DestinationId, CallError> {
    if let Some(id) = &check.destination_id {
        return DestinationId::parse(id).map_err(|_| CallError::InvalidDestinationId);
    }
    let found = mesh.routes.find(&check.host, &check.path);
    // A request to nowhere looks like one that is not granted.
    found.cloned().ok_or(CallError::NotGranted)
}
