//! What a reader wants to see of all destinations.

use url::form_urlencoded;

use super::rank::Kind;
use crate::broker::{State, Survey};

/// The rows of one page. Those in trouble come first, so what is left out is well.
const ROWS: usize = 100;

/// What a reader wants to see.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Query {
    /// Words that a row has to have all of.
    pub(super) text: String,
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
                "q" => value.trim().clone_into(&mut parsed.text),
                "state" => parsed.kind = Kind::named(&value),
                "all" => parsed.all = true,
                _ => {}
            }
        }
        parsed
    }

    /// The address of the page with this query.
    pub(super) fn address(&self) -> String {
        let mut query = form_urlencoded::Serializer::new(String::new());
        if !self.text.is_empty() {
            query.append_pair("q", &self.text);
        }
        if let Some(kind) = self.kind {
            query.append_pair("state", kind.label());
        }
        if self.all {
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
        let mut words = self.text.split_whitespace();
        words.all(|word| has(survey, kind, &word.to_lowercase()))
    }
}

fn has(survey: &Survey, kind: Kind, word: &str) -> bool {
    let holds = |text: &str| text.to_lowercase().contains(word);
    if holds(survey.id.as_str()) || holds(kind.word()) {
        return true;
    }
    if survey
        .name
        .as_ref()
        .is_some_and(|name| holds(name.as_str()))
    {
        return true;
    }
    let State::Protected(state) = &survey.state else {
        return false;
    };
    holds(state.application.as_str())
        || state.callers.iter().any(|caller| holds(caller.as_str()))
        || state
            .last_failure
            .is_some_and(|(reason, _)| holds(reason.code()))
}
