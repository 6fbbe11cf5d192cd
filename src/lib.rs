//! A token broker.

pub mod api {
    //! Generated.
    #![allow(missing_docs, clippy::pedantic, unused_qualifications, unreachable_pub)]
    /// `tokenbroker.v1`
    pub mod v1 {
        tonic::include_proto!("tokenbroker.v1");
    }
    /// `tokenbroker.admin.v1`
    pub mod admin {
        tonic::include_proto!("tokenbroker.admin.v1");
    }
    /// The encoded descriptors, for reflection.
    pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
}
pub mod app;
pub mod backoff;
pub mod broker;
pub mod cache;
pub mod cli;
pub mod clock;
pub mod config;
pub mod credential;
pub mod destination;
pub mod grpc;
pub mod http;
pub mod identity;
pub mod listener;
pub mod metrics;
pub mod policy;
pub mod secret;
pub mod slot;
pub mod small_file;
pub mod telemetry;
pub mod token;
pub mod upstream;
