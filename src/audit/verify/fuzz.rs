//! Files that are edited, or put together by somebody who knows the format, and a second
//! reader of them.

use std::io::Cursor;

use aws_lc_rs::digest::{SHA256, digest};
use proptest::{collection::vec, prelude::*, sample::select};
use serde_json::Value;

use super::*;
use crate::fuzz::Target;

/// Members of records; `PREVIOUS` is replaced by the hash of the record before.
const BODIES: [&str; 14] = [
    r#""kind":"token""#,
    r#""kind":"act","comment":"\",\"hash\":\"""#,
    r#""kind":"close""#,
    r#""kind":"open","previous":PREVIOUS"#,
    r#""kind":"open","previous":PREVIOUS,"unclean":true"#,
    r#""kind":"open","previous":null"#,
    r#""kind":"open","previous":"ab""#,
    r#""kind":"open""#,
    r#""kind":"gap","missed":18446744073709551615"#,
    r#""kind":"gap","missed":-1"#,
    r#""kind":"gap","missed":2"#,
    r#""kind":5"#,
    r#""sort":"token""#,
    r#""kind":"token""#,
];

#[test]
fn a_file_is_whole_when_a_second_reader_finds_it_whole() {
    let begin = select(&BODIES[3..6]);
    let bodies = (begin, vec(select(&BODIES[..]), 0..8));
    let forged = (bodies, 0..3_usize, any::<bool>()).prop_map(|((begin, rest), first, close)| {
        let close = close.then_some(BODIES[2]);
        forge(first, [begin].into_iter().chain(rest).chain(close))
    });
    Target::new("audit-file")
        .words(&["\"kind\":\"open\"", "\"hash\":\"", "{\"seq\":1,", "null"])
        .inventing(forged)
        .holds(|file| {
            let mut verifier = Verifier::default();
            let found = verifier.read_lines(Path::new("f"), Cursor::new(file));
            let whole = found.is_ok() && verifier.finish(false).is_ok();
            assert_eq!(whole, is_whole(file), "{}", String::from_utf8_lossy(file));
            whole
        });
}

/// A chain whose hashes are right, and its records whatever is wanted.
fn forge<'a>(first: usize, bodies: impl Iterator<Item = &'a str>) -> Vec<u8> {
    let mut previous: Option<[u8; 32]> = None;
    let mut file = Vec::new();
    for (seq, body) in (first..).zip(bodies) {
        let before = previous.map_or("null".to_owned(), |hash| format!("\"{}\"", hex(&hash)));
        let covered = format!("{{\"seq\":{seq},{}", body.replace("PREVIOUS", &before));
        let hash = sha256(previous.as_ref().map_or(&[][..], |hash| hash), &covered);
        file.extend(format!("{covered},\"hash\":\"{}\"}}\n", hex(&hash)).into_bytes());
        previous = Some(hash);
    }
    file
}

/// Reads a file all at once, and every line of it as JSON first.
fn is_whole(file: &[u8]) -> bool {
    let Some(lines) = std::str::from_utf8(file)
        .ok()
        .and_then(|text| text.strip_suffix('\n'))
    else {
        return false;
    };
    let mut next = None;
    let mut previous = None;
    let mut closed = true;
    for line in lines.split('\n') {
        let Ok(record) = serde_json::from_str::<Value>(line) else {
            return false;
        };
        let (Some(seq), Some(kind), Some(hash)) = (
            record["seq"].as_u64(),
            record["kind"].as_str(),
            record["hash"].as_str(),
        ) else {
            return false;
        };
        let opens = kind == "open";
        let told = record["previous"].as_str();
        if next.is_none() {
            previous = told.map(str::to_owned);
            next = Some(if told.is_some() { seq.max(1) } else { 1 });
        }
        let Some((covered, _)) = line.rsplit_once(",\"hash\":\"") else {
            return false;
        };
        let bytes = previous.as_deref().map_or(Some(Vec::new()), unhex);
        let right = bytes.is_some_and(|bytes| hex(&sha256(&bytes, covered)) == hash)
            && line == format!("{covered},\"hash\":\"{hash}\"}}")
            && line.starts_with(&format!("{{\"seq\":{seq},"))
            && next == Some(seq)
            && opens == closed
            && (!opens || told == previous.as_deref())
            && (record.get("missed").is_none_or(Value::is_u64));
        if !right {
            return false;
        }
        closed = kind == "close";
        previous = Some(hash.to_owned());
        next = Some(seq + 1);
    }
    closed
}

fn sha256(previous: &[u8], covered: &str) -> [u8; 32] {
    let bytes = [previous, covered.as_bytes()].concat();
    digest(&SHA256, &bytes).as_ref().try_into().unwrap()
}

fn hex(bytes: &[u8]) -> String {
    bytes
        .iter()
        .fold(String::new(), |text, byte| format!("{text}{byte:02x}"))
}

fn unhex(digits: &str) -> Option<Vec<u8>> {
    let digits: Vec<_> = digits
        .chars()
        .map(|c| c.to_digit(16))
        .collect::<Option<_>>()?;
    let pairs = digits.chunks(2);
    let bytes: Vec<_> = pairs
        .map(|pair| u8::try_from(pair[0] * 16 + pair.get(1)?).ok())
        .collect::<Option<_>>()?;
    (bytes.len() == 32).then_some(bytes)
}
