//! The gRPC door: the one room that knows tonic's `Status`.

mod deadline;
mod health;
mod status;
mod token_service;

use std::{sync::Arc, time::Duration};

use axum::{
    extract::{Request as HttpRequest, State},
    middleware::{self, Next},
    response::Response,
};
use tokio::{sync::watch, time::timeout};
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use tonic_health::pb::health_server::HealthServer;

pub use self::health::Readiness;
use self::{health::HealthService, token_service::TokenService};
use crate::{
    admission::Connected,
    api::{self, v1::token_broker_server::TokenBrokerServer},
    broker::{Broker, CallError},
    metrics::Metrics,
};

/// A call has ended by its own deadline so long before it is ended from without.
const BACKSTOP: Duration = Duration::from_secs(1);
/// No request of this API needs more, in bytes.
const MAX_REQUEST: usize = 4 * 1024;

/// What the gRPC door is made of.
pub struct Door {
    /// Who answers.
    pub broker: Arc<Broker>,
    /// Where calls are counted.
    pub metrics: Arc<Metrics>,
    /// No call takes longer.
    pub max_deadline: Duration,
    /// What health says.
    pub readiness: watch::Receiver<Readiness>,
    /// Ends the streams of watchers.
    pub stop: CancellationToken,
}

impl Door {
    /// Everything that answers on the gRPC port: tokens, health and reflection.
    ///
    /// # Errors
    /// When the compiled-in descriptors do not parse, which the tests rule out.
    pub fn routes(self) -> Result<Routes, tonic_reflection::server::Error> {
        let reflection = tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(api::DESCRIPTORS)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
            .build_v1()?
            .max_decoding_message_size(MAX_REQUEST);
        let health =
            HealthServer::new(HealthService(self.readiness)).max_decoding_message_size(MAX_REQUEST);
        let tokens = TokenService::new(self.broker, self.metrics, self.max_deadline, self.stop);
        let tokens = TokenBrokerServer::new(tokens).max_decoding_message_size(MAX_REQUEST);
        let routes = Routes::new(tokens)
            .add_service(health)
            .add_service(reflection)
            .into_axum_router()
            .layer(middleware::from_fn_with_state(
                self.max_deadline + BACKSTOP,
                guarded,
            ));
        Ok(Routes::from(routes).prepare())
    }
}

/// Lets no request through from a peer whose certificate names no caller, and ends one
/// whose body never comes.
async fn guarded(State(longest): State<Duration>, request: HttpRequest, next: Next) -> Response {
    if request.extensions().get::<Arc<Connected>>().is_none() {
        return refused(CallError::CallerUnidentified);
    }
    timeout(longest, next.run(request))
        .await
        .unwrap_or_else(|_| refused(CallError::DeadlineExceeded))
}

fn refused(error: CallError) -> Response {
    status::status(error)
        .into_http::<tonic::body::Body>()
        .map(axum::body::Body::new)
}
