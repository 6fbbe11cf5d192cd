//! The file as TOML, parsed one destination at a time.
//!
//! What the parser makes of a text is thirty times as large, and a large file is almost only
//! destinations. Each of them is a document of its own as well, so they are parsed, read and
//! dropped one after the other: what is in memory at once grows with one destination, and not
//! with all of them.

use std::ops::Range;

use toml::de::{DeTable, Error};

use super::{Mistake, findings::Findings, reader::Section};

/// The line that begins a destination.
const HEADER: &str = "[[destination]]";
const KEY: &str = "destination";

/// A file that was parsed, but for the destinations that are parsed when they are read.
pub(super) struct Document<'a> {
    text: &'a str,
    table: DeTable<'a>,
    errors: Vec<Error>,
    /// Where each destination stands that is not in the table.
    pieces: Vec<Range<usize>>,
}

/// A piece is no document of its own, or more than one destination.
pub(super) struct NotInPieces;

/// Reads a text with `read`, in pieces if it can be.
///
/// # Errors
/// Every mistake in it.
pub(super) fn read<T>(
    text: &str,
    read: impl Fn(&Document<'_>, &Findings<'_>) -> Result<Option<T>, NotInPieces>,
) -> Result<T, Vec<Mistake>> {
    let read = |document: Document<'_>| {
        let findings = Findings::new(text);
        findings.take_syntax_errors(&document.errors);
        let whole = read(&document, &findings).ok()?;
        let found = findings.into_mistakes();
        Some(whole.filter(|_| found.is_empty()).ok_or(found))
    };
    // What is wrong with a text is told best by who sees all of it.
    let in_pieces = Document::in_pieces(text).and_then(&read);
    let read = in_pieces.or_else(|| read(Document::whole(text)));
    read.unwrap_or_else(|| Err(Vec::new()))
}

impl<'a> Document<'a> {
    fn whole(text: &'a str) -> Self {
        Self::parse(text, text, Vec::new())
    }

    /// Split before each line that begins a destination. A line of a text or an array may look
    /// like one: then what is before it is torn, and nothing is read in pieces.
    fn in_pieces(text: &'a str) -> Option<Self> {
        let lines = text.match_indices(HEADER).map(|(at, _)| at);
        let mut starts: Vec<_> = lines
            .filter(|at| *at == 0 || text.as_bytes()[at - 1] == b'\n')
            .collect();
        let head = &text[..*starts.first()?];
        starts.push(text.len());
        let pieces = starts.windows(2).map(|pair| pair[0]..pair[1]).collect();
        let document = Self::parse(text, head, pieces);
        let is_whole = document.errors.is_empty() && !document.table.contains_key(KEY);
        is_whole.then_some(document)
    }

    fn parse(text: &'a str, head: &'a str, pieces: Vec<Range<usize>>) -> Self {
        let (table, errors) = DeTable::parse_recoverable(head);
        Self {
            text,
            table: table.into_inner(),
            errors,
            pieces,
        }
    }

    /// Everything but the destinations.
    pub(super) fn root<'r>(&'r self, findings: &'r Findings<'r>) -> Section<'r> {
        Section::new(findings, "the file", 0..0, Some(&self.table))
    }

    /// Hands over each destination in file order.
    ///
    /// # Errors
    /// [`NotInPieces`], after some may have been handed over.
    pub(super) fn destinations(
        &self,
        root: &Section<'_>,
        mut each: impl FnMut(Section<'_>),
    ) -> Result<(), NotInPieces> {
        root.sections(KEY, HEADER).into_iter().for_each(&mut each);
        for piece in &self.pieces {
            let (table, errors) = DeTable::parse_recoverable(&self.text[piece.clone()]);
            let table = table.get_ref();
            if !errors.is_empty() || table.len() != 1 {
                return Err(NotInPieces);
            }
            let findings = root.findings().from(piece.start);
            let piece = Section::new(&findings, "the file", 0..0, Some(table));
            piece.sections(KEY, HEADER).into_iter().for_each(&mut each);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*, sample::select};
    use toml::de::DeValue;

    use super::*;

    /// What a value is, wherever it stands.
    fn shape(value: &DeValue<'_>) -> String {
        match value {
            DeValue::Table(table) => {
                let keys = table.iter();
                let keys = keys.map(|(key, value)| (key.get_ref(), shape(value.get_ref())));
                format!("{:?}", keys.collect::<Vec<_>>())
            }
            DeValue::Array(array) => {
                let values = array.iter().map(|value| shape(value.get_ref()));
                format!("{:?}", values.collect::<Vec<_>>())
            }
            other => format!("{other:?}"),
        }
    }

    /// Each destination with its line, and then everything else.
    fn seen(document: &Document<'_>) -> Result<Vec<String>, NotInPieces> {
        let findings = Findings::new(document.text);
        let root = document.root(&findings);
        let mut seen = Vec::new();
        document.destinations(&root, |section| {
            let line = section.findings().line(section.header().start);
            let keys = ["id", "x", "grant"].map(|key| section.optional(key, |it| Ok(shape(it))));
            seen.push(format!("{line} {keys:?}"));
        })?;
        let rest = document
            .table
            .iter()
            .filter(|(key, _)| key.get_ref() != KEY);
        seen.extend(rest.map(|(key, value)| format!("{key:?} {}", shape(value.get_ref()))));
        Ok(seen)
    }

    fn in_pieces(text: &str) -> Option<Vec<String>> {
        seen(&Document::in_pieces(text)?).ok()
    }

    fn assert_same(text: &str) {
        let Some(in_pieces) = in_pieces(text) else {
            return;
        };
        let whole = Document::whole(text);
        assert!(whole.errors.is_empty(), "{text}\n{:?}", whole.errors);
        assert_eq!(seen(&whole).ok(), Some(in_pieces), "{text}");
    }

    #[test]
    fn only_what_is_split_between_whole_destinations_is_read_in_pieces() {
        for (text, expected) in [
            ("a = 1\n[[destination]]\nid = 1\n[[destination]]\n", true),
            ("[[destination]] # one\n[[destination.grant]]\n", true),
            ("a = 1\n", false),
            (" [[destination]]\n", false),
            ("[[destination]]\n[server]\n", false),
            ("x = \"\"\"\n[[destination]]\n\"\"\"\n", false),
            ("x = [\n[[destination]]\n]\n", false),
            ("[[destination]]\nx = '''\n[[destination]]\n'''\n", false),
            ("[destination]\n[[destination]]\n", false),
            ("destination = []\n[[destination]]\n", false),
            ("[[destination]]\nid = \n[[destination]]\n", false),
        ] {
            assert_eq!(in_pieces(text).is_some(), expected, "{text}");
            assert_same(text);
        }
        assert!(in_pieces(super::super::EXAMPLE).is_some());
        assert_same(super::super::EXAMPLE);
    }

    proptest! {
        #[test]
        fn what_is_read_in_pieces_is_what_the_whole_says(
            lines in vec(select(&[
                "[[destination]]", "[[destination]]", "[[destination]] # one", " [[destination]]",
                "[[ destination ]]", "[[destination.grant]]", "[destination]", "[destination.x]",
                "[server]", "id = 1", "x = \"a\"", "x = [", "]", "[[1],", "x = \"\"\"", "\"\"\"",
                "x = '''", "'''", "destination = []", "destination.x = 1", "# [[destination]]", "",
            ][..]), 0..12),
            newline in select(&["\n", "\r\n"][..]),
        ) {
            assert_same(&lines.join(newline));
        }
    }
}
