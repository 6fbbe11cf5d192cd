//! What a proxy says of the request that it asks about, as far as it counts.

use envoy_types::pb::envoy::service::auth::v3::CheckRequest;
use http::HeaderName;

use crate::{
    api::Brief,
    trace_context::{TRACEPARENT, TRACESTATE},
};

/// Where a route of the proxy names the destination itself.
const DESTINATION_ID: &str = "destination_id";
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// A request that a proxy asks about.
#[derive(Default)]
pub(in crate::grpc) struct Check {
    /// Who made it, as the proxy knows them.
    pub(super) principal: String,
    /// What the route of the proxy says.
    pub(super) destination_id: Option<String>,
    pub(super) host: String,
    pub(super) path: String,
    /// Headers of the request.
    pub(super) request_id: Option<String>,
    pub(super) traceparent: Option<String>,
    pub(super) tracestate: Option<String>,
}

impl From<CheckRequest> for Check {
    fn from(request: CheckRequest) -> Self {
        let mut attributes = request.attributes.unwrap_or_default();
        let source = attributes.source.unwrap_or_default();
        let http = attributes.request.and_then(|request| request.http);
        let mut http = http.unwrap_or_default();
        let mut header = |name: HeaderName| http.headers.remove(name.as_str());
        Self {
            principal: source.principal,
            destination_id: attributes.context_extensions.remove(DESTINATION_ID),
            request_id: header(REQUEST_ID),
            traceparent: header(TRACEPARENT),
            tracestate: header(TRACESTATE),
            host: http.host,
            path: http.path,
        }
    }
}

impl Brief for Check {
    type Message = CheckRequest;
}
