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

/// The wall clock. In the tests of this crate it goes with tokio's, which they pause.
pub fn wall() -> SystemTime {
    #[cfg(test)]
    {
        static BASE: std::sync::LazyLock<(std::time::Instant, SystemTime)> =
            std::sync::LazyLock::new(|| (std::time::Instant::now(), SystemTime::now()));
        let (base, wall) = *BASE;
        match Instant::now().into_std().checked_duration_since(base) {
            Some(since) => wall + since,
            None => wall,
        }
    }
    #[cfg(not(test))]
    SystemTime::now()
}

impl Moment {
    /// Reads both clocks.
    pub fn now() -> Self {
        Self {
            instant: Instant::now(),
            wall: wall(),
        }
    }

    /// When a moment of the wall clock is, seen from this one.
    pub fn at(self, wall: SystemTime) -> Instant {
        match wall.duration_since(self.wall) {
            Ok(ahead) => self.instant + ahead,
            Err(past) => {
                let past = self.instant.checked_sub(past.duration());
                past.unwrap_or(self.instant)
            }
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
