//! A terminal that is drawn again and again.

use std::{
    fmt::Write as _,
    io::{self, IsTerminal as _},
};

use super::output::write;
use crate::process;

/// Turns to the other screen of a terminal, so that what was there comes back, hides the cursor,
/// and has no line go on in the next one (xterm, "Private Modes" 1049, 25 and 7): some
/// characters take two columns, and only the terminal knows which.
const ENTER: &str = "\u{1b}[?1049h\u{1b}[?25l\u{1b}[?7l";
const LEAVE: &str = "\u{1b}[?7h\u{1b}[?25h\u{1b}[?1049l";
/// Moves to the first corner (ECMA-48). Clearing first would flicker.
const HOME: &str = "\u{1b}[H";
const CLEAR_LINE: &str = "\u{1b}[K";
const CLEAR_BELOW: &str = "\u{1b}[J";

/// The terminal, until this is dropped.
pub(super) struct Screen {
    /// The size of one that does not know its own.
    otherwise: (usize, usize),
}

impl Screen {
    /// Takes the terminal over, if standard output is one.
    ///
    /// # Errors
    /// What kept it from being written to.
    pub(super) fn open() -> io::Result<Option<Self>> {
        if !io::stdout().is_terminal() {
            return Ok(None);
        }
        // First, so that it is left whatever was written.
        let screen = Self {
            otherwise: (80, 24),
        };
        write(ENTER)?;
        Ok(Some(screen))
    }

    /// Shows the lines for so many columns and rows as there are now, and nothing else.
    ///
    /// # Errors
    /// What kept them from being written.
    pub(super) fn draw(&self, page: impl FnOnce(usize, usize) -> Vec<String>) -> io::Result<()> {
        let (columns, rows) = process::terminal_size().unwrap_or(self.otherwise);
        write(&frame(&page(columns, rows)))
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // Who is gone cannot be told.
        let _ = write(LEAVE);
    }
}

fn frame(lines: &[String]) -> String {
    let mut frame = HOME.to_owned();
    for (number, line) in lines.iter().enumerate() {
        // None after the last line, where it would scroll.
        let end = if number > 0 { "\n" } else { "" };
        let _ = write!(frame, "{end}{line}{CLEAR_LINE}");
    }
    frame.push_str(CLEAR_BELOW);
    frame
}

/// As many of these lines, and as much of each, as there is room for; the last line says how
/// many are missing.
pub(super) fn fit(mut lines: Vec<String>, columns: usize, rows: usize) -> Vec<String> {
    let missing = lines.len().saturating_sub(rows);
    if missing > 0 {
        lines.truncate(rows.saturating_sub(1));
        if rows > 0 {
            lines.push(format!("… {} more lines", missing + 1));
        }
    }
    let cut = lines.into_iter().map(|line| {
        if line.chars().count() <= columns {
            return line;
        }
        let kept = line.chars().take(columns.saturating_sub(1));
        kept.chain(['…']).collect()
    });
    cut.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(lines: &[&str]) -> Vec<String> {
        lines.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn what_has_no_room_is_cut_and_said_to_be() {
        let three = lines(&["one", "äöüß", "three"]);
        assert_eq!(fit(three.clone(), 5, 3), three);
        assert_eq!(fit(three.clone(), 4, 3), lines(&["one", "äöüß", "thr…"]));
        assert_eq!(fit(three.clone(), 80, 2), lines(&["one", "… 2 more lines"]));
        assert_eq!(fit(three.clone(), 1, 1), lines(&["…"]));
        assert_eq!(fit(three, 0, 0), lines(&[]));
    }

    #[test]
    fn a_frame_replaces_the_last_one_without_clearing_or_scrolling() {
        assert_eq!(
            frame(&lines(&["a", "b"])),
            "\u{1b}[Ha\u{1b}[K\nb\u{1b}[K\u{1b}[J"
        );
    }
}
