//! Compiles the protocol definitions with a compiler written in Rust, so that a
//! build needs no `protoc` on the machine.

use std::{env, error::Error, fs, path::PathBuf};

use protox::prost::Message as _;
use tonic_build::manual::{Builder, Method, Service};

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
        .codec_path("crate::api::Codec")
        // It holds the token, so its `Debug` is written by hand.
        .skip_debug(["tokenbroker.v1.GetTokenResponse"])
        .compile_fds(descriptors)?;
    Builder::new().build_client(false).compile(&envoy());
    Ok(())
}

/// The services of Envoy that the broker is. They are written down here, since their unary
/// requests become something smaller as they are decoded.
fn envoy() -> [Service; 2] {
    const PLAIN: &str = "crate::api::Codec";
    const BRIEF: &str = "crate::api::BriefCodec";
    const AUTH: &str = "envoy_types::pb::envoy::service::auth::v3";
    const DISCOVERY: &str = "envoy_types::pb::envoy::service::discovery::v3";
    let method = |name, route, codec, input: String, output: String| {
        let method = Method::builder().name(name).route_name(route);
        method
            .codec_path(codec)
            .input_type(input)
            .output_type(output)
    };
    let check = method(
        "check",
        "Check",
        BRIEF,
        "crate::grpc::ext_authz::Check".to_owned(),
        format!("{AUTH}::CheckResponse"),
    );
    let stream = method(
        "stream_secrets",
        "StreamSecrets",
        PLAIN,
        format!("{DISCOVERY}::DiscoveryRequest"),
        format!("{DISCOVERY}::DiscoveryResponse"),
    );
    let delta = method(
        "delta_secrets",
        "DeltaSecrets",
        PLAIN,
        format!("{DISCOVERY}::DeltaDiscoveryRequest"),
        format!("{DISCOVERY}::DeltaDiscoveryResponse"),
    );
    let fetch = method(
        "fetch_secrets",
        "FetchSecrets",
        BRIEF,
        "crate::grpc::sds::Wanted".to_owned(),
        format!("{DISCOVERY}::DiscoveryResponse"),
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
