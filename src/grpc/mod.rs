//! The gRPC door: the one room that knows tonic's `Status`.

mod deadline;
mod status;
mod token_service;

use std::{sync::Arc, time::Duration};

use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use tonic_health::{ServingStatus, server::HealthReporter};

pub use self::token_service::TokenService;
use crate::{
    api::{self, v1::token_broker_server::TokenBrokerServer},
    broker::Broker,
    metrics::Metrics,
};

/// No request of this API needs more, in bytes.
const MAX_REQUEST: usize = 4 * 1024;

/// Everything that answers on the gRPC port, and the reporter of its health.
///
/// # Errors
/// When the compiled-in descriptors do not parse, which the tests rule out.
pub fn routes(
    broker: Arc<Broker>,
    metrics: Arc<Metrics>,
    max_deadline: Duration,
    stop: CancellationToken,
) -> Result<(Routes, Health), tonic_reflection::server::Error> {
    let tokens = TokenBrokerServer::new(TokenService::new(broker, metrics, max_deadline, stop))
        .max_decoding_message_size(MAX_REQUEST);
    let (reporter, health) = tonic_health::server::health_reporter();
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(api::DESCRIPTORS)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .build_v1()?;
    let routes = Routes::new(tokens)
        .add_service(health.max_decoding_message_size(MAX_REQUEST))
        .add_service(reflection.max_decoding_message_size(MAX_REQUEST))
        .prepare();
    Ok((routes, Health(reporter)))
}

/// Reports health by the gRPC health protocol: for the token service, and for the
/// whole, which is the empty name.
pub struct Health(HealthReporter);

impl Health {
    /// Says whether tokens can be handed out.
    pub async fn report(&self, ready: bool) {
        let status = if ready {
            ServingStatus::Serving
        } else {
            ServingStatus::NotServing
        };
        for service in ["", "tokenbroker.v1.TokenBroker"] {
            self.0.set_service_status(service, status).await;
        }
    }
}
