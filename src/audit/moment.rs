//! When something happened, as records say it.

use std::{fmt::Write as _, time::SystemTime};

use jiff::{Timestamp, tz::Offset};

/// Appends a moment as RFC 3339 has it, with milliseconds.
///
/// It is done by hand for the years that records are of: two moments are in the record of
/// each call, and whoever can write any moment in any format takes much longer.
pub(super) fn push(moment: SystemTime, out: &mut String) {
    let moment = Timestamp::try_from(moment).unwrap_or(Timestamp::MAX);
    let shown = Offset::UTC.to_datetime(moment);
    let Ok(year) = u16::try_from(shown.year()) else {
        let _ = write!(out, "{moment:.3}");
        return;
    };
    let mut text = *b"0000-00-00T00:00:00.000Z";
    let mut write = |at: usize, digits: usize, number: u16| {
        let mut rest = number;
        for digit in text[at..at + digits].iter_mut().rev() {
            *digit = b'0' + u8::try_from(rest % 10).unwrap_or_default();
            rest /= 10;
        }
    };
    let unsigned = |number: i8| u16::from(number.unsigned_abs());
    write(0, 4, year);
    write(5, 2, unsigned(shown.month()));
    write(8, 2, unsigned(shown.day()));
    write(11, 2, unsigned(shown.hour()));
    write(14, 2, unsigned(shown.minute()));
    write(17, 2, unsigned(shown.second()));
    write(20, 3, shown.millisecond().unsigned_abs());
    out.push_str(str::from_utf8(&text).unwrap_or_default());
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;

    #[test]
    fn moments_are_written_as_jiff_writes_them() {
        let after = |milliseconds| UNIX_EPOCH + Duration::from_millis(milliseconds);
        let random = (0..1000).map(|_| after(rand::random_range(0..253_402_207_200_000)));
        let chosen = [
            0,
            1,
            999,
            951_782_399_999,
            951_782_400_000,
            1_800_000_000_123,
            253_402_207_199_999,
            u64::MAX / 1_000_000,
        ];
        let before = [1, 1_000_000_000, 70_000_000_000_000]
            .map(|milliseconds| UNIX_EPOCH - Duration::from_millis(milliseconds));
        let nanoseconds = [UNIX_EPOCH + Duration::from_nanos(1_999_999)];
        let moments = random
            .chain(chosen.map(after))
            .chain(before)
            .chain(nanoseconds);
        for moment in moments {
            let mut text = String::new();
            push(moment, &mut text);
            let timestamp = Timestamp::try_from(moment).unwrap_or(Timestamp::MAX);
            assert_eq!(text, format!("{timestamp:.3}"));
        }
    }
}
