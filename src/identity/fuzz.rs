//! The rules of names a second time, written from the standards and one character at a
//! time, so that no slip is shared with the parser.

use proptest::{collection::vec, prelude::*, sample::select};

use super::*;
use crate::fuzz::Target;

/// Words of which names are made, and what somebody would try to smuggle in.
pub(crate) const WORDS: [&str; 34] = [
    "spiffe://",
    "spiffe:/",
    "SPIFFE://",
    "https://",
    "corp.example",
    "CORP.example",
    "td",
    "/",
    "//",
    "/./",
    "/../",
    "/ns/shop/sa/cart",
    ".",
    "..",
    "...",
    "-",
    "_",
    "a",
    "Z",
    "9",
    ":443",
    "user@",
    "?q=1",
    "#f",
    "%2f",
    "%",
    "*",
    "\\",
    "\u{e9}",
    "\u{ff0f}",
    "xn--",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    "b.b.b.b.b.b.b.b.b.b.b.b.b.b.b.b.b.b.b.b.b.b.b.b.b.b.b.b.b.b.b.b.b.b.b.b.b.b.b.b.b.b.b.b.b.b.b.b",
    "/s/s/s/s/s/s/s/s/s/s/s/s/s/s/s/s/s/s/s/s/s/s/s/s/s/s/s/s/s/s/s/s/s/s/s/s/s/s/s/s/s/s/s/s/s/s/s/s",
];

/// Names that nearly are, or are, those of callers.
pub(crate) fn any_name() -> impl Strategy<Value = String> {
    let words = |most| vec(select(WORDS.as_slice()), 0..most).prop_map(|words| words.concat());
    prop_oneof![
        words(6),
        words(60),
        words(5).prop_map(|rest| format!("spiffe://td/{rest}")),
        "spiffe://[a-z0-9._-]{1,9}(/[A-Za-z0-9._-]{1,4}){1,5}",
        "[a-z0-9-]{1,9}(\\.[a-z0-9-]{1,4}){0,5}",
        (250..258_usize).prop_map(|length| format!("spiffe://{}/a", "t".repeat(length))),
        (2030..2050_usize).prop_map(|length| format!("spiffe://t/{}", "p".repeat(length))),
        (60..66_usize).prop_map(|length| "l".repeat(length)),
        (124..129_usize).prop_map(|labels| vec!["l"; labels].join(".")),
    ]
}

/// SPIFFE ID §2: `spiffe://`, a trust domain of at most 255 bytes, and a path that is
/// not empty, all in at most 2048 bytes.
pub(crate) fn is_spiffe_id(text: &str) -> bool {
    enum At {
        TrustDomain(usize),
        /// How long the segment is so far, and whether it is all dots.
        Segment(usize, bool),
    }
    let mut rest = text.chars();
    if "spiffe://"
        .chars()
        .any(|expected| rest.next() != Some(expected))
    {
        return false;
    }
    let mut at = At::TrustDomain(0);
    for next in rest {
        at = match (at, next) {
            (At::TrustDomain(length @ 1..=255), '/') if length > 0 => At::Segment(0, true),
            (At::TrustDomain(length), 'a'..='z' | '0'..='9' | '.' | '-' | '_') => {
                At::TrustDomain(length + 1)
            }
            (At::Segment(length, dots), '/') if length > 2 || (length > 0 && !dots) => {
                At::Segment(0, true)
            }
            (At::Segment(length, dots), '.') => At::Segment(length + 1, dots),
            (At::Segment(length, _), 'a'..='z' | 'A'..='Z' | '0'..='9' | '-' | '_') => {
                At::Segment(length + 1, false)
            }
            _ => return false,
        };
    }
    let complete = matches!(at, At::Segment(3.., _) | At::Segment(1..=2, false));
    complete && text.len() < 2049
}

/// RFC 1035 §2.3.4 and RFC 1123 §2.1, lower case only.
pub(crate) fn is_dns_name(text: &str) -> bool {
    let mut label = 0;
    let mut before = '.';
    for next in text.chars().chain(['.']) {
        let fits = match next {
            '.' => label > 0 && label < 64 && before != '-',
            '-' => label > 0,
            _ => next.is_ascii_lowercase() || next.is_ascii_digit(),
        };
        if !fits {
            return false;
        }
        label = if next == '.' { 0 } else { label + 1 };
        before = next;
    }
    text.chars().count() < 254
}

#[test]
fn a_text_names_a_caller_exactly_when_the_standards_say_so() {
    Target::new("caller-id")
        .words(&WORDS)
        .inventing(any_name())
        .holds(|input| {
            let Ok(text) = std::str::from_utf8(input) else {
                return false;
            };
            let (spiffe, dns) = (CallerId::from_spiffe(text), CallerId::from_dns(text));
            assert_eq!(spiffe.is_ok(), is_spiffe_id(text));
            assert_eq!(dns.is_ok(), is_dns_name(text));
            assert!(spiffe.is_err() || dns.is_err(), "two callers with one text");
            let parsed = CallerId::parse(text);
            assert_eq!(parsed.clone().ok(), spiffe.ok().or(dns.ok()));
            if let Ok(id) = &parsed {
                assert_eq!(id.as_str(), text);
            }
            parsed.is_ok()
        });
}
