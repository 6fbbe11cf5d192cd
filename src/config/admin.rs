//! `[admin]`: who may operate the broker, and what it remembers over a restart.

use std::path::PathBuf;

use super::{folder::Folder, reader::Section, values};
use crate::policy::CallerPattern;

/// Who may operate the broker, and what it remembers over a restart.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Admin {
    /// The administrators; nobody is one if empty.
    pub allow: Vec<CallerPattern>,
    /// Where usage and quarantines are kept; nowhere if `None`.
    pub state_file: Option<PathBuf>,
}

impl Admin {
    pub(super) fn read(section: Section<'_>, folder: &Folder) -> Self {
        let allow = section.one_or_list("allow", values::pattern);
        let state_file = section.optional("state_file", |value| folder.output(value));
        section.finish();
        Self { allow, state_file }
    }
}
