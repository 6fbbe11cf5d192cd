//! Which callers a grant is for.

use std::{fmt, sync::Arc};

use crate::{
    identity::{CallerId, IdentityError},
    texts::Texts,
};

/// One caller, or all callers below one SPIFFE path.
///
/// There are three forms: a whole SPIFFE ID or DNS name; a SPIFFE path that ends in
/// `/*`, for exactly one further level; and one that ends in `/**`, for one or more
/// further levels. The trust domain is always a concrete one.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct CallerPattern(Shape);

/// Why a text is no pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// A `*` stands where it may not.
    #[error(
        "\"*\" may only be the last path level of a SPIFFE ID: write spiffe://trust-domain/path/* for one further level, or /** for any"
    )]
    Wild,
    /// The text names no caller.
    #[error(transparent)]
    Identity(#[from] IdentityError),
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Shape {
    Whole(CallerId),
    /// Everything one level below this text.
    Children(Arc<str>),
    /// Everything one or more levels below this text.
    Descendants(Arc<str>),
}

impl CallerPattern {
    /// Reads a pattern as the configuration writes it.
    ///
    /// # Errors
    /// [`PatternError`] for a `*` in any other place, and for a text that no caller
    /// can match.
    pub fn parse(text: &str) -> Result<Self, PatternError> {
        let shape = if let Some(parent) = text.strip_suffix("/**") {
            Shape::Descendants(parent_of_some_caller(parent)?)
        } else if let Some(parent) = text.strip_suffix("/*") {
            Shape::Children(parent_of_some_caller(parent)?)
        } else if text.contains('*') {
            return Err(PatternError::Wild);
        } else {
            Shape::Whole(CallerId::parse(text)?)
        };
        Ok(Self(shape))
    }

    /// Whether the caller is one of those meant.
    pub fn matches(&self, caller: &CallerId) -> bool {
        let caller = caller.as_str();
        match &self.0 {
            Shape::Whole(whole) => whole.as_str() == caller,
            Shape::Children(parent) => {
                below(caller, parent).is_some_and(|rest| !rest.contains('/'))
            }
            Shape::Descendants(ancestor) => below(caller, ancestor).is_some(),
        }
    }

    /// Has its text in common with all who have the same.
    pub fn keep_once(&mut self, texts: &mut Texts) {
        match &mut self.0 {
            Shape::Whole(whole) => whole.keep_once(texts),
            Shape::Children(parent) => *parent = texts.once(Arc::clone(parent)),
            Shape::Descendants(ancestor) => *ancestor = texts.once(Arc::clone(ancestor)),
        }
    }

    /// The text of the pattern, for whoever keeps it.
    pub fn to_shared(&self) -> Arc<str> {
        match &self.0 {
            Shape::Whole(whole) => whole.to_shared(),
            Shape::Children(_) | Shape::Descendants(_) => self.to_string().into(),
        }
    }

    pub(super) fn shape(&self) -> &Shape {
        &self.0
    }
}

impl fmt::Display for CallerPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Shape::Whole(whole) => whole.fmt(f),
            Shape::Children(parent) => write!(f, "{parent}/*"),
            Shape::Descendants(ancestor) => write!(f, "{ancestor}/**"),
        }
    }
}

fn parent_of_some_caller(text: &str) -> Result<Arc<str>, PatternError> {
    if text.contains('*') {
        return Err(PatternError::Wild);
    }
    // Well formed exactly when some caller can be below it, so the rules of identities
    // are not written down a second time.
    CallerId::from_spiffe(&format!("{text}/x"))?;
    Ok(text.into())
}

fn below<'a>(caller: &'a str, ancestor: &str) -> Option<&'a str> {
    caller.strip_prefix(ancestor)?.strip_prefix('/')
}

#[cfg(test)]
mod fuzz;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_outside_the_three_forms_are_refused() {
        for good in [
            "spiffe://corp.example/ns/shop/sa/cart",
            "spiffe://corp.example/ns/shop/sa/*",
            "spiffe://corp.example/ns/shop/**",
            "spiffe://corp.example/*",
            "spiffe://corp.example/**",
            "cart.shop.corp.example",
        ] {
            assert_eq!(CallerPattern::parse(good).unwrap().to_string(), good);
        }
        for wild in [
            "*",
            "**",
            "*.corp.example",
            "cart.*",
            "spiffe://*",
            "spiffe://*/ns",
            "spiffe://*/**",
            "spiffe://**/*",
            "spiffe://td*/a",
            "spiffe://td/a*",
            "spiffe://td/*a",
            "spiffe://td/a/***",
            "spiffe://td/*/b",
            "spiffe://td/**/b",
            "spiffe://td/*/*",
            "spiffe://td/**/**",
        ] {
            assert!(CallerPattern::parse(wild).is_err(), "{wild}");
        }
        for malformed in [
            "",
            "/**",
            "/*",
            "spiffe:/**",
            "spiffe://**",
            "spiffe:///**",
            "spiffe:///*",
            "spiffe://td/",
            "spiffe://td//*",
            "spiffe://td/../**",
            "spiffe://TD/**",
            "https://td/**",
            "cart.corp.example/*",
            "spiffe://td",
        ] {
            assert!(CallerPattern::parse(malformed).is_err(), "{malformed}");
        }
    }

    #[test]
    fn one_star_is_one_level_and_two_are_any() {
        for (pattern, caller, matches) in [
            ("spiffe://td/a/*", "spiffe://td/a/b", true),
            ("spiffe://td/a/*", "spiffe://td/a", false),
            ("spiffe://td/a/*", "spiffe://td/a/b/c", false),
            ("spiffe://td/a/*", "spiffe://td/ab/c", false),
            ("spiffe://td/a/*", "spiffe://td2/a/b", false),
            ("spiffe://td/*", "spiffe://td/a", true),
            ("spiffe://td/*", "spiffe://td/a/b", false),
            ("spiffe://td/a/**", "spiffe://td/a/b", true),
            ("spiffe://td/a/**", "spiffe://td/a/b/c/d", true),
            ("spiffe://td/a/**", "spiffe://td/a", false),
            ("spiffe://td/a/**", "spiffe://td/ab", false),
            ("spiffe://td/**", "spiffe://td/a", true),
            ("spiffe://td/**", "spiffe://td.example/a", false),
            ("spiffe://td/a", "spiffe://td/a", true),
            ("spiffe://td/a", "spiffe://td/a/b", false),
            ("cart.example", "cart.example", true),
            ("cart.example", "a.cart.example", false),
        ] {
            let caller = CallerId::parse(caller).unwrap();
            let pattern = CallerPattern::parse(pattern).unwrap();
            assert_eq!(pattern.matches(&caller), matches, "{pattern} {caller}");
        }
    }
}
