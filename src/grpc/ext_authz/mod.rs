//! `envoy.service.auth.v3.Authorization`: a proxy asks for each request, and the token
//! comes back as a header for it.

mod verdict;

use std::{collections::HashMap, pin::pin, sync::Arc, time::Duration};

use envoy_types::pb::envoy::service::auth::v3::{
    AttributeContext, CheckRequest, CheckResponse, authorization_server::Authorization,
};
use http::HeaderName;
use tonic::{Request, Response, Status};

pub(super) use self::verdict::verdict;
use super::{
    deadline, method,
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
    trace_context::{TRACEPARENT, TRACESTATE, TraceContext},
};

/// How the metrics name this door.
pub(super) const DOOR: Door = Door::ExtAuthz;
/// Where a route of the proxy names the destination itself.
const DESTINATION_ID: &str = "destination_id";

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
        request: &Request<CheckRequest>,
        call: &Call,
    ) -> (Option<Asker>, Result<Granted, CallError>) {
        let mesh = self.mesh.load();
        let attributes = request.get_ref().attributes.as_ref();
        let source = attributes.and_then(|attributes| attributes.source.as_ref());
        let principal = source.map_or("", |source| source.principal.as_str());
        let caller = peer(request)
            .ok()
            .and_then(|peer| mesh.caller(peer.id(), principal));
        let Some(caller) = caller else {
            return (None, Err(CallError::CallerUnidentified));
        };
        let granted = attributes
            .map_or(Err(CallError::NotGranted), |attributes| {
                destination(&mesh, attributes)
            })
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
    async fn check(
        &self,
        request: Request<CheckRequest>,
    ) -> Result<Response<CheckResponse>, Status> {
        let attributes = request.get_ref().attributes.as_ref();
        let (operation, id) = (Operation::Grpc(method::CHECK), request_id(attributes));
        // Which trace it belongs to is the proxy's own word, or that of its client.
        let own = request.metadata().as_ref();
        let call = match attributes.and_then(headers_of_client) {
            Some(headers) if !own.contains_key(TRACEPARENT) => {
                let said = |name: HeaderName| headers.get(name.as_str());
                let context = said(TRACEPARENT);
                let context = context.and_then(|text| TraceContext::parse(text.as_bytes()));
                let state = || said(TRACESTATE).cloned().unwrap_or_default();
                self.calls.begin_in(DOOR, operation, context, state, id)
            }
            _ => self.calls.begin(DOOR, operation, own, id),
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

/// The headers of the request that the proxy asks about.
fn headers_of_client(attributes: &AttributeContext) -> Option<&HashMap<String, String>> {
    let http = attributes.request.as_ref()?.http.as_ref()?;
    Some(&http.headers)
}

/// The name that the proxy, or its client, gave the request.
fn request_id(attributes: Option<&AttributeContext>) -> RequestId {
    let headers = attributes.and_then(headers_of_client);
    let given = headers.and_then(|headers| headers.get("x-request-id"));
    RequestId::given(given.map(String::as_str))
}

/// What the route of the proxy says, or else where the request itself goes.
fn destination(mesh: &Mesh, attributes: &AttributeContext) -> Result<DestinationId, CallError> {
    if let Some(id) = attributes.context_extensions.get(DESTINATION_ID) {
        return DestinationId::parse(id).map_err(|_| CallError::InvalidDestinationId);
    }
    let request = attributes.request.as_ref();
    let found = request
        .and_then(|request| request.http.as_ref())
        .and_then(|http| mesh.routes.find(&http.host, &http.path));
    // A request to nowhere looks like one that is not granted.
    found.cloned().ok_or(CallError::NotGranted)
}
