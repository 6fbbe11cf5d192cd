//! The one time scale that all rows share.

use std::time::{Duration, SystemTime};

use crate::broker::TokenTimes;

/// How far a scale may reach to one side, in seconds. Few steps, so that it seldom changes.
const STEPS: [u64; 17] = [
    10, 20, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10_800, 21_600, 43_200, 86_400, 172_800,
    604_800,
];
/// A token that lives much longer than most is cut off: the others would be dots beside it.
const OUTLIER: u32 = 4;
/// What is shown where there is no token.
const ORDINARY_LIFE: Duration = Duration::from_secs(3600);
/// The scale is divided into about so many parts.
const TICKS: u64 = 6;

/// From when to when all rows are drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Scale {
    now: SystemTime,
    past: Duration,
    future: Duration,
}

/// Where a moment is on a scale.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Place {
    Before,
    /// In tenths of a percent of the width, so that a row changes only when one can see it.
    At(u16),
    After,
}

/// A mark on the scale.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Tick {
    pub(super) at: u16,
    pub(super) text: String,
}

impl Scale {
    /// The scale on which these tokens are seen from their request to their end, and would
    /// still be after their next refresh.
    pub(super) fn of(tokens: impl Iterator<Item = TokenTimes>, now: SystemTime) -> Self {
        let (mut pasts, mut futures) = (Vec::new(), Vec::new());
        for token in tokens {
            let span =
                |from: SystemTime, to: SystemTime| to.duration_since(from).unwrap_or_default();
            let life = span(token.requested_at, token.expires_at);
            pasts.push(span(token.requested_at, now).max(life / 2));
            futures.push(span(now, token.expires_at).max(life));
        }
        Self {
            now,
            past: reach(pasts, ORDINARY_LIFE / 2),
            future: reach(futures, ORDINARY_LIFE),
        }
    }

    pub(super) fn place(&self, at: SystemTime) -> Place {
        let start = self.now.checked_sub(self.past).unwrap_or(self.now);
        let Ok(from_start) = at.duration_since(start) else {
            return Place::Before;
        };
        let share = from_start.as_secs_f64() / (self.past + self.future).as_secs_f64();
        if share > 1.0 {
            return Place::After;
        }
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "it is from 0 to 1000"
        )]
        let tenths = (share * 1000.0).round() as u16;
        Place::At(tenths)
    }

    /// Where this very moment is.
    pub(super) fn now(&self) -> u16 {
        self.clamped(self.now)
    }

    /// Where a moment is, or the end that it is beyond.
    pub(super) fn clamped(&self, at: SystemTime) -> u16 {
        match self.place(at) {
            Place::Before => 0,
            Place::At(tenths) => tenths,
            Place::After => 1000,
        }
    }

    /// The marks from one end to the other.
    pub(super) fn ticks(&self) -> Vec<Tick> {
        let (past, future) = (self.past.as_secs(), self.future.as_secs());
        let wanted = (past + future) / TICKS;
        let step = STEPS.into_iter().find(|step| wanted <= *step);
        let step = step.unwrap_or(wanted).max(1);
        let mut ticks = Vec::new();
        for count in (1..=past / step).rev() {
            ticks.push(self.tick(count * step, false));
        }
        for count in 1..=future / step {
            ticks.push(self.tick(count * step, true));
        }
        ticks
    }

    fn tick(&self, seconds: u64, is_ahead: bool) -> Tick {
        let span = Duration::from_secs(seconds);
        let (at, sign) = if is_ahead {
            (self.now + span, "+")
        } else {
            (self.now - span, "−")
        };
        // In one unit, so that it is short.
        let units = [(86_400, "d"), (3600, "h"), (60, "min")];
        let unit = units
            .into_iter()
            .find(|(unit, _)| seconds.is_multiple_of(*unit));
        let (unit, word) = unit.unwrap_or((1, "s"));
        let text = format!("{sign}{} {word}", seconds / unit);
        Tick {
            at: self.clamped(at),
            text,
        }
    }
}

/// The smallest step that is enough for nearly all.
fn reach(mut needs: Vec<Duration>, otherwise: Duration) -> Duration {
    needs.sort_unstable();
    let median = needs.get(needs.len() / 2).copied().unwrap_or(otherwise);
    let most = needs.last().copied().unwrap_or(otherwise);
    let need = most.min(median * OUTLIER);
    let steps = STEPS.map(Duration::from_secs);
    // An hour since a request that took a moment is still an hour.
    let is_enough = |step: &Duration| need <= *step + *step / 50;
    steps
        .into_iter()
        .find(is_enough)
        .unwrap_or(steps[STEPS.len() - 1])
}
