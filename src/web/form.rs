//! `application/x-www-form-urlencoded`, in bodies and in queries.

use std::mem;

use zeroize::Zeroizing;

/// One name and its value. Either may be a secret, and is wiped.
pub(super) struct Pair {
    pub(super) name: Zeroizing<String>,
    pub(super) value: Zeroizing<String>,
}

/// Something that is not this format, or not UTF-8.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Malformed;

/// The pairs of a form, in order, up to the first that is malformed.
pub(super) fn pairs(form: &[u8]) -> impl Iterator<Item = Result<Pair, Malformed>> {
    let pairs = form.split(|byte| *byte == b'&');
    pairs.filter(|pair| !pair.is_empty()).map(|pair| {
        let mut parts = pair.splitn(2, |byte| *byte == b'=');
        let mut next = || decode(parts.next().unwrap_or_default());
        Ok(Pair {
            name: next()?,
            value: next()?,
        })
    })
}

/// Undoes the encoding of one name or value (URL Standard, "application/x-www-form-urlencoded"),
/// strictly: a `%` that begins nothing is no text.
fn decode(encoded: &[u8]) -> Result<Zeroizing<String>, Malformed> {
    // Allocated once, for nothing gets longer: a buffer that grows leaves copies behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(encoded.len()));
    let mut rest = encoded.iter().copied();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => {
                let mut digit = || hex(rest.next()?);
                let (high, low) = (digit().ok_or(Malformed)?, digit().ok_or(Malformed)?);
                high << 4 | low
            }
            byte => byte,
        });
    }
    match String::from_utf8(mem::take(&mut *bytes)) {
        Ok(text) => Ok(Zeroizing::new(text)),
        Err(error) => {
            *bytes = error.into_bytes();
            Err(Malformed)
        }
    }
}

fn hex(digit: u8) -> Option<u8> {
    let value = char::from(digit).to_digit(16)?;
    u8::try_from(value).ok()
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    fn parse(form: &[u8]) -> Result<Vec<(String, String)>, Malformed> {
        pairs(form)
            .map(|pair| pair.map(|pair| (pair.name.to_string(), pair.value.to_string())))
            .collect()
    }

    #[test]
    fn forms_are_read_strictly() {
        for (form, expected) in [
            ("", Some(vec![])),
            ("&&", Some(vec![])),
            ("a=b", Some(vec![("a", "b")])),
            ("a", Some(vec![("a", "")])),
            ("=b", Some(vec![("", "b")])),
            ("a=b=c", Some(vec![("a", "b=c")])),
            (
                "a+b=c%20d&%61=%C3%a9",
                Some(vec![("a b", "c d"), ("a", "é")]),
            ),
            ("a=%", None),
            ("a=%4", None),
            ("a=%4g", None),
            ("a=%+4", None),
            ("%zz=b", None),
            ("a=%ff", None),
            ("a=b&c=%c3%28", None),
        ] {
            let found = parse(form.as_bytes()).ok();
            let expected = expected.map(|pairs| {
                let owned = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
                pairs.into_iter().map(owned).collect::<Vec<_>>()
            });
            assert_eq!(found, expected, "{form}");
        }
        assert!(parse(b"a=\xff").is_err());
    }

    proptest! {
        #[test]
        fn what_others_encode_is_read_as_it_was(
            pairs in vec(("[^\u{0}]{1,20}", ".{0,20}"), 0..10),
        ) {
            let mut form = url::form_urlencoded::Serializer::new(String::new());
            form.extend_pairs(&pairs);
            prop_assert_eq!(parse(form.finish().as_bytes()), Ok(pairs));
        }

        #[test]
        fn garbage_is_read_as_others_read_it_or_not_at_all(form in vec(any::<u8>(), 0..200)) {
            if let Ok(pairs) = parse(&form) {
                let theirs: Vec<_> = url::form_urlencoded::parse(&form)
                    .map(|(name, value)| (name.into_owned(), value.into_owned()))
                    .collect();
                prop_assert_eq!(pairs, theirs);
            }
        }
    }
}
