//! On what terms connections are made and kept. A reload replaces them as a whole.

use super::{Tls, TlsError};
use crate::{
    config::{ConnectionLimits, Server},
    process,
};

/// How connections are made, which clients are believed, and what a connection may take.
#[derive(Debug)]
pub struct Terms {
    /// How both sides prove themselves.
    pub tls: Tls,
    /// What a connection may take.
    pub limits: ConnectionLimits,
}

impl Terms {
    /// The terms of a configuration, as far as the limit of descriptors allows.
    ///
    /// # Errors
    /// [`TlsError`], which names the file.
    pub fn of(server: &Server) -> Result<Self, TlsError> {
        let mut limits = server.connections.clone();
        limits.count = process::connections_that_fit(limits.count);
        Ok(Self {
            tls: Tls::load(&server.tls)?,
            limits,
        })
    }
}
