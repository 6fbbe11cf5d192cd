//! Ids that callers may ask for, and a second reader of them.

use super::*;
use crate::fuzz::Target;

const ALPHABET: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-";

#[test]
fn an_id_is_accepted_exactly_when_all_of_it_is_in_the_alphabet() {
    Target::new("destination-id")
        .words(&[
            "7d3c1f0e-5b8e-4a53-9f6b-0a3c5d1e2f40",
            "/",
            "\u{212a}",
            "\u{ff0e}",
        ])
        .inventing("[A-Za-z0-9._-]{0,130}[/ \\PC]{0,1}")
        .holds(|input| {
            let Ok(text) = std::str::from_utf8(input) else {
                return false;
            };
            let right = text.chars().all(|c| ALPHABET.contains(c))
                && !text.is_empty()
                && text.chars().count() < 129;
            let id = DestinationId::parse(text);
            assert_eq!(id.is_ok(), right);
            assert_eq!(ApplicationName::parse(text).is_ok(), right);
            if let Ok(id) = &id {
                assert_eq!((id.as_str(), id.to_string().as_str()), (text, text));
            }
            right
        });
}
