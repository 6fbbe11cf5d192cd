//! Paths that a client may send, and a server that reads them as sloppily as any does.

use proptest::{collection::vec, prelude::*, sample::select};

use super::*;
use crate::fuzz::Target;

const WORDS: [&str; 20] = [
    "/", "//", ".", "..", "/../", "\\", ";", "?", "#", "%", "%2e", "%2E", "%2f", "%5c", "%3b",
    "%25", "%252e", "%74", "%C3%A4", "tenant",
];

#[test]
fn the_sloppiest_server_sees_no_other_path() {
    let invented = vec(select(WORDS.to_vec()), 1..8).prop_map(|words| words.concat());
    Target::new("request-path")
        .words(&WORDS)
        .inventing(invented.prop_map(|path| format!("/{path}")))
        .holds(|input| {
            let Ok(path) = std::str::from_utf8(input) else {
                return false;
            };
            let Some(canonical_path) = canonical(path) else {
                return false;
            };
            let again = canonical(&format!("{canonical_path}/"));
            assert_eq!(again.as_ref(), Some(&canonical_path));
            let seen = canonical_path.split('/').skip(1);
            let seen: Vec<_> = seen.map(|segment| decoded(segment.as_bytes())).collect();
            assert_eq!(sloppily(path), seen);
            true
        });
}

/// Decodes for as long as there is something to decode, cuts at `?` and `#`, takes either
/// slash, drops parameters, empty segments and dots, and goes up at two dots.
fn sloppily(path: &str) -> Vec<Vec<u8>> {
    let mut path = path.as_bytes().to_vec();
    loop {
        let next = decoded(&path);
        if next == path {
            break;
        }
        path = next;
    }
    let path = path.split(|byte| b"?#".contains(byte)).next().unwrap();
    let mut segments = Vec::new();
    for segment in path.split(|byte| b"/\\".contains(byte)) {
        match segment.split(|byte| *byte == b';').next().unwrap() {
            b"" | b"." => {}
            b".." => {
                segments.pop();
            }
            segment => segments.push(segment.to_vec()),
        }
    }
    segments
}

fn decoded(bytes: &[u8]) -> Vec<u8> {
    let mut decoded = Vec::new();
    let mut rest = bytes;
    while let Some((first, after)) = rest.split_first() {
        let encoded = (*first == b'%').then(|| after.get(..2)).flatten();
        let byte = encoded
            .filter(|digits| digits.iter().all(u8::is_ascii_hexdigit))
            .and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).unwrap(), 16).ok());
        decoded.push(byte.unwrap_or(*first));
        rest = if byte.is_some() { &after[2..] } else { after };
    }
    decoded
}
