//! Bodies that hold secrets, and are wiped when they are dropped.
//!
//! Each is allocated once, at its longest: a buffer that grows leaves copies of the
//! secret behind.

use serde::Serialize;
use url::form_urlencoded::{Serializer, byte_serialize};
use zeroize::Zeroizing;

/// The media type of [`json`].
pub(super) const JSON: &str = "application/json";
/// The media type of [`form`] (RFC 6749 appendix B).
pub(super) const FORM: &str = "application/x-www-form-urlencoded";

/// Writes an object with two short keys, whose texts have so many bytes together.
pub(super) fn json(object: &impl Serialize, texts: usize) -> Zeroizing<Vec<u8>> {
    // A byte becomes six at most (`\u0000`).
    let mut body = Zeroizing::new(Vec::with_capacity(64 + 6 * texts));
    // Writing texts to memory cannot fail.
    let written = serde_json::to_writer(&mut *body, object);
    debug_assert!(written.is_ok());
    body
}

/// Writes fields in their order.
pub(super) fn form(fields: &[(&str, &str)]) -> Zeroizing<Vec<u8>> {
    let longest = fields
        .iter()
        .map(|(name, value)| 3 * (name.len() + value.len()) + 2)
        .sum();
    let mut form = Serializer::new(String::with_capacity(longest));
    form.extend_pairs(fields);
    Zeroizing::new(form.finish().into_bytes())
}

/// Appends one text in the encoding of forms.
pub(super) fn form_encode_into(target: &mut Zeroizing<String>, text: &str) {
    target.reserve_exact(3 * text.len());
    target.extend(byte_serialize(text.as_bytes()));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_keep_their_order_and_are_encoded() {
        let body = form(&[("b", "a b:+/=é&"), ("a", ""), ("b", "*-._~")]);
        assert_eq!(
            std::str::from_utf8(&body).unwrap(),
            "b=a+b%3A%2B%2F%3D%C3%A9%26&a=&b=*-._%7E"
        );
    }
}
