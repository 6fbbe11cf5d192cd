//! `grpc.health.v1.Health`: for each service, and for the whole, whose name is empty.
//!
//! The library's own service keeps its watchers for ever, so that one of them would hold
//! up every stop until the drain deadline. Here they are told, and let go.

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

use super::envoy::{
    authorization_server::SERVICE_NAME as EXT_AUTHZ,
    secret_discovery_service_server::SERVICE_NAME as SDS,
};
use crate::api::{
    admin::v1::admin_server::SERVICE_NAME as ADMIN, v1::token_broker_server::SERVICE_NAME as TOKENS,
};

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
        let service = Service::of(&request);
        let service = service.ok_or_else(|| Status::not_found("there is no such service"))?;
        Ok(Response::new(response(service.status(*self.0.borrow()))))
    }

    async fn watch(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let service = Service::of(&request);
        let mut readiness = self.0.clone();
        // The first look counts as a change.
        readiness.mark_changed();
        let events = stream::unfold(Some((readiness, None)), move |watcher| async move {
            let (mut readiness, told) = watcher?;
            loop {
                readiness.changed().await.ok()?;
                let now = *readiness.borrow_and_update();
                let status =
                    service.map_or(ServingStatus::ServiceUnknown, |service| service.status(now));
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

/// What can be asked about.
#[derive(Clone, Copy)]
enum Service {
    /// Tokens, and with them the broker as a whole.
    Tokens,
    /// Operators, who are answered most of all when there are no tokens.
    Admin,
}

impl Service {
    fn of(request: &Request<HealthCheckRequest>) -> Option<Self> {
        match request.get_ref().service.as_str() {
            "" | TOKENS | EXT_AUTHZ | SDS => Some(Self::Tokens),
            ADMIN => Some(Self::Admin),
            _ => None,
        }
    }

    fn status(self, readiness: Readiness) -> ServingStatus {
        match (self, readiness) {
            (_, Readiness::Ready) | (Self::Admin, Readiness::Unready) => ServingStatus::Serving,
            (Self::Tokens, Readiness::Unready) | (_, Readiness::Stopping) => {
                ServingStatus::NotServing
            }
        }
    }
}

fn response(status: ServingStatus) -> HealthCheckResponse {
    HealthCheckResponse {
        status: status.into(),
    }
}
