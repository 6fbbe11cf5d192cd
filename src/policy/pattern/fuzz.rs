//! Caller patterns that an operator may write, and a second reader of them.

use proptest::{prelude::*, sample::select};

use super::*;
use crate::{
    fuzz::Target,
    identity::fuzz::{WORDS, any_name, is_dns_name, is_spiffe_id},
};

/// The input is a pattern in the first line and a caller in the second.
#[test]
fn a_pattern_means_what_a_second_reader_takes_it_for() {
    let tail = select(vec!["", "/*", "/**", "*", "/***", "/*/*"]);
    let pair = (
        any_name(),
        tail,
        any_name(),
        any::<bool>(),
        "(/[a-z]{0,2}){0,3}",
    );
    let pair = pair.prop_map(|(name, tail, other, related, levels)| {
        let caller = if related { &name } else { &other };
        format!("{name}{tail}\n{caller}{levels}")
    });
    Target::new("caller-pattern")
        .words(&WORDS)
        .inventing(pair)
        .holds(|input| {
            let Ok(text) = std::str::from_utf8(input) else {
                return false;
            };
            let (text, caller) = text.split_once('\n').unwrap_or((text, ""));
            let found = CallerPattern::parse(text);
            assert_eq!(found.is_ok(), is_pattern(text));
            let Ok(pattern) = found else {
                return false;
            };
            assert_eq!(pattern.to_string(), text);
            if let Ok(caller) = CallerId::parse(caller) {
                let admitted = admits(text, caller.as_str());
                assert_eq!(pattern.matches(&caller), admitted, "{caller}");
            }
            true
        });
}

fn is_pattern(text: &str) -> bool {
    let levels: Vec<&str> = text.split('/').collect();
    match levels.as_slice() {
        // The scheme takes two levels, and the trust domain one.
        ["spiffe:", "", _, .., "*" | "**"] => {
            let concrete = [&levels[..levels.len() - 1], &["x"]].concat();
            is_spiffe_id(&concrete.join("/"))
        }
        _ => is_spiffe_id(text) || is_dns_name(text),
    }
}

fn admits(pattern: &str, caller: &str) -> bool {
    let (mut wanted, mut given) = (pattern.split('/'), caller.split('/'));
    loop {
        match (wanted.next(), given.next()) {
            (None, None) | (Some("**"), Some(_)) => return true,
            (Some("*"), Some(_)) => return given.next().is_none(),
            (Some(wanted), Some(given)) if wanted == given => {}
            _ => return false,
        }
    }
}
