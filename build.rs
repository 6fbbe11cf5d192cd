//! Compiles the protocol definitions with a compiler written in Rust, so that a
//! build needs no `protoc` on the machine.

use std::{env, error::Error, fs, path::PathBuf};

use protox::prost::Message as _;

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
    Ok(())
}
