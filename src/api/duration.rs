//! Durations as protobuf has them. Prost's own conversion panics on some that are none.

use std::time::Duration;

/// A duration that is not negative. `None` for what is none.
pub fn span(given: &prost_types::Duration) -> Option<Duration> {
    match (u64::try_from(given.seconds), u32::try_from(given.nanos)) {
        (Ok(seconds), Ok(nanos @ 0..=999_999_999)) => Some(Duration::new(seconds, nanos)),
        _ => None,
    }
}

/// The same, the other way round; none where it is too long for protobuf.
pub fn proto(span: Duration) -> Option<prost_types::Duration> {
    span.try_into().ok()
}
