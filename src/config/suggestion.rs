//! What somebody probably meant to write.

/// Longer words are no slip of the pen, and comparing them would take long.
const MAX_WORD: usize = 64;
/// More than these are not read anyway.
const MAX_LISTED: usize = 12;

/// What to write instead of an unknown word: the closest known one, or else any of them.
pub(super) fn instead_of(word: &str, known: &[&str]) -> String {
    match (closest(word, known), known) {
        (Some(known), _) => format!("write {known:?}"),
        (None, []) => "there is none to choose".to_owned(),
        (None, [only]) => format!("write {only:?}"),
        (None, known) => format!("write one of {}", list(known)),
    }
}

/// A word from the file, fit to be shown in a message.
pub(super) fn quoted(word: &str) -> String {
    match word.char_indices().nth(MAX_WORD) {
        None => format!("{word:?}"),
        Some((end, _)) => format!("{:?}...", &word[..end]),
    }
}

fn list(words: &[&str]) -> String {
    let shown = words.iter().take(MAX_LISTED);
    let mut list = shown.map(|word| format!("{word:?}")).collect::<Vec<_>>();
    if words.len() > MAX_LISTED {
        list.push("...".to_owned());
    }
    list.join(", ")
}

fn closest<'a>(word: &str, known: &[&'a str]) -> Option<&'a str> {
    if word.len() > MAX_WORD {
        return None;
    }
    let (distance, closest) = known
        .iter()
        .filter(|known| known.len() <= MAX_WORD)
        .map(|known| (distance(word, known), *known))
        .min_by_key(|(distance, _)| *distance)?;
    let slips = (closest.len() / 3).max(1);
    (distance <= slips).then_some(closest)
}

/// How many letters to insert, remove, replace or swap with their neighbour, without
/// regard to case (optimal string alignment).
fn distance(a: &str, b: &str) -> usize {
    let a: Vec<char> = a.to_lowercase().chars().collect();
    let b: Vec<char> = b.to_lowercase().chars().collect();
    let mut before_last = vec![0; b.len() + 1];
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i; b.len() + 1];
        for j in 1..=b.len() {
            let replaced = last[j - 1] + usize::from(a[i - 1] != b[j - 1]);
            row[j] = replaced.min(last[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                row[j] = row[j].min(before_last[j - 2] + 1);
            }
        }
        before_last = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_of_the_pen_is_recognised_and_nothing_else() {
        let known = ["listen", "cert", "key", "client_ca", "max_connections"];
        for (word, expected) in [
            ("lisen", Some("listen")),
            ("litsen", Some("listen")),
            ("Listen", Some("listen")),
            ("client-ca", Some("client_ca")),
            ("clientCA", Some("client_ca")),
            ("maxConnections", Some("max_connections")),
            ("kye", Some("key")),
            ("k", None),
            ("", None),
            ("timeout", None),
            ("ärger", None),
            (&"x".repeat(10_000), None),
        ] {
            assert_eq!(closest(word, &known), expected, "{word}");
        }
    }

    #[test]
    fn distance_counts_single_slips() {
        for (a, b, expected) in [
            ("", "", 0),
            ("", "abc", 3),
            ("abc", "", 3),
            ("abc", "abc", 0),
            ("abc", "acb", 1),
            ("abc", "ab", 1),
            ("kitten", "sitting", 3),
        ] {
            assert_eq!(distance(a, b), expected, "{a} {b}");
        }
    }

    #[test]
    fn words_are_shown_short_and_escaped() {
        assert_eq!(quoted("a\n\u{1b}[31m"), r#""a\n\u{1b}[31m""#);
        assert_eq!(
            quoted(&"x".repeat(70)),
            format!("\"{}\"...", "x".repeat(64))
        );
        assert_eq!(instead_of("x", &[]), "there is none to choose");
        assert_eq!(instead_of("x", &["abc"]), "write \"abc\"");
        assert_eq!(
            instead_of("x", &["abc", "def"]),
            "write one of \"abc\", \"def\""
        );
        assert!(instead_of("x", &["abc"; 20]).ends_with("\"abc\", ..."));
    }
}
