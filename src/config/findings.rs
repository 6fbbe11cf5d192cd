//! Collects mistakes while a configuration is read.

use std::{cell::RefCell, collections::BTreeSet, ops::Range};

use super::mistakes::{Mistake, Position};

/// Where something stands in the text, in bytes.
pub(super) type Span = Range<usize>;

/// The mistakes found so far in one text.
pub(super) struct Findings<'a> {
    text: &'a str,
    line_starts: Vec<usize>,
    /// The lines that are not TOML.
    torn: BTreeSet<usize>,
    found: RefCell<Vec<Mistake>>,
}

impl<'a> Findings<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        let after_newlines = text.match_indices('\n').map(|(at, _)| at + 1);
        Self {
            text,
            line_starts: std::iter::once(0).chain(after_newlines).collect(),
            torn: BTreeSet::new(),
            found: RefCell::default(),
        }
    }

    /// Takes up what the TOML parser found, before anything else is reported.
    pub(super) fn take_syntax_errors(&mut self, errors: &[toml::de::Error]) {
        for error in errors {
            let at = self.position(error.span().map_or(self.text.len(), |span| span.start));
            // The parser stumbles several times over one slip; the first says it best.
            if self.torn.insert(at.line) {
                self.push(at, format!("not TOML: {}", advised(error.message())));
            }
        }
    }

    /// Reports what is wrong with something that is there.
    pub(super) fn report(&self, at: &Span, message: impl Into<String>) {
        let at = self.position(at.start);
        // The value on a torn line is the parser's guess, not what somebody wrote.
        if !self.torn.contains(&at.line) {
            self.push(at, message.into());
        }
    }

    /// Reports that something is not there.
    pub(super) fn report_absence(&self, at: &Span, message: impl Into<String>) {
        // It may well be there, on a line that is not TOML.
        if self.torn.is_empty() {
            self.push(self.position(at.start), message.into());
        }
    }

    pub(super) fn line(&self, offset: usize) -> usize {
        self.line_starts.partition_point(|start| *start <= offset)
    }

    pub(super) fn position(&self, offset: usize) -> Position {
        let line = self.line(offset);
        let start = self.line_starts.get(line - 1).copied().unwrap_or_default();
        let before = self.text.get(start..offset).unwrap_or_default();
        Position {
            line,
            column: before.chars().count() + 1,
        }
    }

    pub(super) fn into_mistakes(self) -> Vec<Mistake> {
        self.found.into_inner()
    }

    fn push(&self, at: Position, message: String) {
        self.found.borrow_mut().push(Mistake {
            at: Some(at),
            message,
        });
    }
}

/// What the parser says, and what to write instead where it does not say so.
fn advised(message: &str) -> String {
    let message = message.trim_end_matches(", expected nothing");
    // It takes an address without quotes for a number.
    let of_number = ["invalid float", "invalid integer", "invalid datetime"];
    if message.starts_with("string values must be quoted") {
        "texts and durations must be in quotes".to_owned()
    } else if of_number.iter().any(|start| message.starts_with(start)) {
        format!("{message}: write texts in quotes")
    } else if message == "duplicate key" {
        format!("{message}: write it once")
    } else {
        message.to_owned()
    }
}
