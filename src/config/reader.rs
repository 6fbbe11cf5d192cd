//! Reads the parsed file section by section, and goes on after a mistake.

use std::{cell::RefCell, collections::BTreeSet};

use toml::{
    Spanned,
    de::{DeArray, DeTable, DeValue},
};

use super::{
    findings::{Findings, Span},
    suggestion::{instead_of, quoted},
    values,
};

/// Keys that somebody might write because an upstream or a server calls its credentials so.
const SECRET_KEYS: [&str; 9] = [
    "client_id",
    "client_secret",
    "clientId",
    "clientSecret",
    "key_id",
    "password",
    "private_key",
    "secret",
    "sentinel_password",
];

/// One table of the file. It remembers which keys were asked for; at the end all others
/// are unknown keys.
pub(super) struct Section<'a> {
    findings: &'a Findings<'a>,
    title: &'static str,
    header: Span,
    /// `None` when the section is not written, so that every key has its default.
    table: Option<&'a DeTable<'a>>,
    asked: RefCell<Vec<&'static str>>,
    /// It is written in a wrong way, which says enough about the keys that it lacks.
    wrong: bool,
}

impl<'a> Section<'a> {
    pub(super) fn new(
        findings: &'a Findings<'a>,
        title: &'static str,
        header: Span,
        table: Option<&'a DeTable<'a>>,
    ) -> Self {
        Self {
            findings,
            title,
            header,
            table,
            asked: RefCell::default(),
            wrong: false,
        }
    }

    /// A value that need not be there. `None` also when it is wrong, which is reported.
    pub(super) fn optional<T>(
        &self,
        key: &'static str,
        parse: impl FnOnce(&'a DeValue<'a>) -> Result<T, String>,
    ) -> Option<T> {
        let value = self.find(key)?;
        match parse(value.get_ref()) {
            Ok(value) => Some(value),
            Err(problem) => {
                self.report(key, &problem);
                None
            }
        }
    }

    /// A value with a default.
    pub(super) fn or<T>(
        &self,
        key: &'static str,
        default: T,
        parse: impl FnOnce(&'a DeValue<'a>) -> Result<T, String>,
    ) -> T {
        self.optional(key, parse).unwrap_or(default)
    }

    /// A value that must be there; `example` is what could be written, in TOML.
    pub(super) fn required<T>(
        &self,
        key: &'static str,
        example: &str,
        parse: impl FnOnce(&'a DeValue<'a>) -> Result<T, String>,
    ) -> Option<T> {
        if self.find(key).is_none() {
            self.report_missing(key, example);
        }
        self.optional(key, parse)
    }

    /// The elements of an array that must name something. Those that are wrong are
    /// reported and left out.
    pub(super) fn required_list<T>(
        &self,
        key: &'static str,
        example: &str,
        parse: impl Fn(&'a DeValue<'a>) -> Result<T, String>,
    ) -> Vec<T> {
        match self.required(key, example, values::array) {
            None => Vec::new(),
            Some(elements) if elements.is_empty() => {
                self.report(key, &format!("must not be empty: write {key} = {example}"));
                Vec::new()
            }
            Some(elements) => self.elements(key, elements, parse),
        }
    }

    /// One value, or an array of them.
    pub(super) fn one_or_list<T>(
        &self,
        key: &'static str,
        parse: impl Fn(&'a DeValue<'a>) -> Result<T, String>,
    ) -> Vec<T> {
        match self.find(key).and_then(|value| value.get_ref().as_array()) {
            Some(elements) => self.elements(key, elements, parse),
            None => self.optional(key, parse).into_iter().collect(),
        }
    }

    /// A table of texts with free keys, in file order, with the place of each key.
    pub(super) fn texts(&self, key: &'static str) -> Vec<(&'a str, &'a str, Span)> {
        let Some(table) = self.optional(key, values::table) else {
            return Vec::new();
        };
        let mut texts = Vec::new();
        for (name, value) in table {
            match values::text(value.get_ref()) {
                Ok(text) => texts.push((name.get_ref().as_ref(), text, name.span())),
                Err(problem) => {
                    let name = quoted(name.get_ref());
                    self.findings
                        .report(&value.span(), format!("{name} {problem}"));
                }
            }
        }
        texts.sort_by_key(|(_, _, span)| span.start);
        texts
    }

    /// A section that is written at most once.
    pub(super) fn section(&self, key: &'static str, title: &'static str) -> Section<'a> {
        let value = self.find(key);
        let header = value.map_or(0..0, Spanned::span);
        let table = value.and_then(|value| value.get_ref().as_table());
        let wrong = value.is_some() && table.is_none();
        if wrong {
            let message = format!("{key:?} must be written as {title}");
            self.findings.report(&header, message);
        }
        Section {
            wrong,
            ..Section::new(self.findings, title, header, table)
        }
    }

    /// A section that may be written any number of times.
    pub(super) fn sections(&self, key: &'static str, title: &'static str) -> Vec<Section<'a>> {
        let Some(value) = self.find(key) else {
            return Vec::new();
        };
        let tables = match value.get_ref() {
            DeValue::Array(tables) if tables.iter().all(|table| table.get_ref().is_table()) => {
                tables
            }
            _ => {
                let message = format!("{key:?} must be written as {title}");
                // The parser also takes it for a single table when the header before is torn.
                self.findings.report_absence(&value.span(), message);
                return Vec::new();
            }
        };
        let section = |table: &'a Spanned<DeValue<'a>>| {
            let header = table.span();
            Section::new(self.findings, title, header, table.get_ref().as_table())
        };
        tables.iter().map(section).collect()
    }

    /// Whether there is nothing under the key, not even something wrong.
    pub(super) fn lacks(&self, key: &'static str) -> bool {
        self.find(key).is_none_or(|value| {
            value
                .get_ref()
                .as_array()
                .is_some_and(|array| array.is_empty())
        })
    }

    pub(super) fn has(&self, key: &'static str) -> bool {
        self.find(key).is_some()
    }

    /// Where the value of a key stands, or else the header of the section.
    pub(super) fn at(&self, key: &'static str) -> Span {
        self.find(key).map_or(self.header(), Spanned::span)
    }

    pub(super) fn header(&self) -> Span {
        self.header.clone()
    }

    pub(super) fn findings(&self) -> &'a Findings<'a> {
        self.findings
    }

    /// Reports what is wrong with a value; the message begins with the key.
    pub(super) fn report(&self, key: &'static str, problem: &str) {
        self.findings
            .report(&self.at(key), format!("{key:?} {problem}"));
    }

    pub(super) fn report_missing(&self, key: &'static str, example: &str) {
        if self.wrong {
            return;
        }
        let title = self.title;
        self.findings.report_absence(
            &self.header,
            format!("{key:?} is missing in {title}: write {key} = {example}"),
        );
    }

    /// Reports the keys that nobody asked for.
    pub(super) fn finish(self) {
        let mut asked = self.asked.into_inner();
        let keys = self.table.into_iter().flatten().map(|(key, _)| key);
        let unknown: Vec<_> = keys
            .filter(|key| !asked.contains(&&**key.get_ref()))
            .collect();
        if unknown.is_empty() {
            return;
        }
        // Some are asked for twice.
        let mut once = BTreeSet::new();
        asked.retain(|key| once.insert(*key));
        for key in unknown {
            let name: &str = key.get_ref();
            let instead = if SECRET_KEYS.contains(&name) {
                let file = asked
                    .iter()
                    .find(|key| key.strip_suffix("_file") == Some(name));
                match file {
                    Some(file) => {
                        let kind = if name.starts_with("sentinel") { "sentinel" } else { "redis" };
                        format!("secrets are never in this file: write it into a file of its own, and {file} = \"{kind}.password\"")
                    }
                    None => "credentials are never in this file: write credential = \"sealed:NAME\", \"file:NAME\" or \"env:NAME\"".to_owned(),
                }
            } else {
                instead_of(name, &asked)
            };
            let message = format!("unknown key {}: {instead}", quoted(name));
            self.findings.report(&key.span(), message);
        }
    }

    fn elements<T>(
        &self,
        key: &'static str,
        elements: &'a DeArray<'a>,
        parse: impl Fn(&'a DeValue<'a>) -> Result<T, String>,
    ) -> Vec<T> {
        let mut parsed = Vec::new();
        for element in elements {
            match parse(element.get_ref()) {
                Ok(element) => parsed.push(element),
                Err(problem) => self
                    .findings
                    .report(&element.span(), format!("{key:?} {problem}")),
            }
        }
        parsed
    }

    fn find(&self, key: &'static str) -> Option<&'a Spanned<DeValue<'a>>> {
        let table = self.table?;
        self.asked.borrow_mut().push(key);
        table.get(key)
    }
}
