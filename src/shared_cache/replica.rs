//! A replica, as it tells the others of itself.

use std::time::SystemTime;

/// As much of a name is shown, which is as long as Linux lets a host's be.
const LONGEST: usize = 64;

/// One of the replicas that share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replica {
    /// What it is called: the name of its host, which Kubernetes gives each pod.
    pub name: String,
    /// The version that it runs.
    pub version: String,
    /// When it started.
    pub since: SystemTime,
    /// When it was heard of last.
    pub seen: SystemTime,
    /// Whether it is the one that was asked.
    pub is_this: bool,
}

/// A name or a version in characters that no terminal takes for anything else. What a host is
/// called is whatever somebody has called it.
pub(super) fn printable(text: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-._+".contains(c);
    let characters = text.chars().take(LONGEST);
    let text: String = characters
        .map(|c| if is_plain(c) { c } else { '?' })
        .collect();
    if text.is_empty() {
        "?".to_owned()
    } else {
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_a_host_is_called_can_be_printed() {
        let long = "a".repeat(LONGEST);
        for (text, shown) in [
            ("broker-7f9c4.eu_1", "broker-7f9c4.eu_1"),
            ("0.1.0-rc.1+b7", "0.1.0-rc.1+b7"),
            ("", "?"),
            ("a b\n\u{1b}[2J", "a?b???2J"),
            ("b\u{fc}ro\u{202e}<b>", "b?ro??b?"),
            (&long, &long),
        ] {
            assert_eq!(printable(text), shown);
            assert_eq!(printable(shown), shown);
        }
        assert_eq!(
            printable(&"\u{fc}".repeat(LONGEST + 1)),
            "?".repeat(LONGEST)
        );
    }
}
