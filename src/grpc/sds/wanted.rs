//! What a proxy asks for by name, as far as it counts.

use std::collections::BTreeSet;

use envoy_types::pb::envoy::service::discovery::v3::DiscoveryRequest;

use super::{
    refused::Refused,
    resource::check_type,
    subscriptions::{MAX_NAMES, check_count},
};
use crate::api::Brief;

/// The resources that a request wants, each once.
pub(in crate::grpc) struct Wanted {
    /// At most one more than may be asked for.
    pub(super) names: BTreeSet<String>,
    type_url: String,
}

impl Wanted {
    /// Refuses another type, and more names than may be asked for at once.
    pub(super) fn check(&self) -> Result<(), Refused> {
        check_type(&self.type_url)?;
        check_count(self.names.len())
    }
}

impl From<DiscoveryRequest> for Wanted {
    fn from(request: DiscoveryRequest) -> Self {
        let mut names = BTreeSet::new();
        for name in request.resource_names {
            names.insert(name);
            if names.len() > MAX_NAMES {
                break;
            }
        }
        Self {
            names,
            type_url: request.type_url,
        }
    }
}

impl Brief for Wanted {
    type Message = DiscoveryRequest;
}
