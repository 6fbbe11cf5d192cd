//! What a call is told that the guard does not let in.

use axum::response::Response;
use envoy_types::pb::envoy::service::auth::v3::CheckResponse;
use futures_util::stream;
use http::header::CONTENT_TYPE;
use tonic::{
    codec::{Codec as _, EncodeBody, SingleMessageCompressionOverride},
    metadata::GRPC_CONTENT_TYPE,
};

use super::{
    DOOR,
    envoy::{
        authorization_server::SERVICE_NAME as EXT_AUTHZ,
        secret_discovery_service_server::SERVICE_NAME as SDS,
    },
    ext_authz::{self, Check},
    response, sds,
    status::{note_error, note_in_band, status},
};
use crate::{api::Codec, broker::CallError, metrics::Door, telemetry::Span};

/// Which service a call is for, as far as the guard has to know.
#[derive(Clone, Copy)]
pub(super) enum Service {
    ExtAuthz,
    Sds,
    Other,
}

impl Service {
    pub(super) fn of(path: &str) -> Self {
        match path.split('/').nth(1) {
            Some(EXT_AUTHZ) => Self::ExtAuthz,
            Some(SDS) => Self::Sds,
            _ => Self::Other,
        }
    }

    /// Its door.
    pub(super) fn door(self) -> Door {
        match self {
            Self::ExtAuthz => ext_authz::DOOR,
            Self::Sds => sds::DOOR,
            Self::Other => DOOR,
        }
    }

    /// Notes with what status that was answered.
    pub(super) fn note(self, error: CallError, span: &Span) {
        match self {
            Self::ExtAuthz => note_in_band(Some(error), span),
            Self::Sds | Self::Other => note_error(Some(error), span),
        }
    }

    /// To a proxy that asks about a request, an error is a denial of that request. As a
    /// failed call it would look like a broker that is down.
    pub(super) fn refusal(self, error: CallError) -> Response {
        match self {
            Self::ExtAuthz => answer(ext_authz::verdict(Err(error))),
            Self::Sds | Self::Other => response(status(error)),
        }
    }
}

/// A successful call's one message.
fn answer(verdict: CheckResponse) -> Response {
    let body = EncodeBody::new_server(
        Codec::<_, Check>::default().encoder(),
        stream::iter([Ok(verdict)]),
        None,
        SingleMessageCompressionOverride::default(),
        None,
    );
    let mut response = Response::new(axum::body::Body::new(body));
    response
        .headers_mut()
        .insert(CONTENT_TYPE, GRPC_CONTENT_TYPE);
    response
}
