//! What a reader wants to see of all destinations.

use url::form_urlencoded;

use super::rank::Kind;
use crate::{
    broker::{State, Survey},
    destination::DestinationId,
    identity::CallerId,
};

/// The rows of one page. Those in trouble come first, so what is left out is well.
const ROWS: usize = 100;

/// Longer than any name. Each word is looked for in each row.
pub(super) const CHARACTERS: usize = 200;

/// What a reader wants to see.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Query {
    /// What was typed.
    pub(super) text: String,
    /// Its words in lower case, all of which a row has to have.
    words: Vec<String>,
    pub(super) kind: Option<Kind>,
    /// Whether there may be more than [`ROWS`] rows.
    pub(super) all: bool,
}

impl Query {
    /// Reads it from an address; what it does not know it leaves out.
    pub(super) fn parse(query: &str) -> Self {
        let mut parsed = Self::default();
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            match &*name {
                "q" => parsed.text = value.trim().chars().take(CHARACTERS).collect(),
                "state" => parsed.kind = Kind::named(&value),
                "all" => parsed.all = true,
                _ => {}
            }
        }
        let words = parsed.text.split_whitespace();
        parsed.words = words.map(str::to_lowercase).collect();
        parsed
    }

    /// The address of the page with this text.
    pub(super) fn address(&self, kind: Option<Kind>, all: bool) -> String {
        let mut query = form_urlencoded::Serializer::new(String::new());
        if !self.text.is_empty() {
            query.append_pair("q", &self.text);
        }
        if let Some(kind) = kind {
            query.append_pair("state", kind.label());
        }
        if all {
            query.append_pair("all", "1");
        }
        format!("/?{}", query.finish())
    }

    pub(super) fn most(&self) -> usize {
        if self.all { usize::MAX } else { ROWS }
    }

    pub(super) fn is_everything(&self) -> bool {
        self.text.is_empty() && self.kind.is_none()
    }

    pub(super) fn wants(&self, survey: &Survey) -> bool {
        let kind = Kind::of(survey);
        if self.kind.is_some_and(|wanted| wanted != kind) {
            return false;
        }
        if self.words.is_empty() {
            return true;
        }
        let texts = texts(survey, kind);
        self.words.iter().all(|word| texts.contains(word))
    }
}

/// All that is looked at in lower case, with what is in no word in between.
fn texts(survey: &Survey, kind: Kind) -> String {
    let mut texts = vec![survey.id.as_str(), kind.word()];
    texts.extend(survey.name.as_ref().map(DestinationId::as_str));
    if let State::Protected(state) = &survey.state {
        texts.push(state.application.as_str());
        texts.extend(state.callers.iter().map(CallerId::as_str));
        texts.extend(state.last_failure.map(|(reason, _)| reason.code()));
    }
    texts.join("\n").to_lowercase()
}
