//! Names that may be used once.

use std::collections::HashMap;

use super::reader::Section;

/// The names taken so far, and the line of each.
#[derive(Default)]
pub(super) struct Unique(HashMap<String, usize>);

impl Unique {
    /// Takes a name that stands under `key`, or reports who has it.
    pub(super) fn take(&mut self, name: &str, section: &Section<'_>, key: &'static str) {
        let line = section.findings().line(section.at(key).start);
        if let Some(taken) = self.0.get(name) {
            let problem =
                format!("cannot be {name:?}, which is taken on line {taken}: write another");
            section.report(key, &problem);
        } else {
            self.0.insert(name.to_owned(), line);
        }
    }
}
