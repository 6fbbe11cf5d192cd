//! `Retry-After` headers that servers may send, and a second reader of them.

use proptest::prelude::*;

use super::*;
use crate::fuzz::Target;

/// Sun, 06 Nov 1994 08:49:37 GMT.
const NOW: u64 = 784_111_777;

const WORDS: [&str; 12] = [
    "Sun, ", "Mon, ", " Feb ", "29", "30", " 1994 ", " 0000 ", " 9999 ", "23:59:60", "00:00:00",
    " GMT", " +0000",
];
const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
const MONTHS: [&str; 12] = [
    "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
];

#[test]
fn a_wait_is_what_a_second_reader_finds() {
    let date = (0..10_000_i64, 1..13_i64, 0..33_i64);
    let time = (0..25_u64, 0..61_u64, 0..62_u64);
    let date = (date, time).prop_map(|((year, month, day), (hour, minute, second))| {
        let weekday = weekday(days(year, month, day));
        let month = MONTHS[usize::try_from(month - 1).unwrap()];
        format!("{weekday}, {day:02} {month} {year:04} {hour:02}:{minute:02}:{second:02} GMT")
    });
    Target::new("retry-after")
        .words(&WORDS)
        .inventing(prop_oneof!["[0-9]{1,25}", date])
        .holds(|header| {
            let Ok(text) = std::str::from_utf8(header) else {
                return false;
            };
            let found = parse(text, SystemTime::UNIX_EPOCH + Duration::from_secs(NOW));
            let trimmed = text.trim();
            if !trimmed.is_empty() && trimmed.chars().all(|c| c.is_ascii_digit()) {
                assert_eq!(found, Some(Duration::from_secs(saturated(trimmed))));
            } else if let Some(moment) = imf_fixdate(trimmed) {
                let wait = moment.saturating_sub(NOW);
                assert_eq!(found, Some(Duration::from_secs(wait)));
            } else if let Some(wait) = found {
                // A date in a looser spelling, as mails have it.
                assert!(trimmed.ends_with(" GMT"), "{wait:?}");
                assert!(wait.as_secs() < 253_402_300_800, "{wait:?}");
            }
            found.is_some()
        });
}

fn saturated(digits: &str) -> u64 {
    let significant = digits.trim_start_matches('0');
    let number = match significant.len() {
        0 => 0,
        1..=20 => significant.parse::<u128>().unwrap(),
        _ => u128::MAX,
    };
    u64::try_from(number).unwrap_or(u64::MAX)
}

/// RFC 9110 §5.6.7: seconds since 1970 of a date in the preferred form, zero if before.
fn imf_fixdate(text: &str) -> Option<u64> {
    const SEPARATORS: [(usize, u8); 8] = [
        (3, b','),
        (4, b' '),
        (7, b' '),
        (11, b' '),
        (16, b' '),
        (19, b':'),
        (22, b':'),
        (25, b' '),
    ];
    let bytes = text.as_bytes();
    let well_formed = bytes.len() == 29
        && text.is_ascii()
        && text.ends_with("GMT")
        && SEPARATORS
            .iter()
            .all(|(at, separator)| bytes[*at] == *separator);
    if !well_formed {
        return None;
    }
    let number = |at: usize, length: usize| -> Option<i64> {
        let digits = &text[at..at + length];
        digits
            .bytes()
            .all(|byte| byte.is_ascii_digit())
            .then(|| digits.parse().unwrap())
    };
    let month = MONTHS.iter().position(|name| *name == &text[8..11])?;
    let (year, month, day) = (
        number(12, 4)?,
        i64::try_from(month).ok()? + 1,
        number(5, 2)?,
    );
    let (hour, minute, second) = (number(17, 2)?, number(20, 2)?, number(23, 2)?);
    if !(1..=month_length(year, month)).contains(&day) || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let date = days(year, month, day);
    if text[..3] != *weekday(date) {
        return None;
    }
    // A leap second counts as the second before.
    let moment = date * 86_400 + hour * 3600 + minute * 60 + second.min(59);
    let moment = u64::try_from(moment).unwrap_or(0);
    // The calendar of the parser ends 26 hours before the year 9999 does.
    (moment <= 253_402_207_200).then_some(moment)
}

fn weekday(days: i64) -> &'static str {
    DAYS[usize::try_from(days.rem_euclid(7)).unwrap()]
}

/// Days since 1970, counted by years and months.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let leap_years_until = |year: i64| {
        let last = year - 1;
        last.div_euclid(4) - last.div_euclid(100) + last.div_euclid(400)
    };
    let years = (year - 1970) * 365 + leap_years_until(year) - leap_years_until(1970);
    let months: i64 = (1..month).map(|month| month_length(year, month)).sum();
    years + months + day - 1
}

fn month_length(year: i64, month: i64) -> i64 {
    let leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
    match month {
        2 if leap => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}
