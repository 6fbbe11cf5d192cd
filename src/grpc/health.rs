//! `grpc.health.v1.Health`: for each service that hands out tokens, and for the whole,
//! whose name is empty.
//!
//! The library's own service keeps its watchers for ever, so that one of them would hold
//! up every stop until the drain deadline. Here they are told, and let go.

use envoy_types::pb::envoy::service::{
    auth::v3::authorization_server::SERVICE_NAME as EXT_AUTHZ,
    secret::v3::secret_discovery_service_server::SERVICE_NAME as SDS,
};
use futures_util::{
    StreamExt as _,
    stream::{self, BoxStream},
};
use tokio::sync::watch;
use tonic::{Request, Response, Status};
use tonic_health::pb::{
    HealthCheckRequest, HealthCheckResponse, health_check_response::ServingStatus,
    health_server::Health,
};

use crate::api::v1::token_broker_server::SERVICE_NAME as TOKENS;

/// The services that can be asked about. All of them can do what the broker can do.
const KNOWN: [&str; 4] = ["", TOKENS, EXT_AUTHZ, SDS];

/// What the broker can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Readiness {
    /// Hand out tokens.
    Ready,
    /// Nothing yet, or nothing at present.
    Unready,
    /// Nothing ever again.
    Stopping,
}

/// Answers from the newest readiness.
pub(super) struct HealthService(pub(super) watch::Receiver<Readiness>);

#[tonic::async_trait]
impl Health for HealthService {
    type WatchStream = BoxStream<'static, Result<HealthCheckResponse, Status>>;

    async fn check(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        if !is_known(&request) {
            return Err(Status::not_found("there is no such service"));
        }
        Ok(Response::new(response(status(*self.0.borrow()))))
    }

    async fn watch(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let known = is_known(&request);
        let mut readiness = self.0.clone();
        // The first look counts as a change.
        readiness.mark_changed();
        let events = stream::unfold(Some((readiness, None)), move |watcher| async move {
            let (mut readiness, told) = watcher?;
            loop {
                readiness.changed().await.ok()?;
                let now = *readiness.borrow_and_update();
                let status = if known {
                    status(now)
                } else {
                    ServingStatus::ServiceUnknown
                };
                let last = now == Readiness::Stopping;
                if told != Some(status) || last {
                    let watcher = (!last).then_some((readiness, Some(status)));
                    return Some((Ok(response(status)), watcher));
                }
            }
        });
        Ok(Response::new(events.boxed()))
    }
}

fn is_known(request: &Request<HealthCheckRequest>) -> bool {
    KNOWN.contains(&request.get_ref().service.as_str())
}

fn status(readiness: Readiness) -> ServingStatus {
    match readiness {
        Readiness::Ready => ServingStatus::Serving,
        Readiness::Unready | Readiness::Stopping => ServingStatus::NotServing,
    }
}

fn response(status: ServingStatus) -> HealthCheckResponse {
    HealthCheckResponse {
        status: status.into(),
    }
}
