//! The call with which programs get a token from an Occtoo destination itself.

use std::sync::Arc;

use axum::{
    extract::{Path, Request, State, rejection::PathRejection},
    response::Response,
};

use super::{Door, body, refusal::Refusal, reply};
use crate::{broker::CallError, destination::DestinationId, metrics};

pub(super) const PATH: &str = "/destinations/{destination_id}/token";
/// How the metrics name this door.
const DOOR: metrics::Door = metrics::Door::Occtoo;

pub(super) async fn token(
    State(door): State<Arc<Door>>,
    destination: Result<Path<String>, PathRejection>,
    request: Request,
) -> Response {
    let visit = door.visit(DOOR, PATH, &request);
    door.token(visit, wanted(destination, request), |result| match result {
        Ok(token) => reply::occtoo(token),
        Err(refusal) => refusal.into_occtoo(),
    })
    .await
}

async fn wanted(
    destination: Result<Path<String>, PathRejection>,
    request: Request,
) -> Result<DestinationId, Refusal> {
    // It holds a client id and a secret, which nobody here needs.
    drop(body::read(request.into_body()).await?);
    destination
        .ok()
        .and_then(|Path(id)| DestinationId::parse(&id).ok())
        .ok_or_else(|| CallError::InvalidDestinationId.into())
}
