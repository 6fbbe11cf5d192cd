//! What operators stopped and released.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::Stamp;
use crate::destination::{ApplicationName, DestinationId};

/// What an operator stopped at a destination.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quarantine {
    /// The id of the destination.
    pub destination: DestinationId,
    /// The application; all of them, those to come included, if `None`.
    pub application: Option<ApplicationName>,
    /// Since when.
    pub since: Stamp,
    /// Who did it.
    pub administrator: String,
    /// Why, in their words.
    pub comment: String,
}

/// What an operator stopped, or released, and when: what replicas tell each other, and what
/// outlives the process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SharedQuarantine {
    /// The id of the destination.
    pub destination: DestinationId,
    /// The application; all of them, those to come included, if `None`.
    pub application: Option<ApplicationName>,
    /// When that was done.
    pub at: SystemTime,
    /// The quarantine; `None` for a release.
    pub quarantine: Option<Quarantine>,
}

impl SharedQuarantine {
    /// Of two that are for the same, the one of the higher rank counts: the later one, and of
    /// two of one moment a stop.
    pub fn rank(&self) -> (SystemTime, bool) {
        (self.at, self.quarantine.is_some())
    }
}

/// A moment in milliseconds of Unix time, as it is written down.
pub fn millis(wall: SystemTime) -> u64 {
    let since = wall.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// The moment that was written down; none that a clock cannot show.
pub fn of_millis(millis: u64) -> Option<SystemTime> {
    UNIX_EPOCH.checked_add(Duration::from_millis(millis))
}
