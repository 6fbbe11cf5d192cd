//! The two clocks: a monotonic one that decides, and the wall clock that is shown.

use std::time::{Duration, SystemTime};

pub use tokio::time::Instant;

/// A span in whole seconds, rounded up: whoever waits for so long does not come back too soon
/// (RFC 9110 §10.2.3).
pub fn whole_seconds(span: Duration) -> u64 {
    span.as_secs() + u64::from(span.subsec_nanos() > 0)
}

/// One moment read from both clocks.
///
/// Every decision compares [`Moment::instant`]. The wall time only tells people
/// and other programs when that is, so a stepped clock can never revive a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// On tokio's monotonic clock, which tests can pause.
    pub instant: Instant,
    /// The same moment on the wall clock.
    pub wall: SystemTime,
}

impl Moment {
    /// Reads both clocks.
    pub fn now() -> Self {
        Self {
            instant: Instant::now(),
            wall: SystemTime::now(),
        }
    }

    /// The moment `span` later.
    #[must_use]
    pub fn after(self, span: Duration) -> Self {
        Self {
            instant: self.instant + span,
            wall: self.wall + span,
        }
    }
}
