//! Spans and moments in words.

use std::{
    fmt,
    time::{Duration, SystemTime},
};

use jiff::{Timestamp, tz::Offset};

const MINUTE: u64 = 60;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;
/// From here on seconds do not matter.
const LONG: u64 = 10 * MINUTE;

/// A span in words, rounded down, with no more than two units.
#[derive(Clone, Copy, Debug)]
pub(super) struct Span(pub(super) Duration);

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.as_secs();
        let (first, rest) = match seconds {
            0..MINUTE => (format!("{seconds} s"), None),
            MINUTE..LONG => (
                format!("{} min", seconds / MINUTE),
                Some((seconds % MINUTE, "s")),
            ),
            LONG..HOUR => (format!("{} min", seconds / MINUTE), None),
            HOUR..DAY => (
                format!("{} h", seconds / HOUR),
                Some((seconds % HOUR / MINUTE, "min")),
            ),
            _ => (
                format!("{} d", seconds / DAY),
                Some((seconds % DAY / HOUR, "h")),
            ),
        };
        f.write_str(&first)?;
        match rest {
            Some((count @ 1.., unit)) => write!(f, " {count} {unit}"),
            _ => Ok(()),
        }
    }
}

/// When something is, seen from now: `3 min ago`, `in 20 s`, `now`.
pub(super) fn when(at: SystemTime, now: SystemTime) -> String {
    match at.duration_since(now) {
        Ok(ahead) if ahead.as_secs() == 0 => "now".to_owned(),
        Ok(ahead) => format!("in {}", Span(ahead)),
        Err(past) if past.duration().as_secs() == 0 => "now".to_owned(),
        Err(past) => format!("{} ago", Span(past.duration())),
    }
}

/// How long until then; nothing when it is past.
pub(super) fn until(at: SystemTime, now: SystemTime) -> Duration {
    at.duration_since(now).unwrap_or_default()
}

/// A moment as a clock shows it, and how far away it is.
pub(super) fn moment(at: SystemTime, now: SystemTime) -> String {
    format!("{} ({})", clock(at, now), when(at, now))
}

/// A moment as a clock shows it: with its day unless that is today.
pub(super) fn clock(at: SystemTime, now: SystemTime) -> String {
    let (Ok(at), Ok(now)) = (Timestamp::try_from(at), Timestamp::try_from(now)) else {
        return "at an unknown time".to_owned();
    };
    let (shown, today) = (Offset::UTC.to_datetime(at), Offset::UTC.to_datetime(now));
    let format = if shown.date() == today.date() {
        "%H:%M:%S UTC"
    } else {
        "%Y-%m-%d %H:%M UTC"
    };
    shown.strftime(format).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_have_two_units_at_most() {
        for (seconds, expected) in [
            (0, "0 s"),
            (59, "59 s"),
            (60, "1 min"),
            (200, "3 min 20 s"),
            (599, "9 min 59 s"),
            (600, "10 min"),
            (3599, "59 min"),
            (3600, "1 h"),
            (3900, "1 h 5 min"),
            (86_399, "23 h 59 min"),
            (86_400, "1 d"),
            (100_000, "1 d 3 h"),
        ] {
            assert_eq!(Span(Duration::from_secs(seconds)).to_string(), expected);
        }
    }

    #[test]
    fn moments_are_seen_from_now() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(86_400);
        let second = Duration::from_secs(1);
        assert_eq!(when(now, now), "now");
        assert_eq!(when(now + second * 20, now), "in 20 s");
        assert_eq!(when(now - second * 20, now), "20 s ago");
        assert_eq!(
            moment(now + second * 61, now),
            "00:01:01 UTC (in 1 min 1 s)"
        );
        assert_eq!(clock(now - second, now), "1970-01-01 23:59 UTC");
    }
}
