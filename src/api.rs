//! The protocol, as generated from `proto/`.

mod codec;
mod duration;

use std::fmt;

pub use self::{
    codec::{Brief, Codec},
    duration::{proto, span},
};

/// The API that callers use.
#[allow(
    missing_docs,
    clippy::pedantic,
    unreachable_pub,
    unused_qualifications,
    reason = "generated"
)]
pub mod v1 {
    tonic::include_proto!("tokenbroker.v1");
}

/// The API that operators use.
pub mod admin {
    #[allow(
        missing_docs,
        clippy::pedantic,
        unreachable_pub,
        unused_qualifications,
        reason = "generated"
    )]
    /// Its first version.
    pub mod v1 {
        tonic::include_proto!("tokenbroker.admin.v1");
    }
}

/// The definitions themselves, which reflection serves.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));

impl fmt::Debug for v1::GetTokenResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GetTokenResponse")
            .field("token_id", &self.token_id)
            .field("expires_at", &self.expires_at)
            .finish_non_exhaustive()
    }
}
