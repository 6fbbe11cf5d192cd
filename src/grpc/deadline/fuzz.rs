//! Timeouts that peers may send, and a second reader of them.

use http::{HeaderMap, HeaderValue};

use super::*;
use crate::fuzz::Target;

const LONGEST: Duration = Duration::from_secs(30);

#[test]
fn a_deadline_is_what_the_header_says_or_the_longest_one() {
    Target::new("grpc-timeout")
        .words(&["H", "M", "S", "m", "u", "n", "99999999", "00000000", "+"])
        .inventing("[0-9]{0,9}[HMSmunhs ]{0,2}")
        .holds(|header| {
            let mut headers = HeaderMap::new();
            let Ok(value) = HeaderValue::from_bytes(header) else {
                return false;
            };
            headers.insert("grpc-timeout", value);
            let deadline = of(&headers, LONGEST);
            let written = nanoseconds(header);
            let longest = LONGEST.as_nanos();
            let expected = written.map_or(longest, |asked| asked.min(longest));
            assert_eq!(deadline.as_nanos(), expected);
            if let Ok(text) = std::str::from_utf8(header) {
                assert_eq!(parse(text).map(|timeout| timeout.as_nanos()), written);
            }
            written.is_some()
        });
}

/// gRPC over HTTP/2: `TimeoutValue TimeoutUnit`, the value at most eight digits.
fn nanoseconds(header: &[u8]) -> Option<u128> {
    let (unit, digits) = header.split_last()?;
    if digits.is_empty() || digits.len() > 8 {
        return None;
    }
    let mut count = 0;
    for digit in digits {
        count = count * 10 + u128::from(digit.checked_sub(b'0').filter(|digit| *digit < 10)?);
    }
    let units = [
        (b'H', 3_600_000_000_000),
        (b'M', 60_000_000_000),
        (b'S', 1_000_000_000),
        (b'm', 1_000_000),
        (b'u', 1000),
        (b'n', 1),
    ];
    let (_, length) = units.iter().find(|(name, _)| name == unit)?;
    Some(count * length)
}
