//! Turns single values into types. The errors continue a sentence that begins with the
//! key, such as `"listen" must be a text, not an integer`.

use std::{net::SocketAddr, ops::RangeInclusive, time::Duration};

use jiff::{SignedDuration, fmt::friendly::SpanParser};
use toml::de::{DeArray, DeTable, DeValue};

use super::suggestion::{instead_of, quoted};
use crate::{
    destination::{ApplicationName, DestinationId},
    policy::CallerPattern,
};

type Value<'a> = DeValue<'a>;

pub(super) const KIB: u64 = 1024;
pub(super) const MIB: u64 = 1024 * KIB;
pub(super) const GIB: u64 = 1024 * MIB;

/// The units of sizes, the largest first.
const SIZE_UNITS: [(&str, u64); 3] = [("GiB", GIB), ("MiB", MIB), ("KiB", KIB)];

pub(super) fn text<'a>(value: &'a Value<'a>) -> Result<&'a str, String> {
    value.as_str().ok_or_else(|| not("a text", value))
}

/// A text to be sent as it is: not empty, and in one line.
pub(super) fn line<'a>(value: &'a Value<'a>) -> Result<&'a str, String> {
    let text = text(value)?;
    if text.is_empty() || text.chars().any(char::is_control) {
        return Err("must be a text of one line that is not empty".to_owned());
    }
    Ok(text)
}

pub(super) fn boolean(value: &Value<'_>) -> Result<bool, String> {
    value.as_bool().ok_or_else(|| not("true or false", value))
}

pub(super) fn array<'a>(value: &'a Value<'a>) -> Result<&'a DeArray<'a>, String> {
    value.as_array().ok_or_else(|| not("an array", value))
}

pub(super) fn table<'a>(value: &'a Value<'a>) -> Result<&'a DeTable<'a>, String> {
    value.as_table().ok_or_else(|| not("a table", value))
}

/// A whole number within bounds.
pub(super) fn number(range: RangeInclusive<usize>) -> impl Fn(&Value<'_>) -> Result<usize, String> {
    move |value| {
        let (least, most) = (range.start(), range.end());
        let expected = format!("a whole number from {least} to {most}");
        let Some(integer) = value.as_integer() else {
            return Err(not(&expected, value));
        };
        usize::from_str_radix(integer.as_str(), integer.radix())
            .ok()
            .filter(|number| range.contains(number))
            .ok_or_else(|| format!("must be {expected}"))
    }
}

/// A duration within bounds, with a unit.
pub(super) fn duration(
    range: RangeInclusive<Duration>,
) -> impl Fn(&Value<'_>) -> Result<Duration, String> {
    move |value| {
        if let Some(integer) = value.as_integer() {
            let seconds = integer.as_str().parse().unwrap_or(90_u64);
            return Err(format!(
                "must have a unit: write \"{seconds}s\" for seconds"
            ));
        }
        let text = value
            .as_str()
            .ok_or_else(|| not("a duration in quotes, such as \"90s\"", value))?;
        let duration = parse_duration(text).ok_or_else(|| {
            let text = quoted(text);
            format!(
                "cannot be {text}: write a number and a unit, such as \"90s\", \"5m\" or \"24h\""
            )
        })?;
        if !range.contains(&duration) {
            let (least, most) = (shown(*range.start()), shown(*range.end()));
            return Err(format!("must be from {least} to {most}"));
        }
        Ok(duration)
    }
}

/// A size within bounds, with a unit, in bytes.
pub(super) fn size(range: RangeInclusive<u64>) -> impl Fn(&Value<'_>) -> Result<u64, String> {
    move |value| {
        let text = value
            .as_str()
            .ok_or_else(|| not("a size in quotes, such as \"100MiB\"", value))?;
        let size = parse_size(text).ok_or_else(|| {
            let text = quoted(text);
            format!(
                "cannot be {text}: write a whole number and KiB, MiB or GiB, such as \"100MiB\""
            )
        })?;
        if !range.contains(&size) {
            let (least, most) = (shown_size(*range.start()), shown_size(*range.end()));
            return Err(format!("must be from {least} to {most}"));
        }
        Ok(size)
    }
}

/// An address and a port.
pub(super) fn address(value: &Value<'_>) -> Result<SocketAddr, String> {
    text(value)?.parse().map_err(|_| {
        "must be an IP address and a port, such as \"127.0.0.1:7443\" or \"[::]:7443\"".to_owned()
    })
}

/// One of a few words.
pub(super) fn choice<T: Copy>(choices: &[(&str, T)]) -> impl Fn(&Value<'_>) -> Result<T, String> {
    move |value| {
        let text = text(value)?;
        let found = choices.iter().find(|(word, _)| *word == text);
        found.map(|(_, choice)| *choice).ok_or_else(|| {
            let words: Vec<_> = choices.iter().map(|(word, _)| *word).collect();
            format!("cannot be {}: {}", quoted(text), instead_of(text, &words))
        })
    }
}

pub(super) fn destination_id(value: &Value<'_>) -> Result<DestinationId, String> {
    let text = text(value)?;
    DestinationId::parse(text).map_err(|error| error.to_string())
}

pub(super) fn application_name(value: &Value<'_>) -> Result<ApplicationName, String> {
    let text = text(value)?;
    ApplicationName::parse(text).map_err(|error| error.to_string())
}

pub(super) fn pattern(value: &Value<'_>) -> Result<CallerPattern, String> {
    let text = text(value)?;
    CallerPattern::parse(text).map_err(|error| format!("has {}, but {error}", quoted(text)))
}

fn not(expected: &str, value: &Value<'_>) -> String {
    let actual = match value {
        DeValue::String(_) => "a text",
        DeValue::Integer(_) => "an integer",
        DeValue::Float(_) => "a decimal number",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date or time",
        DeValue::Array(_) => "an array",
        DeValue::Table(_) => "a table",
    };
    format!("must be {expected}, not {actual}")
}

fn parse_duration(text: &str) -> Option<Duration> {
    // jiff also reads clock times such as 00:05:00, which show no unit.
    if text.contains(':') {
        return None;
    }
    SpanParser::new().parse_unsigned_duration(text).ok()
}

fn parse_size(text: &str) -> Option<u64> {
    SIZE_UNITS.iter().find_map(|(unit, bytes)| {
        let digits = text.strip_suffix(unit)?.trim_end();
        let plain = digits.bytes().all(|byte| byte.is_ascii_digit());
        plain
            .then(|| digits.parse::<u64>().ok())??
            .checked_mul(*bytes)
    })
}

fn shown_size(size: u64) -> String {
    let unit = SIZE_UNITS
        .iter()
        .find(|(_, bytes)| size.is_multiple_of(*bytes));
    unit.map_or_else(
        || size.to_string(),
        |(unit, bytes)| format!("{}{unit}", size / bytes),
    )
}

fn shown(duration: Duration) -> String {
    SignedDuration::try_from(duration)
        .map_or_else(|_| format!("{duration:?}"), |d| format!("{d:#}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_need_a_unit_and_no_sign() {
        for (text, seconds) in [
            ("90s", 90.0),
            ("5m", 300.0),
            ("1h30m", 5400.0),
            ("1h 30m", 5400.0),
            ("1.5h", 5400.0),
            ("250ms", 0.25),
            ("0s", 0.0),
        ] {
            assert_eq!(
                parse_duration(text),
                Some(Duration::from_secs_f64(seconds)),
                "{text}"
            );
        }
        for text in [
            "",
            "5",
            "-5s",
            "5s ago",
            "s",
            "00:05:00",
            "5 apples",
            "PT5M",
            "1d",
            "5s5",
            "999999999999999999999h",
        ] {
            assert_eq!(parse_duration(text), None, "{text}");
        }
    }

    #[test]
    fn sizes_need_a_unit_of_powers_of_two() {
        for (text, bytes) in [
            ("1KiB", 1024),
            ("100MiB", 104_857_600),
            ("2 GiB", 2_147_483_648),
            ("0KiB", 0),
        ] {
            assert_eq!(parse_size(text), Some(bytes), "{text}");
        }
        for text in [
            "",
            "1",
            "KiB",
            "1kib",
            "1MB",
            "-1MiB",
            "+1MiB",
            "1.5GiB",
            "1 M",
            "99999999999GiB",
            "99999999999999999999KiB",
        ] {
            assert_eq!(parse_size(text), None, "{text}");
        }
        assert_eq!(shown_size(16 * KIB), "16KiB");
        assert_eq!(shown_size(1024 * GIB), "1024GiB");
    }
}
