//! Attempts of callers that are no administrators, of which few are recorded.

use std::{collections::HashMap, time::Duration};

use crate::{clock::Instant, identity::CallerId};

/// A caller's attempts are recorded once in this time, so that nobody can fill the trail.
const PERIOD: Duration = Duration::from_secs(60);
/// Attempts of more callers than this in one period are not recorded.
const MAX_CALLERS: usize = 1024;

/// Whose attempt was recorded lately.
#[derive(Debug, Default)]
pub(super) struct Attempts(HashMap<CallerId, Recent>);

#[derive(Debug)]
struct Recent {
    recorded_at: Instant,
    unrecorded: u64,
}

impl Attempts {
    /// Counts an attempt. If it is to be recorded, how many of the caller were not since
    /// the last one that was.
    pub(super) fn count(&mut self, caller: &CallerId, now: Instant) -> Option<u64> {
        if let Some(recent) = self.0.get_mut(caller) {
            if now < recent.recorded_at + PERIOD {
                recent.unrecorded += 1;
                return None;
            }
            recent.recorded_at = now;
            return Some(std::mem::take(&mut recent.unrecorded));
        }
        if self.0.len() >= MAX_CALLERS {
            self.0.retain(|_, recent| now < recent.recorded_at + PERIOD);
        }
        if self.0.len() >= MAX_CALLERS {
            return None;
        }
        let recent = Recent {
            recorded_at: now,
            unrecorded: 0,
        };
        self.0.insert(caller.clone(), recent);
        Some(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn caller(n: usize) -> CallerId {
        CallerId::from_spiffe(&format!("spiffe://td/{n}")).unwrap()
    }

    #[test]
    fn one_attempt_a_minute_is_recorded_and_tells_of_the_others() {
        let (mut attempts, start) = (Attempts::default(), Instant::now());
        for (seconds, expected) in [
            (0, Some(0)),
            (1, None),
            (59, None),
            (60, Some(2)),
            (119, None),
            (600, Some(1)),
            (900, Some(0)),
        ] {
            let now = start + Duration::from_secs(seconds);
            assert_eq!(attempts.count(&caller(0), now), expected, "after {seconds}");
        }
    }

    #[test]
    fn there_is_room_for_so_many_callers_a_minute() {
        let (mut attempts, start) = (Attempts::default(), Instant::now());
        let recorded = (0..2 * MAX_CALLERS).filter_map(|n| attempts.count(&caller(n), start));
        assert_eq!(recorded.count(), MAX_CALLERS);
        assert_eq!(attempts.0.len(), MAX_CALLERS);
        let later = attempts.count(&caller(3 * MAX_CALLERS), start + PERIOD);
        assert_eq!((later, attempts.0.len()), (Some(0), 1));
    }
}
