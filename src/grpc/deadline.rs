//! How long a call may take.

use std::time::Duration;

use http::HeaderMap;

/// The caller's deadline from `grpc-timeout`, or the longest one where it is absent,
/// malformed or longer (gRPC over HTTP/2, "Timeout").
pub(super) fn of(headers: &HeaderMap, longest: Duration) -> Duration {
    asked(headers).map_or(longest, |asked| asked.min(longest))
}

/// The caller's deadline, if it set a well-formed one.
pub(super) fn asked(headers: &HeaderMap) -> Option<Duration> {
    parse(headers.get("grpc-timeout")?.to_str().ok()?)
}

/// One to eight digits and a unit.
fn parse(text: &str) -> Option<Duration> {
    let unit_at = text.len().checked_sub(1)?;
    let (digits, unit) = text.split_at_checked(unit_at)?;
    let well_formed = (1..=8).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit());
    let count: u64 = well_formed.then(|| digits.parse().ok())??;
    match unit {
        "H" => Some(Duration::from_secs(count * 3600)),
        "M" => Some(Duration::from_secs(count * 60)),
        "S" => Some(Duration::from_secs(count)),
        "m" => Some(Duration::from_millis(count)),
        "u" => Some(Duration::from_micros(count)),
        "n" => Some(Duration::from_nanos(count)),
        _ => None,
    }
}

#[cfg(test)]
mod fuzz;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_malformed_or_absent_timeout_is_the_longest_one() {
        let longest = Duration::from_secs(30);
        for (header, expected) in [
            (None, 30_000_000_000),
            (Some("5S"), 5_000_000_000),
            (Some("00000005S"), 5_000_000_000),
            (Some("250m"), 250_000_000),
            (Some("7u"), 7000),
            (Some("9n"), 9),
            (Some("0S"), 0),
            (Some("1M"), 30_000_000_000),
            (Some("99999999H"), 30_000_000_000),
            (Some("123456789m"), 30_000_000_000),
            (Some(""), 30_000_000_000),
            (Some("S"), 30_000_000_000),
            (Some("5"), 30_000_000_000),
            (Some("5s"), 30_000_000_000),
            (Some("-5S"), 30_000_000_000),
            (Some("+5S"), 30_000_000_000),
            (Some("5 S"), 30_000_000_000),
        ] {
            let mut headers = HeaderMap::new();
            if let Some(header) = header {
                headers.insert("grpc-timeout", header.parse().unwrap());
            }
            assert_eq!(
                of(&headers, longest),
                Duration::from_nanos(expected),
                "{header:?}"
            );
        }
    }
}
