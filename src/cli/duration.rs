//! Durations as people type them: a number with its unit.

use std::time::Duration;

use jiff::{SignedDuration, Span, SpanRelativeTo};

/// No command waits for longer; it also keeps deadlines within every clock's range.
const MAX_TIMEOUT: Duration = Duration::from_secs(3600);
/// Nobody looks more often, and the broker has other things to do.
const MIN_INTERVAL: Duration = Duration::from_millis(100);

/// Reads a duration such as `90s`, `5m` or `1h 30m`.
pub(super) fn duration(text: &str) -> Result<Duration, &'static str> {
    text.parse::<SignedDuration>()
        .ok()
        .and_then(|duration| Duration::try_from(duration).ok())
        .ok_or("give a number with its unit, such as 90s, 5m or 1h")
}

/// Reads a duration such as `720h` or `30d`, with days of 24 hours.
pub(super) fn long_duration(text: &str) -> Result<Duration, &'static str> {
    text.parse::<Span>()
        .and_then(|span| span.to_duration(SpanRelativeTo::days_are_24_hours()))
        .ok()
        .and_then(|duration| Duration::try_from(duration).ok())
        .ok_or("give a number with its unit, such as 30d, 720h or 90m")
}

/// Reads how often something is looked at.
pub(super) fn interval(text: &str) -> Result<Duration, &'static str> {
    let interval = duration(text)?;
    (MIN_INTERVAL..=MAX_TIMEOUT)
        .contains(&interval)
        .then_some(interval)
        .ok_or("give at least 100ms and at most 1h")
}

/// Reads the time that a command may take.
pub(super) fn timeout(text: &str) -> Result<Duration, &'static str> {
    let timeout = duration(text)?;
    (!timeout.is_zero() && timeout <= MAX_TIMEOUT)
        .then_some(timeout)
        .ok_or("give more than 0s and at most 1h")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_need_a_unit_and_cannot_be_negative() {
        for (text, seconds) in [
            ("0s", Some(0)),
            ("90s", Some(90)),
            ("5m", Some(300)),
            ("1h 30m", Some(5400)),
            ("5", None),
            ("-5m", None),
            ("5 apples", None),
            ("", None),
        ] {
            let expected = seconds.map(Duration::from_secs);
            assert_eq!(duration(text).ok(), expected, "{text:?}");
        }
    }

    #[test]
    fn a_long_duration_may_be_in_days() {
        for (text, hours) in [
            ("30d", Some(720)),
            ("720h", Some(720)),
            ("2w", Some(336)),
            ("1d 12h", Some(36)),
            ("0s", Some(0)),
            ("30", None),
            ("-30d", None),
            ("1 month", None),
            ("", None),
        ] {
            let expected = hours.map(|hours| Duration::from_secs(hours * 3600));
            assert_eq!(long_duration(text).ok(), expected, "{text:?}");
        }
    }

    #[test]
    fn a_timeout_is_more_than_nothing_and_at_most_an_hour() {
        for (text, accepted) in [
            ("0s", false),
            ("1ms", true),
            ("1h", true),
            ("3601s", false),
            ("9999999999h", false),
        ] {
            assert_eq!(timeout(text).is_ok(), accepted, "{text}");
        }
    }
}
