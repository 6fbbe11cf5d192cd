//! The gRPC door: the one room that knows tonic's `Status`.

mod admin_service;
mod deadline;
mod envoy;
mod ext_authz;
mod health;
mod method;
mod refusal;
mod reply;
mod sds;
mod shortcut;
mod status;
mod token_service;

use std::{sync::Arc, time::Duration};

use axum::{
    Router,
    extract::{Request as HttpRequest, State},
    http::{HeaderMap, StatusCode, Version, header::CONTENT_TYPE},
    middleware::{self, Next},
    response::{IntoResponse as _, Response},
};
use http_body_util::BodyExt as _;
use tokio::{sync::watch, time::timeout};
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use tonic_health::pb::health_server::{HealthServer, SERVICE_NAME as HEALTH};
use tonic_reflection::pb::v1::server_reflection_server::SERVICE_NAME as REFLECTION;

use self::{
    admin_service::{AdminService, act},
    envoy::{
        authorization_server::AuthorizationServer,
        secret_discovery_service_server::{SERVICE_NAME as SDS, SecretDiscoveryServiceServer},
    },
    ext_authz::ExtAuthz,
    health::HealthService,
    refusal::Service,
    sds::Sds,
    token_service::TokenService,
};
pub use self::{
    health::Readiness,
    reply::{Body, Data},
    shortcut::Shortcut,
};
use crate::{
    admission::{Connected, Stream},
    api::{
        self,
        admin::v1::admin_server::{AdminServer, SERVICE_NAME as ADMIN},
        v1::token_broker_server::TokenBrokerServer,
    },
    broker::{ActError, Broker, CallError, Operator},
    mesh::LiveMesh,
    metrics,
    request_id::RequestId,
    telemetry::{Call, Calls, Operation},
    trace_context::TraceContext,
};

/// How the metrics name this door.
const DOOR: metrics::Door = metrics::Door::Grpc;
/// A call has ended by its own deadline so long before it is ended from without.
const BACKSTOP: Duration = Duration::from_secs(1);
/// No request of this API needs more, in bytes.
const MAX_REQUEST: usize = 4 * 1024;
/// A proxy may pass on the headers of a request, of which Envoy takes 60 KiB by default.
const MAX_CHECK: usize = 80 * 1024;
/// A proxy that subscribes introduces itself with a list of all that it is made of: some
/// 60 KiB in Envoy 1.40.
const MAX_SUBSCRIPTION: usize = 128 * 1024;

/// What the gRPC door is made of.
pub struct Door {
    /// Who answers.
    pub broker: Arc<Broker>,
    /// Who answers operators.
    pub operator: Arc<Operator>,
    /// Where calls are counted, logged and traced.
    pub calls: Calls,
    /// How requests of proxies are read.
    pub mesh: Arc<LiveMesh>,
    /// What health says.
    pub readiness: watch::Receiver<Readiness>,
    /// Ends the streams of watchers.
    pub stop: CancellationToken,
}

impl Door {
    /// Everything that answers in gRPC: tokens, for callers and for proxies, operators, health
    /// and reflection, and those who ask for what there is not. And the shorter way for what
    /// is asked most.
    ///
    /// # Errors
    /// When the compiled-in descriptors do not parse, which the tests rule out.
    pub fn open(self) -> Result<(Router, Shortcut), tonic_reflection::server::Error> {
        let guard = Guard {
            operator: Arc::clone(&self.operator),
            calls: self.calls.clone(),
        };
        let reflection = tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(api::DESCRIPTORS)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
            .build_v1()?
            .max_decoding_message_size(MAX_REQUEST);
        let health =
            HealthServer::new(HealthService(self.readiness)).max_decoding_message_size(MAX_REQUEST);
        let admin = AdminService::new(self.operator, self.calls.clone());
        let admin = AdminServer::new(admin).max_decoding_message_size(MAX_REQUEST);
        let ext_authz = ExtAuthz {
            broker: Arc::clone(&self.broker),
            calls: self.calls.clone(),
            mesh: self.mesh,
        };
        let ext_authz = AuthorizationServer::new(ext_authz).max_decoding_message_size(MAX_CHECK);
        let sds = Sds {
            broker: Arc::clone(&self.broker),
            calls: self.calls.clone(),
            stop: self.stop.clone(),
        };
        let sds =
            SecretDiscoveryServiceServer::new(sds).max_decoding_message_size(MAX_SUBSCRIPTION);
        let tokens = Arc::new(TokenService::new(self.broker, self.calls, self.stop));
        let shortcut = Shortcut::new(Arc::clone(&tokens));
        let tokens = TokenBrokerServer::from_arc(tokens).max_decoding_message_size(MAX_REQUEST);
        let router = Routes::new(tokens)
            .add_service(ext_authz)
            .add_service(sds)
            .add_service(admin)
            .add_service(health)
            .add_service(reflection)
            .into_axum_router()
            .layer(middleware::from_fn_with_state(guard, guarded));
        Ok((router, shortcut))
    }
}

/// What guards the door, and where it counts whom it sends away.
#[derive(Clone)]
struct Guard {
    operator: Arc<Operator>,
    calls: Calls,
}

/// Lets no request through from a peer whose certificate names no caller, or beyond the
/// share of a caller, or for operators from somebody else, and ends one whose body never
/// comes. A stream counts as a call until its reply begins: a watcher lives long, and costs
/// little. One that anybody may have, or that is asked for in many words, has a place among
/// fewer for as long as it lasts.
async fn guarded(State(guard): State<Guard>, mut request: HttpRequest, next: Next) -> Response {
    if !is_grpc(request.headers()) {
        return StatusCode::NOT_FOUND.into_response();
    }
    if request.version() < Version::HTTP_2 {
        // Trailers, with which gRPC says how a call ended, get lost there.
        let needed = (
            StatusCode::HTTP_VERSION_NOT_SUPPORTED,
            "gRPC needs HTTP/2\n",
        );
        return needed.into_response();
    }
    let asks = Service::of(request.uri().path());
    let peer = request.extensions().get::<Arc<Connected>>().cloned();
    let Some(peer) = peer else {
        // Counted as a connection, for nothing that it asks is a call.
        return asks.refusal(CallError::CallerUnidentified);
    };
    let method = method::of(request.uri().path());
    let admitted = peer.call().and_then(|under_way| {
        let place = lingers(request.uri().path()).then(|| peer.stream());
        Ok((under_way, place.transpose()?))
    });
    let (under_way, place) = match admitted {
        Ok(admitted) => admitted,
        Err(overload) => {
            let call = guard.begin(asks, method, request.headers());
            return guard.refuse(asks, &call, &peer, overload.into());
        }
    };
    if let Some(name) = admin_method(request.uri().path()) {
        match guard.operator.administrator(peer.id()) {
            Ok(administrator) => {
                request.extensions_mut().insert(administrator);
            }
            Err(error) => {
                let call = guard.begin(asks, method, request.headers());
                if let Some(act) = act(name) {
                    let (operator, id) = (&guard.operator, call.request_id.as_str());
                    operator.attempt(peer.id(), act, id, &error).await;
                }
                return guard.turn_away(&call, &peer, &error);
            }
        }
    }
    let longest = peer.longest_call() + BACKSTOP;
    // What it came with is gone when it is too late.
    let context = TraceContext::of(request.headers());
    let answer = timeout(longest, next.run(request)).await;
    drop(under_way);
    let answer = answer.unwrap_or_else(|_| {
        let call = guard.begin_late(asks, method, context, longest);
        guard.refuse(asks, &call, &peer, CallError::DeadlineExceeded)
    });
    match place {
        Some(place) => until_its_end(place, answer),
        None => answer,
    }
}

/// Whether what a path means may go on for ever without a grant, or is asked for in many
/// words.
fn lingers(path: &str) -> bool {
    let mut parts = path.split('/').skip(1);
    match (parts.next(), parts.next()) {
        (Some(SDS | REFLECTION), _) => true,
        (service, method) => service == Some(HEALTH) && method == Some("Watch"),
    }
}

/// Keeps a place until the last of an answer is sent.
fn until_its_end(place: Stream, answer: Response) -> Response {
    answer.map(|body| {
        axum::body::Body::new(body.map_frame(move |frame| {
            let _kept = &place;
            frame
        }))
    })
}

/// Every request of gRPC says what it is (gRPC over HTTP/2, "Content-Type").
fn is_grpc(headers: &HeaderMap) -> bool {
    let said = headers.get(CONTENT_TYPE);
    said.is_some_and(|said| said.as_bytes().starts_with(b"application/grpc"))
}

/// The method of the operators' service that a path means, if it is one of that.
fn admin_method(path: &str) -> Option<&str> {
    path.strip_prefix('/')?
        .strip_prefix(ADMIN)?
        .strip_prefix('/')
}

impl Guard {
    fn begin(&self, asks: Service, method: &'static str, headers: &HeaderMap) -> Call {
        let (operation, id) = (Operation::Grpc(method), RequestId::of(headers));
        self.calls.begin(asks.door(), operation, headers, id)
    }

    /// A call that has lasted for so long, and of which nothing else is known.
    fn begin_late(
        &self,
        asks: Service,
        method: &'static str,
        context: Option<TraceContext>,
        lasted: Duration,
    ) -> Call {
        let (operation, id) = (Operation::Grpc(method), RequestId::fresh());
        self.calls
            .begin_in(asks.door(), operation, context, String::new, id)
            .earlier(lasted)
    }

    fn refuse(&self, asks: Service, call: &Call, peer: &Connected, error: CallError) -> Response {
        let caller = peer.id().as_str();
        asks.note(error, &call.span);
        self.calls.answered(call, caller, None, error.code());
        asks.refusal(error)
    }

    fn turn_away(&self, call: &Call, peer: &Connected, error: &ActError) -> Response {
        let caller = peer.id().as_str();
        let status = status::act_status(error);
        status::note_code(status.code(), &call.span);
        self.calls.answered(call, caller, None, error.code());
        response(status)
    }
}

fn response(status: tonic::Status) -> Response {
    status
        .into_http::<tonic::body::Body>()
        .map(axum::body::Body::new)
}
