//! A second of the wall clock.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::process;

/// A second of the wall clock, in Unix time. Usage is counted in days, and is to mean the
/// same after a restart, so the wall clock is the right one here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Stamp(pub u64);

impl Stamp {
    /// This second.
    pub fn now() -> Self {
        Self(process::wall_second())
    }

    /// The same second, as the clock has it.
    pub fn wall(self) -> SystemTime {
        let wall = UNIX_EPOCH.checked_add(Duration::from_secs(self.0));
        wall.unwrap_or(UNIX_EPOCH)
    }

    /// How long ago this was, seen from `now`.
    pub fn until(self, now: Self) -> Duration {
        Duration::from_secs(now.0.saturating_sub(self.0))
    }
}
