//! How long to wait before minting is tried again.

use std::time::Duration;

/// Exponential back-off with full jitter, so that many broken keys do not knock
/// together when their upstream comes back.
#[derive(Clone, Copy, Debug)]
pub struct Backoff {
    /// No wait is shorter.
    floor: Duration,
    /// The ceiling of the wait after the first failure; it doubles with each further one.
    base: Duration,
    /// The ceiling never rises above this.
    cap: Duration,
}

impl Backoff {
    /// After failures that pass by themselves. Five minutes of them cost about fifteen calls.
    pub const TRANSIENT: Self = Self {
        floor: Duration::from_millis(100),
        base: Duration::from_secs(1),
        cap: Duration::from_secs(60),
    };

    /// After a rejection, which an operator has to end. Seldom enough to look like no
    /// attack on the upstream, often enough that nobody has to restart the broker.
    pub const REJECTED: Self = Self {
        floor: Duration::from_secs(15),
        base: Duration::from_secs(30),
        cap: Duration::from_secs(300),
    };

    /// After a connection to what replicas share was lost or refused. Nobody waits for it, and
    /// a server that is back is found within seconds.
    pub const RECONNECT: Self = Self {
        floor: Duration::from_millis(50),
        base: Duration::from_millis(100),
        cap: Duration::from_secs(5),
    };

    /// The wait after `failures` (at least one) failures in a row, for a `draw` from `[0, 1)`.
    pub fn delay(&self, failures: u32, draw: f64) -> Duration {
        // 2^16 times the base is above every cap, and a larger exponent could overflow.
        let doublings = failures.saturating_sub(1).min(16);
        let ceiling = self.base.saturating_mul(1 << doublings).min(self.cap);
        self.floor + ceiling.saturating_sub(self.floor).mul_f64(draw)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ceiling_doubles_up_to_the_cap_and_the_floor_holds() {
        let nearly_one = 1.0 - f64::EPSILON;
        for (failures, ceiling) in [(1, 1), (2, 2), (3, 4), (6, 32), (7, 60), (u32::MAX, 60)] {
            let longest = Backoff::TRANSIENT.delay(failures, nearly_one);
            let ceiling = Duration::from_secs(ceiling);
            let just_below = ceiling.saturating_sub(Duration::from_micros(1))..=ceiling;
            assert!(
                just_below.contains(&longest),
                "{failures} failures: {longest:?}"
            );
            assert_eq!(
                Backoff::TRANSIENT.delay(failures, 0.0),
                Duration::from_millis(100)
            );
        }
    }

    #[test]
    fn a_rejection_is_retried_between_fifteen_seconds_and_five_minutes() {
        assert_eq!(Backoff::REJECTED.delay(1, 0.0), Duration::from_secs(15));
        assert!(Backoff::REJECTED.delay(u32::MAX, 0.999) < Duration::from_secs(300));
    }
}
