//! Collects mistakes while a configuration is read.

use std::{cell::RefCell, collections::BTreeSet, ops::Range, rc::Rc};

use super::mistakes::{Mistake, Position};

/// Where something stands in the text, in bytes.
pub(super) type Span = Range<usize>;

/// The mistakes found so far in one text, or in a part of it.
pub(super) struct Findings<'a> {
    /// Where the part begins, from which spans count.
    start: usize,
    whole: Rc<Whole<'a>>,
}

struct Whole<'a> {
    text: &'a str,
    line_starts: Vec<usize>,
    /// The lines that are not TOML.
    torn: RefCell<BTreeSet<usize>>,
    found: RefCell<Vec<Mistake>>,
}

impl<'a> Findings<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        let after_newlines = text.match_indices('\n').map(|(at, _)| at + 1);
        Self {
            start: 0,
            whole: Rc::new(Whole {
                text,
                line_starts: std::iter::once(0).chain(after_newlines).collect(),
                torn: RefCell::default(),
                found: RefCell::default(),
            }),
        }
    }

    /// The same, for a part of the text that begins there.
    pub(super) fn from(&self, start: usize) -> Self {
        let whole = Rc::clone(&self.whole);
        Self { start, whole }
    }

    /// Where something of this part stands in the whole text.
    pub(super) fn whole_span(&self, at: &Span) -> Span {
        self.start + at.start..self.start + at.end
    }

    /// Takes up what the TOML parser found, before anything else is reported.
    pub(super) fn take_syntax_errors(&self, errors: &[toml::de::Error]) {
        for error in errors {
            let at = self.position(
                error
                    .span()
                    .map_or(self.whole.text.len(), |span| span.start),
            );
            // The parser stumbles several times over one slip; the first says it best.
            if self.whole.torn.borrow_mut().insert(at.line) {
                self.push(at, format!("not TOML: {}", advised(error.message())));
            }
        }
    }

    /// Reports what is wrong with something that is there.
    pub(super) fn report(&self, at: &Span, message: impl Into<String>) {
        let at = self.position(at.start);
        // The value on a torn line is the parser's guess, not what somebody wrote.
        if !self.whole.torn.borrow().contains(&at.line) {
            self.push(at, message.into());
        }
    }

    /// Reports that something is not there.
    pub(super) fn report_absence(&self, at: &Span, message: impl Into<String>) {
        // It may well be there, on a line that is not TOML.
        if self.whole.torn.borrow().is_empty() {
            self.push(self.position(at.start), message.into());
        }
    }

    /// The same, before everything that was reported `since`.
    pub(super) fn report_absence_before(&self, since: usize, at: &Span, message: &str) {
        self.report_absence(at, message);
        if let Some(later) = self.whole.found.borrow_mut().get_mut(since..)
            && self.whole.torn.borrow().is_empty()
        {
            later.rotate_right(1);
        }
    }

    /// How many there are so far.
    pub(super) fn count(&self) -> usize {
        self.whole.found.borrow().len()
    }

    pub(super) fn line(&self, offset: usize) -> usize {
        let offset = self.start + offset;
        self.whole
            .line_starts
            .partition_point(|start| *start <= offset)
    }

    pub(super) fn position(&self, offset: usize) -> Position {
        let line = self.line(offset);
        let start = self.whole.line_starts.get(line - 1);
        let start = start.copied().unwrap_or_default();
        let before = self.whole.text.get(start..self.start + offset);
        let before = before.unwrap_or_default();
        Position {
            line,
            column: before.chars().count() + 1,
        }
    }

    pub(super) fn into_mistakes(self) -> Vec<Mistake> {
        self.whole.found.take()
    }

    fn push(&self, at: Position, message: String) {
        self.whole.found.borrow_mut().push(Mistake {
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
