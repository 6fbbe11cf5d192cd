//! What makes a file of records whole: each has a number, and a hash that covers the one
//! before.

use std::{fmt, io::Write as _};

use aws_lc_rs::digest::{Context, SHA256, digest};

use crate::hex;

/// What stands between a record and its hash.
const BEFORE_HASH: &[u8] = b",\"hash\":\"";
/// What ends a line.
const AFTER_HASH: &[u8] = b"\"}";
/// What a line begins with.
const BEFORE_SEQ: &[u8] = b"{\"seq\":";
/// A hash in hexadecimal digits, in bytes.
const HEX: usize = 64;
/// What a line is longer by than the body of its record, at most: a number of 20 digits,
/// the hash, and what stands around them.
pub(super) const OVERHEAD: usize = 110;
/// Hardly any record is longer, with the hash before it, in bytes.
const USUAL: usize = 1024;
/// No record is longer, in bytes. The longest come from requests of 4 KiB.
pub(super) const MAX_LINE: usize = 64 * 1024;

/// A SHA-256 digest.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Hash([u8; 32]);

/// A record's place in its chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Link {
    pub(super) seq: u64,
    pub(super) hash: Hash,
}

/// The chain of one sink, as far as it is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Chain(pub(super) Option<Link>);

/// A line that has the shape of a record. Whether its hash is right is not known yet.
#[derive(Clone, Copy, Debug)]
pub(super) struct Record<'a> {
    pub(super) link: Link,
    /// What the hash covers.
    pub(super) covered: &'a [u8],
}

impl Chain {
    /// Appends the line of the next record.
    pub(super) fn seal(&mut self, body: &str, out: &mut Vec<u8>) {
        let seq = self.0.map_or(1, |last| last.seq + 1);
        let begun = out.len();
        out.extend_from_slice(BEFORE_SEQ);
        // A vector takes every write.
        let _ = write!(out, "{seq},");
        out.extend_from_slice(body.as_bytes());
        let hash = Hash::of(self.previous(), &out[begun..]);
        out.extend_from_slice(BEFORE_HASH);
        out.extend_from_slice(&hash.digits());
        out.extend_from_slice(AFTER_HASH);
        out.push(b'\n');
        self.0 = Some(Link { seq, hash });
    }

    /// The hash of the last record.
    pub(super) fn previous(&self) -> Option<Hash> {
        self.0.map(|last| last.hash)
    }
}

impl<'a> Record<'a> {
    /// Reads a line without its end.
    pub(super) fn parse(line: &'a [u8]) -> Option<Self> {
        let rest = line.strip_suffix(AFTER_HASH)?;
        let (rest, hash) = rest.split_at_checked(rest.len().checked_sub(HEX)?)?;
        let covered = rest.strip_suffix(BEFORE_HASH)?;
        let digits = covered.strip_prefix(BEFORE_SEQ)?;
        let end = digits.iter().position(|byte| *byte == b',')?;
        let seq = std::str::from_utf8(&digits[..end]).ok()?.parse().ok()?;
        let hash = Hash::parse(hash)?;
        Some(Self {
            link: Link { seq, hash },
            covered,
        })
    }

    /// Whether nothing of it was changed, and it follows the record with this hash.
    pub(super) fn follows(&self, previous: Option<Hash>) -> bool {
        Hash::of(previous, self.covered) == self.link.hash
    }
}

impl Hash {
    /// The hash of a record: of the hash before, if there is one, and of what it covers.
    fn of(previous: Option<Self>, covered: &[u8]) -> Self {
        let previous = previous.as_ref().map_or(&[][..], |Self(hash)| hash);
        let length = previous.len() + covered.len();
        let mut whole = [0; USUAL];
        // In one piece it takes a third of the time.
        let digest = if let Some(whole) = whole.get_mut(..length) {
            let (first, rest) = whole.split_at_mut(previous.len());
            first.copy_from_slice(previous);
            rest.copy_from_slice(covered);
            digest(&SHA256, whole)
        } else {
            let mut context = Context::new(&SHA256);
            context.update(previous);
            context.update(covered);
            context.finish()
        };
        let mut hash = [0; 32];
        hash.copy_from_slice(digest.as_ref());
        Self(hash)
    }

    fn digits(self) -> [u8; HEX] {
        hex::digits(self.0)
    }

    /// Reads 64 digits, as they are written and in no other way.
    pub(super) fn parse(digits: &[u8]) -> Option<Self> {
        let digit = |byte: u8| match byte {
            b'0'..=b'9' => Some(byte - b'0'),
            b'a'..=b'f' => Some(byte - b'a' + 10),
            _ => None,
        };
        let mut hash = [0; 32];
        if digits.len() != HEX {
            return None;
        }
        for (byte, pair) in hash.iter_mut().zip(digits.chunks_exact(2)) {
            *byte = digit(pair[0])? << 4 | digit(pair[1])?;
        }
        Some(Self(hash))
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(str::from_utf8(&self.digits()).unwrap_or_default())
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_covers_the_record_and_the_hash_before_it() {
        let mut chain = Chain::default();
        let mut out = Vec::new();
        chain.seal("\"kind\":\"one\"", &mut out);
        chain.seal("\"kind\":\"two\"", &mut out);
        let text = String::from_utf8(out).unwrap();
        let lines: Vec<_> = text.lines().collect();

        let first = digest(&SHA256, br#"{"seq":1,"kind":"one""#);
        let mut second = first.as_ref().to_vec();
        second.extend_from_slice(br#"{"seq":2,"kind":"two""#);
        let second = digest(&SHA256, &second);
        for (line, start, hash) in [
            (lines[0], r#"{"seq":1,"kind":"one","hash":""#, first),
            (lines[1], r#"{"seq":2,"kind":"two","hash":""#, second),
        ] {
            let digits = line
                .strip_prefix(start)
                .unwrap()
                .strip_suffix("\"}")
                .unwrap();
            let byte = |at: usize| u8::from_str_radix(&digits[at..at + 2], 16).unwrap();
            let bytes: Vec<_> = (0..HEX).step_by(2).map(byte).collect();
            assert_eq!((digits.len(), &*bytes), (HEX, hash.as_ref()));
        }
        assert_eq!(lines.len(), 2);
    }

    #[test]
    fn a_record_is_read_as_it_was_sealed_and_nothing_else_is_one() {
        let mut chain = Chain::default();
        let mut out = Vec::new();
        chain.seal("\"kind\":\"one\"", &mut out);
        let line = out.strip_suffix(b"\n").unwrap();
        assert_eq!(Record::parse(line).unwrap().link, chain.0.unwrap());
        assert!(Record::parse(line).unwrap().follows(None));
        assert!(!Record::parse(line).unwrap().follows(chain.previous()));
        let longest = format!("{{\"seq\":{},\"\"", u64::MAX).len() + BEFORE_HASH.len() + HEX + 3;
        assert!(longest <= OVERHEAD, "{longest}");

        let upper = String::from_utf8_lossy(line).replace("\"hash\":\"", "\"hash\":\"A");
        for wrong in [
            &b""[..],
            b"{}",
            b"\"}",
            &line[1..],
            &line[..line.len() - 1],
            &out,
            upper.as_bytes(),
        ] {
            assert!(Record::parse(wrong).is_none());
        }
    }
}
