//! Where a call stands in a trace, as its caller says (W3C Trace Context).

use std::{
    fmt,
    num::{NonZeroU64, NonZeroU128},
    str,
};

use http::{HeaderMap, HeaderName};

/// The header that names the trace and the caller's span in it.
pub const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
/// The header in which tracing systems keep what is their own.
pub const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// The length of a `traceparent` of the first version, in bytes.
const LENGTH: usize = 55;
/// The bit of the flags that says whether the caller records its span.
const SAMPLED: u8 = 1;

/// A span as other programs know it: its trace, itself, and whether it is recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceContext {
    /// The trace.
    pub trace_id: TraceId,
    /// The span in it.
    pub span_id: SpanId,
    /// Whether it is recorded.
    pub sampled: bool,
}

/// Names a trace; shown as 32 lower-case hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct TraceId(pub NonZeroU128);

/// Names a span of a trace; shown as 16 lower-case hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct SpanId(pub NonZeroU64);

impl TraceContext {
    /// What the headers of a request say. A header that is malformed or written twice counts
    /// as none, so that the trace begins anew (W3C Trace Context §4.3).
    pub fn of(headers: &HeaderMap) -> Option<Self> {
        let mut written = headers.get_all(TRACEPARENT).into_iter();
        let (first, another) = (written.next()?, written.next());
        match another {
            None => Self::parse(first.as_bytes()),
            Some(_) => None,
        }
    }

    /// Reads a `traceparent` (W3C Trace Context §3.2). Of later versions, only what the first
    /// one has is read.
    pub fn parse(text: &[u8]) -> Option<Self> {
        let (known, further) = text.split_at_checked(LENGTH)?;
        let known = str::from_utf8(known).ok()?;
        let mut fields = known.split('-');
        let mut field = |digits| fields.next().and_then(|field| hexadecimal(field, digits));
        let (version, trace_id) = (field(2)?, field(32)?);
        let (span_id, flags) = (field(16)?, field(2)?);
        let may_have_more = version != 0 && further.starts_with(b"-");
        if version == 0xff || !(further.is_empty() || may_have_more) {
            return None;
        }
        Some(Self {
            trace_id: TraceId(NonZeroU128::new(trace_id)?),
            span_id: SpanId(NonZeroU64::new(u64::try_from(span_id).ok()?)?),
            sampled: flags & u128::from(SAMPLED) != 0,
        })
    }
}

/// A number of exactly so many lower-case digits.
fn hexadecimal(field: &str, digits: usize) -> Option<u128> {
    let plain = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    let fits = field.len() == digits && field.bytes().all(plain);
    fits.then(|| u128::from_str_radix(field, 16).ok()).flatten()
}

/// The `traceparent` that passes it on.
impl fmt::Display for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let flags = if self.sampled { SAMPLED } else { 0 };
        write!(f, "00-{}-{}-{flags:02x}", self.trace_id, self.span_id)
    }
}

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Debug for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for SpanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Debug for SpanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod fuzz;

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    const GOOD: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[test]
    fn what_a_caller_says_is_read_and_passed_on_as_it_was() {
        let context = TraceContext::parse(GOOD.as_bytes()).unwrap();
        assert_eq!(
            context.trace_id.to_string(),
            "0af7651916cd43dd8448eb211c80319c"
        );
        assert_eq!(context.span_id.to_string(), "b7ad6b7169203331");
        assert!(context.sampled);
        assert_eq!(context.to_string(), GOOD);
    }

    #[test]
    fn only_the_sampling_flag_is_understood() {
        for (flags, sampled) in [("00", false), ("01", true), ("02", false), ("ff", true)] {
            let text = GOOD.replace("-01", &format!("-{flags}"));
            let context = TraceContext::parse(text.as_bytes()).unwrap();
            assert_eq!(context.sampled, sampled, "{flags}");
        }
    }

    #[test]
    fn a_later_version_may_say_more() {
        for later in [
            GOOD.replacen("00-", "01-", 1),
            GOOD.replacen("00-", "cc-", 1) + "-what-the-future",
        ] {
            assert!(TraceContext::parse(later.as_bytes()).is_some(), "{later}");
        }
    }

    #[test]
    fn a_malformed_header_counts_as_none() {
        for bad in [
            String::new(),
            GOOD[..54].to_owned(),
            format!("{GOOD}-"),
            format!("{GOOD}-00"),
            format!("{GOOD} "),
            GOOD.replacen("00-", "ff-", 1),
            GOOD.replacen("00-", "01-", 1) + ".more",
            GOOD.to_uppercase(),
            GOOD.replace('-', "_"),
            GOOD.replace("0af7", "+af7"),
            GOOD.replace("0af7651916cd43dd8448eb211c80319c", &"0".repeat(32)),
            GOOD.replace("b7ad6b7169203331", &"0".repeat(16)),
        ] {
            assert_eq!(TraceContext::parse(bad.as_bytes()), None, "{bad:?}");
        }
    }

    #[test]
    fn a_header_that_is_written_twice_counts_as_none() {
        let mut headers = HeaderMap::new();
        assert_eq!(TraceContext::of(&headers), None);
        headers.append(TRACEPARENT, HeaderValue::from_static(GOOD));
        assert!(TraceContext::of(&headers).is_some());
        headers.append(TRACEPARENT, HeaderValue::from_static(GOOD));
        assert_eq!(TraceContext::of(&headers), None);
    }
}
