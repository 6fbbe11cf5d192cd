//! The path of a request, in the one spelling that is compared.

/// The longest path that is looked at, in bytes.
const MAX_PATH: usize = 8 * 1024;

/// A path as `/a/b`, without a slash at its end; the root is the empty text.
///
/// `None` for every path that a server might read in another way than it stands here:
/// with dot segments, empty segments, parameters (`;`), backslashes, or what is special in
/// percent-encoding. Such a path matches no route, not even that of the whole host.
///
/// What is encoded without need is decoded (RFC 3986 §6.2.2.2), so that a second spelling
/// of a path leads to no other route.
pub(super) fn canonical(path: &str) -> Option<String> {
    if path.len() > MAX_PATH {
        return None;
    }
    let rest = path.strip_prefix('/')?;
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    if rest.is_empty() {
        // The path `//` is not the root.
        return (path.len() == 1).then(String::new);
    }
    let mut canonical = String::with_capacity(path.len());
    for segment in rest.split('/') {
        canonical.push('/');
        let from = canonical.len();
        push_segment(&mut canonical, segment)?;
        if matches!(canonical.get(from..)?, "" | "." | "..") {
            return None;
        }
    }
    Some(canonical)
}

fn push_segment(canonical: &mut String, segment: &str) -> Option<()> {
    let mut bytes = segment.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            is_plain(byte).then(|| canonical.push(char::from(byte)))?;
            continue;
        }
        let (high, low) = (bytes.next()?, bytes.next()?);
        match hex(high)? << 4 | hex(low)? {
            // A server that decodes before it splits would see other segments or a query,
            // and one that decodes twice another path.
            b'.' | b'/' | b'\\' | b';' | b'?' | b'#' | b'%' | 0..0x20 | 0x7f => return None,
            decoded if is_plain(decoded) => canonical.push(char::from(decoded)),
            _ => {
                canonical.push('%');
                canonical.extend([high, low].map(|digit| char::from(digit.to_ascii_uppercase())));
            }
        }
    }
    Some(())
}

fn hex(digit: u8) -> Option<u8> {
    let value = char::from(digit).to_digit(16)?;
    u8::try_from(value).ok()
}

/// Whether a byte may stand in a segment as it is (RFC 3986 §3.3), but for the semicolon:
/// some servers drop what follows it.
fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,=:@".contains(&byte)
}

#[cfg(test)]
mod fuzz;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_path_has_one_spelling() {
        for (path, expected) in [
            ("/", ""),
            ("/a", "/a"),
            ("/a/", "/a"),
            ("/a/b", "/a/b"),
            ("/a/b.c/", "/a/b.c"),
            ("/...", "/..."),
            ("/%61/%7e", "/a/~"),
            ("/a%3ab", "/a:b"),
            ("/a%20b", "/a%20b"),
            ("/%c3%a4", "/%C3%A4"),
        ] {
            assert_eq!(canonical(path).as_deref(), Some(expected), "{path}");
        }
    }

    #[test]
    fn a_path_that_can_be_read_in_two_ways_has_none() {
        for path in [
            "",
            "a",
            "*",
            "http://a/b",
            "//",
            "///",
            "//a",
            "/a//b",
            "/a//",
            "/.",
            "/..",
            "/a/./b",
            "/a/../b",
            "/a/..",
            "/%2e",
            "/a/%2E%2e/b",
            "/a/.%2e/b",
            "/a%2Fb",
            "/a%2fb",
            "/a\\b",
            "/a%5cb",
            "/a%5C..%5cb",
            "/a%252e",
            "/a%25",
            "/a%3fb",
            "/a%23b",
            "/a%00b",
            "/a%0a",
            "/a%7f",
            "/a;b/c",
            "/..;/c",
            "/a%3bb",
            "/a%",
            "/a%4",
            "/a%zz",
            "/a%+1",
            "/a b",
            "/a\tb",
            "/ä",
            "/a\"",
            "/a<",
            "/a#b",
            "/a?b",
        ] {
            assert_eq!(canonical(path), None, "{path}");
        }
        assert_eq!(canonical(&format!("/{}", "x".repeat(MAX_PATH))), None);
    }
}
