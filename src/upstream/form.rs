//! Form-encoded secrets (RFC 6749 appendix B).

use url::form_urlencoded::{Serializer, byte_serialize};
use zeroize::Zeroizing;

/// The media type of [`body`].
pub(super) const MEDIA_TYPE: &str = "application/x-www-form-urlencoded";

/// Writes fields, in their order, into a body that is wiped when it is dropped.
pub(super) fn body(fields: &[(&str, &str)]) -> Zeroizing<Vec<u8>> {
    let longest = fields
        .iter()
        .map(|(name, value)| 3 * (name.len() + value.len()) + 2)
        .sum();
    // Allocated once: a buffer that grows leaves copies of the secret behind.
    let mut form = Serializer::new(String::with_capacity(longest));
    form.extend_pairs(fields);
    Zeroizing::new(form.finish().into_bytes())
}

/// Appends one encoded text.
pub(super) fn encode_into(target: &mut Zeroizing<String>, text: &str) {
    target.reserve_exact(3 * text.len());
    target.extend(byte_serialize(text.as_bytes()));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_keep_their_order_and_are_encoded() {
        let body = body(&[("b", "a b:+/=é&"), ("a", ""), ("b", "*-._~")]);
        assert_eq!(
            std::str::from_utf8(&body).unwrap(),
            "b=a+b%3A%2B%2F%3D%C3%A9%26&a=&b=*-._%7E"
        );
    }
}
