//! Compiles the protocol definitions with a compiler written in Rust, so that a
//! build needs no `protoc` on the machine.

use std::{env, error::Error, fs, path::PathBuf};

use protox::prost::Message as _;
use tonic_build::manual::{Builder, Method, Service};

const CODEC: &str = "crate::api::Codec";

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto");
    let protocols = [
        "tokenbroker/v1/token_broker.proto",
        "tokenbroker/admin/v1/admin.proto",
    ];
    let descriptors = protox::compile(protocols, ["proto"])?;
    // Reflection serves the very definitions that the code was generated from.
    let out = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(out.join("descriptors.bin"), descriptors.encode_to_vec())?;
    tonic_prost_build::configure()
        .build_transport(false)
        .codec_path(CODEC)
        // It holds the token, so its `Debug` is written by hand.
        .skip_debug(["tokenbroker.v1.GetTokenResponse"])
        .compile_fds(descriptors)?;
    Builder::new().build_client(false).compile(&envoy());
    Ok(())
}

/// The services of Envoy that the broker is. They are written down here, since their unary
/// requests become something smaller as they are decoded.
fn envoy() -> [Service; 2] {
    let method = |name, route, input, output| {
        let method = Method::builder().name(name).route_name(route);
        let output = format!("envoy_types::pb::envoy::service::{output}");
        method
            .codec_path(CODEC)
            .input_type(input)
            .output_type(output)
    };
    let check = method(
        "check",
        "Check",
        "crate::grpc::ext_authz::Check",
        "auth::v3::CheckResponse",
    );
    let stream = method(
        "stream_secrets",
        "StreamSecrets",
        "envoy_types::pb::envoy::service::discovery::v3::DiscoveryRequest",
        "discovery::v3::DiscoveryResponse",
    );
    let delta = method(
        "delta_secrets",
        "DeltaSecrets",
        "envoy_types::pb::envoy::service::discovery::v3::DeltaDiscoveryRequest",
        "discovery::v3::DeltaDiscoveryResponse",
    );
    let fetch = method(
        "fetch_secrets",
        "FetchSecrets",
        "crate::grpc::sds::Wanted",
        "discovery::v3::DiscoveryResponse",
    );
    let authorization = Service::builder()
        .package("envoy.service.auth.v3")
        .name("Authorization")
        .method(check.build());
    let secrets = Service::builder()
        .package("envoy.service.secret.v3")
        .name("SecretDiscoveryService")
        .method(stream.client_streaming().server_streaming().build())
        .method(delta.client_streaming().server_streaming().build())
        .method(fetch.build());
    [authorization.build(), secrets.build()]
}
