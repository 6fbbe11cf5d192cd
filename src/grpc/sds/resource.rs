//! Tokens as the resources of the protocol.
//!
//! These messages hold tokens in plain text, and their `Debug` shows them: they are for
//! the wire only.

use std::sync::Arc;

use envoy_types::pb::{
    envoy::{
        config::core::v3::{DataSource, data_source::Specifier},
        extensions::transport_sockets::tls::v3::{GenericSecret, Secret, secret},
        service::discovery::v3::{DeltaDiscoveryResponse, DiscoveryResponse, Resource},
    },
    google::protobuf::Any,
};
use prost::Message as _;

use super::refused::Refused;
use crate::token::Token;

/// The type of every resource here.
const TYPE_URL: &str = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret";

/// Refuses a request for resources of another type.
pub(super) fn check_type(url: &str) -> Result<(), Refused> {
    if url.is_empty() || url == TYPE_URL {
        return Ok(());
    }
    Err(Refused::invalid("there are secrets here, and nothing else"))
}

/// Tokens under the names by which they were asked for.
pub(super) type Named = (String, Arc<Token>);

/// An answer of `StreamSecrets` and `FetchSecrets`.
pub(super) fn whole(secrets: &[Named], nonce: String) -> DiscoveryResponse {
    DiscoveryResponse {
        version_info: version(secrets),
        resources: secrets.iter().map(secret).collect(),
        type_url: TYPE_URL.to_owned(),
        nonce,
        ..DiscoveryResponse::default()
    }
}

/// An answer of `DeltaSecrets`.
pub(super) fn delta(
    secrets: &[Named],
    removed_resources: Vec<String>,
    nonce: String,
) -> DeltaDiscoveryResponse {
    let resource = |named: &Named| Resource {
        name: named.0.clone(),
        version: named.1.id.to_string(),
        resource: Some(secret(named)),
        ..Resource::default()
    };
    DeltaDiscoveryResponse {
        system_version_info: version(secrets),
        resources: secrets.iter().map(resource).collect(),
        type_url: TYPE_URL.to_owned(),
        removed_resources,
        nonce,
        ..DeltaDiscoveryResponse::default()
    }
}

/// The ids of the tokens, which name them in logs and reports and tell nothing of them.
pub(super) fn version(secrets: &[Named]) -> String {
    let ids: Vec<_> = secrets
        .iter()
        .map(|(_, token)| token.id.to_string())
        .collect();
    ids.join(",")
}

/// The token alone: the proxy's configuration says what stands before it in a header.
fn secret((name, token): &Named) -> Any {
    let token = token.access_token.expose().to_owned();
    let secret = Secret {
        name: name.clone(),
        r#type: Some(secret::Type::GenericSecret(GenericSecret {
            secret: Some(DataSource {
                specifier: Some(Specifier::InlineString(token)),
                ..DataSource::default()
            }),
            ..GenericSecret::default()
        })),
    };
    Any {
        type_url: TYPE_URL.to_owned(),
        value: secret.encode_to_vec(),
    }
}
