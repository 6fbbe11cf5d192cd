//! The name of a request, by which its records and log events are found.

use std::{
    fmt,
    hash::{Hash, Hasher},
    sync::{
        Arc, LazyLock,
        atomic::{AtomicU64, Ordering},
    },
};

use http::HeaderMap;

/// The longest name that a caller may give, in bytes.
const MAX: usize = 128;

/// The hexadecimal digits of a number, at most.
const DIGITS: usize = 16;
/// The most that a name takes which is made here, in bytes.
const MADE: usize = DIGITS + 1 + DIGITS;

/// What the names that are made here begin with: others in each process.
static PROCESS: LazyLock<String> = LazyLock::new(|| format!("{:016x}-", rand::random::<u64>()));
static COUNT: AtomicU64 = AtomicU64::new(0);

/// The name of a request: 1 to 128 characters of `[A-Za-z0-9._-]`. One that its caller
/// gave need not be the only one of that name.
#[derive(Clone)]
pub struct RequestId(Name);

#[derive(Clone)]
enum Name {
    /// By the caller.
    Given(Arc<str>),
    /// Here, where no call is to cost memory only for its name.
    Made { text: [u8; MADE], begin: usize },
}

impl RequestId {
    /// The name that a caller gave, if it may be one.
    pub fn parse(text: &str) -> Option<Self> {
        let fits = (1..=MAX).contains(&text.len());
        let known = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        (fits && text.bytes().all(known)).then(|| Self(Name::Given(text.into())))
    }

    /// The name that a caller gave in the header `x-request-id`, or a new one.
    pub fn of(headers: &HeaderMap) -> Self {
        let given = headers.get("x-request-id");
        Self::given(given.and_then(|value| value.to_str().ok()))
    }

    /// The name that was given, if it may be one, or a new one.
    pub fn given(text: Option<&str>) -> Self {
        text.and_then(Self::parse).unwrap_or_else(Self::fresh)
    }

    /// A new name.
    pub fn fresh() -> Self {
        let mut count = COUNT.fetch_add(1, Ordering::Relaxed);
        let mut text = [0; MADE];
        let mut begin = MADE;
        // From the end, as digits come. No formatting: this is done for each call.
        loop {
            begin -= 1;
            text[begin] = b"0123456789abcdef"[(count & 0xf) as usize];
            count >>= 4;
            if count == 0 {
                break;
            }
        }
        let end = begin;
        begin -= PROCESS.len();
        text[begin..end].copy_from_slice(PROCESS.as_bytes());
        Self(Name::Made { text, begin })
    }

    /// The text itself.
    pub fn as_str(&self) -> &str {
        match &self.0 {
            Name::Given(text) => text,
            // It is made of digits and a dash.
            Name::Made { text, begin } => str::from_utf8(&text[*begin..]).unwrap_or_default(),
        }
    }
}

impl PartialEq for RequestId {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl Eq for RequestId {}

impl Hash for RequestId {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_str().hash(state);
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn only_short_words_name_a_request() {
        for good in ["a", "0", "A.b_c-1", &"a".repeat(128)] {
            assert_eq!(RequestId::parse(good).unwrap().as_str(), good);
        }
        for bad in ["", " ", "a b", "a\"", "a/b", "ä", "a\n", &"a".repeat(129)] {
            assert_eq!(RequestId::parse(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn new_names_are_names_and_never_the_same() {
        let names: HashSet<_> = (0..1000).map(|_| RequestId::fresh()).collect();
        assert_eq!(names.len(), 1000);
        for name in names {
            assert_eq!(RequestId::parse(name.as_str()), Some(name));
        }
    }
}
