//! A string that must never be shown.

use std::fmt;

use zeroize::Zeroizing;

/// A client secret, a private key or an access token.
///
/// It has no `Display`, no `Serialize` and no `Clone`; its memory is wiped when
/// it is dropped. The one way to its text is [`Secret::expose`], so that a search
/// for that word finds every place where a secret can get out.
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// Takes possession of a text that must not be shown.
    pub fn new(text: String) -> Self {
        Self(Zeroizing::new(text))
    }

    /// The text itself. Never pass it to a log, an error or a metric.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[secret]")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_shows_nothing_of_the_secret() {
        let secret = Secret::new("canary".to_owned());
        assert_eq!(
            format!("{secret:?} {:#?}", Some(&secret)),
            "[secret] Some(\n    [secret],\n)"
        );
    }
}
