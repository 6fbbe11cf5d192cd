//! How much a peer may still cost.

use std::time::Duration;

use crate::clock::Instant;

/// What an idle connection may cost at once.
pub(super) const CAPACITY: u32 = 1_000;
/// How long it takes to win back one unit: 100 a second.
pub(super) const REFILL: Duration = Duration::from_millis(10);

/// What a peer sends too much of. The list is closed, so that it can label a metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::listener) enum Flood {
    /// PING, or answers to pings.
    Ping,
    /// SETTINGS.
    Settings,
    /// Calls that are reset at once, or made so that the broker must reset them.
    Reset,
    /// Header blocks in pieces.
    Continuation,
    /// DATA that carries nothing, or next to nothing.
    EmptyData,
    /// `WINDOW_UPDATE`.
    WindowUpdate,
    /// PRIORITY.
    Priority,
    /// Frames that a client has no reason to send.
    Unknown,
}

impl Flood {
    const COUNT: usize = Self::Unknown as usize + 1;

    /// Its name in metrics and logs.
    pub(in crate::listener) fn label(self) -> &'static str {
        match self {
            Self::Ping => "flood_ping",
            Self::Settings => "flood_settings",
            Self::Reset => "flood_reset",
            Self::Continuation => "flood_continuation",
            Self::EmptyData => "flood_empty_data",
            Self::WindowUpdate => "flood_window_update",
            Self::Priority => "flood_priority",
            Self::Unknown => "flood_unknown",
        }
    }

    const ALL: [Self; Self::COUNT] = [
        Self::Ping,
        Self::Settings,
        Self::Reset,
        Self::Continuation,
        Self::EmptyData,
        Self::WindowUpdate,
        Self::Priority,
        Self::Unknown,
    ];
}

/// A token bucket that remembers what its tokens went on.
#[derive(Debug)]
pub(super) struct Bucket {
    left: u32,
    refilled: Instant,
    /// Since the bucket was last full, so that an honest past does not hide a flood.
    spent: [u32; Flood::COUNT],
}

impl Bucket {
    pub(super) fn full(now: Instant) -> Self {
        Self {
            left: CAPACITY,
            refilled: now,
            spent: [0; Flood::COUNT],
        }
    }

    /// Takes the price of a frame.
    ///
    /// # Errors
    /// When there is not enough left: what most was spent on.
    pub(super) fn charge(&mut self, on: Flood, price: u32, now: Instant) -> Result<(), Flood> {
        self.refill(now);
        let spent = &mut self.spent[on as usize];
        *spent = spent.saturating_add(price);
        match self.left.checked_sub(price) {
            Some(left) => {
                self.left = left;
                Ok(())
            }
            None => Err(self.dearest()),
        }
    }

    /// Puts back what useful work earned.
    pub(super) fn credit(&mut self, earned: u32) {
        self.left = self.left.saturating_add(earned).min(CAPACITY);
        if self.left == CAPACITY {
            self.spent = [0; Flood::COUNT];
        }
    }

    fn refill(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.refilled);
        let units = passed.as_nanos() / REFILL.as_nanos();
        // The remainder stays, or else frequent charges would never win anything back.
        match u32::try_from(units) {
            Ok(units) if units < CAPACITY => self.refilled += REFILL * units,
            _ => self.refilled = now,
        }
        self.credit(u32::try_from(units).unwrap_or(CAPACITY));
    }

    fn dearest(&self) -> Flood {
        Flood::ALL
            .into_iter()
            .max_by_key(|flood| self.spent[*flood as usize])
            .unwrap_or(Flood::Unknown)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many charges pass until one does not.
    fn charges(bucket: &mut Bucket, on: Flood, price: u32, now: Instant) -> u32 {
        let mut passed = 0;
        while bucket.charge(on, price, now).is_ok() {
            passed += 1;
        }
        passed
    }

    #[test]
    fn what_passes_is_what_fits_plus_what_time_gives_back() {
        let start = Instant::now();
        // (price, pause after emptying, charges that pass then)
        for (price, pause, expected) in [
            (1, Duration::ZERO, 0),
            (1, Duration::from_millis(9), 0),
            (1, Duration::from_millis(10), 1),
            (1, Duration::from_millis(25), 2),
            (1, Duration::from_secs(1), 100),
            (10, Duration::from_secs(1), 10),
            (1, Duration::from_secs(10), 1_000),
            (1, Duration::from_secs(3_600), 1_000),
            (1, Duration::MAX / 4, 1_000),
        ] {
            let mut bucket = Bucket::full(start);
            assert_eq!(
                charges(&mut bucket, Flood::Ping, price, start),
                CAPACITY / price
            );
            let Some(later) = start.checked_add(pause) else {
                continue;
            };
            let passed = charges(&mut bucket, Flood::Ping, price, later);
            assert_eq!(passed, expected, "price {price}, pause {pause:?}");
        }
    }

    #[test]
    fn fractions_of_a_refill_add_up() {
        let start = Instant::now();
        let mut bucket = Bucket::full(start);
        charges(&mut bucket, Flood::Ping, 1, start);
        let passed: u32 = (1..=1_000)
            .map(|n| start + Duration::from_millis(n))
            .map(|now| charges(&mut bucket, Flood::Ping, 1, now))
            .sum();
        assert_eq!(passed, 100);
    }

    #[test]
    fn time_that_runs_backwards_gives_nothing() {
        let start = Instant::now() + Duration::from_secs(10);
        let mut bucket = Bucket::full(start);
        charges(&mut bucket, Flood::Ping, 1, start);
        let before = start.checked_sub(Duration::from_secs(5)).unwrap();
        assert_eq!(charges(&mut bucket, Flood::Ping, 1, before), 0);
        assert_eq!(charges(&mut bucket, Flood::Ping, 1, start), 0);
    }

    #[test]
    fn credit_never_overflows_the_bucket() {
        let start = Instant::now();
        let mut bucket = Bucket::full(start);
        bucket.credit(u32::MAX);
        assert_eq!(charges(&mut bucket, Flood::Ping, 1, start), CAPACITY);
        bucket.credit(7);
        assert_eq!(charges(&mut bucket, Flood::Ping, 1, start), 7);
    }

    #[test]
    fn the_flood_is_named_and_not_the_frame_that_came_last() {
        let start = Instant::now();
        let mut bucket = Bucket::full(start);
        // A past of window updates that were paid for.
        for _ in 0..100_000 {
            bucket.charge(Flood::WindowUpdate, 2, start).unwrap();
            bucket.credit(2);
        }
        for _ in 0..CAPACITY / 2 {
            bucket.charge(Flood::Ping, 2, start).unwrap();
        }
        assert_eq!(bucket.charge(Flood::Priority, 1, start), Err(Flood::Ping));
    }

    #[test]
    fn every_flood_has_a_name_and_a_place_of_its_own() {
        for (place, flood) in Flood::ALL.into_iter().enumerate() {
            assert_eq!(flood as usize, place, "{}", flood.label());
        }
    }
}
