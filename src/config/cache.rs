//! `[cache]`: how tokens are kept.

use std::time::Duration;

/// How tokens are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CacheSettings {
    /// A token with less life left than this is no longer handed out. The slot caps it
    /// at a tenth of the token's life.
    pub expiry_margin: Duration,
}
