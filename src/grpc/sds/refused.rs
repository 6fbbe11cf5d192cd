//! Why a request is refused, or a stream ended.

use tonic::Status;

use crate::{broker::CallError, grpc::status::status};

/// What the proxy is told, and the word for it in metrics and spans.
pub(super) struct Refused {
    pub(super) status: Status,
    pub(super) outcome: &'static str,
}

impl Refused {
    /// The request is not what the protocol allows, or more than there is room for.
    pub(super) fn invalid(message: &'static str) -> Self {
        Self {
            status: Status::invalid_argument(message),
            outcome: "INVALID_ARGUMENT",
        }
    }
}

impl From<CallError> for Refused {
    fn from(error: CallError) -> Self {
        Self {
            status: status(error),
            outcome: error.code(),
        }
    }
}
