//! Texts that are kept once, however many have them.

use std::{collections::HashSet, sync::Arc};

/// The texts that are known. Thousands of destinations may have the same few callers,
/// applications and endpoints.
#[derive(Debug, Default)]
pub struct Texts(HashSet<Arc<str>>);

impl Texts {
    /// The one that all have who have this text.
    pub fn once(&mut self, text: impl AsRef<str> + Into<Arc<str>>) -> Arc<str> {
        if let Some(known) = self.0.get(text.as_ref()) {
            return Arc::clone(known);
        }
        let text = text.into();
        self.0.insert(Arc::clone(&text));
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_that_are_alike_are_one() {
        let mut texts = Texts::default();
        let (a, b) = (texts.once("a"), texts.once("b"));
        assert_eq!((&*a, &*b), ("a", "b"));
        let again = texts.once(Arc::<str>::from("a"));
        assert!(Arc::ptr_eq(&a, &again));
    }
}
