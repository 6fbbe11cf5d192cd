//! Arguments that may be secrets, which are not repeated.

use std::ffi::OsString;

use clap::{
    CommandFactory as _, Error,
    error::{ContextKind, ContextValue, ErrorKind},
};

use crate::cli::Cli;

/// What somebody needs to know who typed a secret.
pub(super) const ADVICE: &str =
    "  A secret is never an argument. Pipe it into the command, name its file with --secret-file
  or --private-key-file, or type it when asked for.
  One that was typed is in the history of the shell now, and was shown to every user of this
  machine: have it reset.";

/// What to say instead of an error of clap that would repeat an argument of `credential`;
/// `None` when it repeats nothing, or the command is another one.
pub(in crate::cli) fn refusal(arguments: &[OsString], error: &Error) -> Option<String> {
    if !is_about_credentials(arguments) {
        return None;
    }
    let wrong = match error.kind() {
        ErrorKind::InvalidSubcommand => "there is no such command of `token-broker credential`",
        ErrorKind::UnknownArgument | ErrorKind::TooManyValues => {
            "`token-broker credential` was given an argument that it does not take"
        }
        ErrorKind::InvalidValue
        | ErrorKind::ValueValidation
        | ErrorKind::NoEquals
        | ErrorKind::TooFewValues
        | ErrorKind::WrongNumberOfValues
        | ErrorKind::InvalidUtf8 => {
            "`token-broker credential` was given an argument with a value that it cannot have"
        }
        _ => return None,
    };
    let meant = meant(error).map_or_else(String::new, |meant| {
        format!("  Is {meant} what was meant?\n")
    });
    Some(format!(
        "{wrong}; it is not repeated here, since it may be a secret\n{meant}{ADVICE}"
    ))
}

/// Whether the first word that is a command is `credential`.
fn is_about_credentials(arguments: &[OsString]) -> bool {
    let cli = Cli::command();
    let mut words = arguments.iter().skip(1).filter_map(|word| word.to_str());
    let first = words.find(|word| cli.find_subcommand(word).is_some());
    first == Some("credential")
}

/// What clap suggests, which is always something that it knows.
fn meant(error: &Error) -> Option<&str> {
    let suggested = [ContextKind::SuggestedArg, ContextKind::SuggestedSubcommand];
    suggested
        .into_iter()
        .find_map(|kind| match error.get(kind)? {
            ContextValue::String(text) => Some(text.as_str()),
            ContextValue::Strings(texts) => texts.first().map(String::as_str),
            _ => None,
        })
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    fn said(line: &str) -> Option<String> {
        let words = ["token-broker"].into_iter().chain(line.split_whitespace());
        let words: Vec<OsString> = words.map(OsString::from).collect();
        let error = Cli::try_parse_from(&words).unwrap_err();
        refusal(&words, &error)
    }

    #[test]
    fn only_arguments_of_credential_are_hidden() {
        for (line, is_hidden) in [
            ("credential set shop canary", true),
            ("credential canary", true),
            ("canary credential list", true),
            ("credential list --output canary", true),
            ("credential set", false),
            ("credential rotate shop --finish --abort", false),
            ("token get credential canary", false),
            ("canary", false),
        ] {
            let said = said(line);
            assert_eq!(said.is_some(), is_hidden, "{line}");
            assert!(!said.unwrap_or_default().contains("canary"), "{line}");
        }
    }

    #[test]
    fn a_slip_of_the_pen_is_still_recognised() {
        let slip = said("credential set shop --clientid canary").unwrap();
        assert!(slip.contains("Is --client-id what was meant?"), "{slip}");
        let slip = said("credential lst").unwrap();
        assert!(slip.contains("Is list what was meant?"), "{slip}");
    }
}
