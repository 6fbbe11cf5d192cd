//! Tables of plain text.

use std::fmt::Write as _;

/// What stands between columns.
const GAP: &str = "  ";
/// What stands where a text is cut.
const CUT: char = '…';

/// A column: its title, and the most characters that it may take.
pub(super) type Column = (&'static str, usize);

/// Lays out rows under their titles. Each column is as wide as it must be, and no text is
/// wider than its column may be.
pub(super) fn table<const N: usize>(columns: [Column; N], rows: &[[String; N]]) -> String {
    let widths = columns.map(|(title, _)| title.chars().count());
    let mut widths = widths;
    for row in rows {
        for ((width, (_, most)), text) in widths.iter_mut().zip(columns).zip(row) {
            *width = (*width).max(text.chars().count().min(most));
        }
    }
    let titles = columns.map(|(title, _)| title.to_owned());
    let mut out = String::new();
    for row in [&titles].into_iter().chain(rows) {
        let mut line = String::new();
        for (text, width) in row.iter().zip(widths) {
            if !line.is_empty() {
                line.push_str(GAP);
            }
            let text = cut(text, width);
            // Writing to a text does not fail.
            let _ = write!(line, "{text:<width$}");
        }
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out
}

fn cut(text: &str, width: usize) -> String {
    // What an operator wrote must not move the cursor.
    let plain = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    if text.chars().count() <= width {
        return plain.collect();
    }
    let kept = plain.take(width.saturating_sub(1));
    kept.chain([CUT]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_they_must_be_and_no_wider_than_they_may() {
        let rows =
            [["a", "long text"], ["four", ""], ["\u{7}", "ä"]].map(|row| row.map(str::to_owned));
        assert_eq!(
            table([("ONE", 9), ("TWO", 6)], &rows),
            "ONE   TWO\na     long …\nfour\n      ä\n"
        );
        assert_eq!(table([("ONE", 9)], &[]), "ONE\n");
    }
}
