//! Token ids that callers may report, and a second reader of them.

use super::*;
use crate::fuzz::Target;

#[test]
fn a_token_id_is_32_lower_case_hexadecimal_digits() {
    Target::new("token-id")
        .words(&[
            "+",
            "0x",
            "A",
            "_",
            "\u{ff10}",
            "00000000000000000000000000000000",
        ])
        .inventing("[+-]?[0-9a-fA-F]{30,34}|[0-9a-f]{32}")
        .holds(|input| {
            let Ok(text) = std::str::from_utf8(input) else {
                return false;
            };
            let digits = text
                .chars()
                .filter(|c| "0123456789abcdef".contains(*c))
                .count();
            let right = (digits, text.len()) == (32, 32);
            let id = TokenId::parse(text);
            assert_eq!(
                id.map(|id| id.to_string()).as_deref(),
                right.then_some(text)
            );
            right
        });
}
