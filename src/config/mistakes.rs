//! Everything that is wrong with a configuration.

use std::{
    error::Error,
    fmt,
    path::{Path, PathBuf},
};

/// Everything that is wrong with a configuration file, in the order of its lines.
///
/// Displayed it is one line for each mistake, `file:line:column: message`, and a last
/// line that counts them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistakes {
    file: PathBuf,
    found: Vec<Mistake>,
}

/// One mistake: what is wrong, and what to write instead. It never repeats a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    /// Where it is; `None` when the file as a whole cannot be read.
    pub at: Option<Position>,
    /// What is wrong, and what to write instead.
    pub message: String,
}

/// A place in a text; lines and columns are counted from one, columns in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// The line.
    pub line: usize,
    /// The column.
    pub column: usize,
}

impl Mistakes {
    pub(super) fn new(file: &Path, mut found: Vec<Mistake>) -> Self {
        found.sort_by_key(|mistake| mistake.at);
        Self {
            file: file.to_owned(),
            found,
        }
    }

    /// The file as it was named.
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// The mistakes, in the order of their lines; at least one.
    pub fn as_slice(&self) -> &[Mistake] {
        &self.found
    }
}

impl fmt::Display for Mistakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let file = self.file.display();
        for mistake in &self.found {
            writeln!(f, "{file}:{mistake}")?;
        }
        match self.found.len() {
            1 => write!(f, "{file}: 1 mistake"),
            count => write!(f, "{file}: {count} mistakes"),
        }
    }
}

impl Error for Mistakes {}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(at) = self.at {
            write!(f, "{at}:")?;
        }
        write!(f, " {}", self.message)
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.line, self.column)
    }
}
