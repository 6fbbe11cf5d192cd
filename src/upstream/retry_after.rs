//! The `Retry-After` header (RFC 9110 §10.2.3).

use std::time::{Duration, SystemTime};

use jiff::fmt::rfc2822::DateTimeParser;

/// How long to wait from `now` on: a number of seconds, or the time until a date, which
/// is zero once the date is past. Anything else is `None`.
///
/// The result is not capped: it may be as long as a server likes to write.
pub(super) fn parse(text: &str, now: SystemTime) -> Option<Duration> {
    let text = text.trim();
    if text.is_empty() {
        return None;
    }
    if text.bytes().all(|byte| byte.is_ascii_digit()) {
        // Only too large a number fails to parse.
        return Some(Duration::from_secs(text.parse().unwrap_or(u64::MAX)));
    }
    // An IMF-fixdate always ends so; without it the parser would take any mail's date.
    text.strip_suffix(" GMT")?;
    let date = DateTimeParser::new().parse_timestamp(text).ok()?;
    let wait = SystemTime::try_from(date).ok()?.duration_since(now);
    Some(wait.unwrap_or(Duration::ZERO))
}

#[cfg(test)]
mod fuzz;

#[cfg(test)]
mod tests {
    use super::*;

    /// Sun, 06 Nov 1994 08:49:37 GMT.
    const NOW: u64 = 784_111_777;

    #[test]
    fn seconds_and_dates_and_nothing_else() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(NOW);
        for (text, expected) in [
            ("0", Some(0)),
            ("30", Some(30)),
            (" 30 ", Some(30)),
            ("007", Some(7)),
            ("18446744073709551615", Some(u64::MAX)),
            ("99999999999999999999999999", Some(u64::MAX)),
            ("Sun, 06 Nov 1994 08:49:37 GMT", Some(0)),
            ("Sun, 06 Nov 1994 08:50:37 GMT", Some(60)),
            ("Sun, 06 Nov 1994 08:49:36 GMT", Some(0)),
            ("Thu, 01 Jan 1970 00:00:00 GMT", Some(0)),
            ("Thu, 30 Dec 9999 00:00:00 GMT", Some(252_618_016_223)),
            ("", None),
            (" ", None),
            ("-1", None),
            ("+1", None),
            ("1.5", None),
            ("1e3", None),
            ("0x10", None),
            ("30 s", None),
            ("٣", None),
            ("soon", None),
            (" GMT", None),
            ("Mon, 06 Nov 1994 08:49:37 GMT", None),
            ("Sun, 31 Feb 1994 08:49:37 GMT", None),
            ("Sun, 06 Nov 1994 08:49:37 +0000", None),
            ("Sunday, 06-Nov-94 08:49:37 GMT", None),
            ("Sun Nov  6 08:49:37 1994", None),
            ("1994-11-06T08:49:37Z", None),
        ] {
            assert_eq!(
                parse(text, now),
                expected.map(Duration::from_secs),
                "{text:?}"
            );
        }
    }
}
