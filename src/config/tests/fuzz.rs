//! Configurations with every kind of slip in them.

use proptest::{collection::vec, prelude::*};

use super::*;
use crate::fuzz::Target;

const WORDS: [&str; 24] = [
    "[[destination]]\n",
    "[[destination.grant]]\n",
    "[[upstream]]\n",
    "[server]\n",
    "[x]\n",
    "= 5\n",
    " = [{}]\n",
    "= true\n",
    "\"",
    "\"\"\"",
    "'''",
    "'",
    "#",
    "[",
    "]",
    "{",
    "}",
    "=",
    ",",
    "\\u0000",
    "\\",
    "*",
    "oauth2",
    "1979-05-27T07:32:00Z",
];

#[test]
fn every_mistake_has_its_place_in_the_file() {
    let site = Site::new();
    let folder = Folder::of(&site.0.path().join("broker.toml"));
    let environment = Environment::new(|_| None);
    let line = prop_oneof![
        "\\[{0,2}(server|http|credentials|cache|shared_cache|audit|telemetry|upstream|destination)\\]{0,2}",
        "(listen|cert|file|id|name|upstream|endpoint|callers|directory|warm|tls|cluster|sealing_keys|password_file) = \\PC{0,12}",
        "\\PC{0,20}",
    ];
    Target::new("configuration")
        .seed(EXAMPLE)
        .words(&WORDS)
        .inventing(vec(line, 0..20).prop_map(|lines| lines.join("\n")))
        .holds(|bytes| {
            let read = decode(bytes).and_then(|text| Config::read(text, &folder, &environment));
            match read {
                Ok(config) => {
                    let mut destinations = config.destinations.iter();
                    assert!(destinations.any(|destination| !destination.grants.is_empty()));
                    true
                }
                Err(found) => {
                    assert!(!found.is_empty());
                    for mistake in &found {
                        assert_placed(mistake, bytes);
                    }
                    false
                }
            }
        });
}

fn assert_placed(mistake: &Mistake, bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    // An editor does not show the mark, and so counts no column for it.
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    let at = mistake.at.expect("a mistake without a place");
    let line = text
        .split('\n')
        .nth(at.line - 1)
        .expect("a line that is not there");
    let columns = 1..=line.chars().count() + 1;
    assert!(columns.contains(&at.column), "{mistake}");
}
