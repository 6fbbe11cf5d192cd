//! Who asks, as far as the records name it.

use crate::{
    identity::CallerId,
    metrics::Door,
    request_id::RequestId,
    telemetry::{Call, Span},
};

/// Who asks for tokens, through which door, and in which request.
#[derive(Clone, Debug)]
pub struct Asker {
    /// The caller that its certificate names.
    pub caller: CallerId,
    /// The door that let the caller in.
    pub door: Door,
    /// Names the request.
    pub request_id: RequestId,
    /// What is traced of it.
    pub span: Span,
}

impl Asker {
    /// A caller, in this call.
    pub fn of(caller: CallerId, call: &Call) -> Self {
        Self {
            caller,
            door: call.door,
            request_id: call.request_id.clone(),
            span: call.span.clone(),
        }
    }
}
