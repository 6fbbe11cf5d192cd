//! References to credentials that could lead elsewhere, and a second reader of them.

use std::path::{Component, Path};

use proptest::prelude::*;

use super::*;
use crate::fuzz::Target;

const WORDS: [&str; 10] = [
    "file:", "sealed:", "env:", "vault:", ":", "/", "\\", "..", "=", "SHOP",
];

#[test]
fn a_reference_names_one_folder_or_one_beginning_of_variables() {
    let reference = "(file|sealed|env):[A-Za-z0-9._/\\\\-]{0,6}";
    let long = ("(file|sealed|env)", 125..131_usize);
    let long = long.prop_map(|(scheme, length)| format!("{scheme}:{}", "X".repeat(length)));
    Target::new("credential-reference")
        .words(&WORDS)
        .inventing(prop_oneof![reference, long])
        .holds(|input| {
            let Ok(text) = std::str::from_utf8(input) else {
                return false;
            };
            let found = CredentialRef::parse(text).ok();
            assert_eq!(found, expected(text));
            if let Some(CredentialRef::File(name) | CredentialRef::Sealed(name)) = &found {
                let parts: Vec<_> = Path::new(name).components().collect();
                assert_eq!(parts, [Component::Normal(name.as_ref())]);
            }
            found.is_some()
        });
}

fn expected(text: &str) -> Option<CredentialRef> {
    let name = text.get(text.find(':')? + 1..)?.to_owned();
    if name.is_empty() || name.chars().count() > 128 {
        return None;
    }
    let of_variables = "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_";
    let of_folders = "abcdefghijklmnopqrstuvwxyz.-";
    let is_sealed = text.starts_with("sealed:");
    if is_sealed || text.starts_with("file:") {
        let right = name
            .chars()
            .all(|c| of_variables.contains(c) || of_folders.contains(c));
        let leads_elsewhere = name == "." || name == "..";
        let reference = if is_sealed {
            CredentialRef::Sealed(name)
        } else {
            CredentialRef::File(name)
        };
        return (right && !leads_elsewhere).then_some(reference);
    }
    let right = text.starts_with("env:") && name.chars().all(|c| of_variables.contains(c));
    right.then_some(CredentialRef::Environment(name))
}
