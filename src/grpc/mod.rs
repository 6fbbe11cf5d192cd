//! The gRPC door: the one room that knows tonic's `Status`.

mod admin_service;
mod deadline;
mod duration;
mod health;
mod status;
mod token_service;

use std::{sync::Arc, time::Duration};

use axum::{
    extract::{Request as HttpRequest, State},
    middleware::{self, Next},
    response::Response,
};
use http::HeaderMap;
use tokio::{sync::watch, time::timeout};
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use tonic_health::pb::health_server::HealthServer;

pub use self::health::Readiness;
use self::{
    admin_service::{AdminService, act},
    health::HealthService,
    token_service::TokenService,
};
use crate::{
    admission::Connected,
    api::{
        self,
        admin::v1::admin_server::{AdminServer, SERVICE_NAME as ADMIN},
        v1::token_broker_server::TokenBrokerServer,
    },
    broker::{ActError, Broker, CallError, Operator},
    metrics::Metrics,
    request_id::RequestId,
};

/// How the metrics name this door.
const DOOR: &str = "grpc";
/// A call has ended by its own deadline so long before it is ended from without.
const BACKSTOP: Duration = Duration::from_secs(1);
/// No request of this API needs more, in bytes.
const MAX_REQUEST: usize = 4 * 1024;

/// What the gRPC door is made of.
pub struct Door {
    /// Who answers.
    pub broker: Arc<Broker>,
    /// Who answers operators.
    pub operator: Arc<Operator>,
    /// Where calls are counted.
    pub metrics: Arc<Metrics>,
    /// What health says.
    pub readiness: watch::Receiver<Readiness>,
    /// Ends the streams of watchers.
    pub stop: CancellationToken,
}

impl Door {
    /// Everything that answers on the gRPC port: tokens, operators, health and reflection.
    ///
    /// # Errors
    /// When the compiled-in descriptors do not parse, which the tests rule out.
    pub fn routes(self) -> Result<Routes, tonic_reflection::server::Error> {
        let guard = Guard {
            operator: Arc::clone(&self.operator),
            metrics: Arc::clone(&self.metrics),
        };
        let reflection = tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(api::DESCRIPTORS)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
            .build_v1()?
            .max_decoding_message_size(MAX_REQUEST);
        let health =
            HealthServer::new(HealthService(self.readiness)).max_decoding_message_size(MAX_REQUEST);
        let admin = AdminService::new(self.operator, Arc::clone(&self.metrics));
        let admin = AdminServer::new(admin).max_decoding_message_size(MAX_REQUEST);
        let tokens = TokenService::new(self.broker, self.metrics, self.stop);
        let tokens = TokenBrokerServer::new(tokens).max_decoding_message_size(MAX_REQUEST);
        let routes = Routes::new(tokens)
            .add_service(admin)
            .add_service(health)
            .add_service(reflection)
            .into_axum_router()
            .layer(middleware::from_fn_with_state(guard, guarded));
        Ok(Routes::from(routes).prepare())
    }
}

/// What guards the door, and where it counts whom it sends away.
#[derive(Clone)]
struct Guard {
    operator: Arc<Operator>,
    metrics: Arc<Metrics>,
}

/// Lets no request through from a peer whose certificate names no caller, or beyond the
/// share of a caller, or for operators from somebody else, and ends one whose body never comes. A stream counts as a call until
/// its reply begins: a watcher lives long, and costs little.
async fn guarded(State(guard): State<Guard>, mut request: HttpRequest, next: Next) -> Response {
    let peer = request.extensions().get::<Arc<Connected>>().cloned();
    let Some(peer) = peer else {
        // Counted as a connection, for nothing that it asks is a call.
        return refused(CallError::CallerUnidentified);
    };
    let call = match peer.call() {
        Ok(call) => call,
        Err(overload) => return guard.refuse(overload.into()),
    };
    if let Some(method) = admin_method(request.uri().path()) {
        match guard.operator.administrator(peer.id()) {
            Ok(administrator) => {
                request.extensions_mut().insert(administrator);
            }
            Err(error) => {
                if let Some(act) = act(method) {
                    let id = request_id(request.headers());
                    let operator = &guard.operator;
                    operator.attempt(peer.id(), act, id.as_str(), &error).await;
                }
                return guard.turn_away(&error);
            }
        }
    }
    let longest = peer.longest_call() + BACKSTOP;
    let answer = timeout(longest, next.run(request)).await;
    drop(call);
    answer.unwrap_or_else(|_| guard.refuse(CallError::DeadlineExceeded))
}

/// The name that the caller gave its request, or a new one.
fn request_id(headers: &HeaderMap) -> RequestId {
    headers
        .get("x-request-id")
        .and_then(|value| RequestId::parse(value.to_str().ok()?))
        .unwrap_or_else(RequestId::fresh)
}

/// The method of the operators' service that a path means, if it is one of that.
fn admin_method(path: &str) -> Option<&str> {
    path.strip_prefix('/')?
        .strip_prefix(ADMIN)?
        .strip_prefix('/')
}

impl Guard {
    fn refuse(&self, error: CallError) -> Response {
        self.metrics.call(DOOR, "", error.code());
        refused(error)
    }

    fn turn_away(&self, error: &ActError) -> Response {
        self.metrics.call(DOOR, "", error.code());
        response(status::act_status(error))
    }
}

fn refused(error: CallError) -> Response {
    response(status::status(error))
}

fn response(status: tonic::Status) -> Response {
    status
        .into_http::<tonic::body::Body>()
        .map(axum::body::Body::new)
}
