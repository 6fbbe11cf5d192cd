//! Why a command about credentials failed.

use std::{io, path::PathBuf};

use crate::{
    config::Mistakes,
    credential::{
        CredentialError, Problem,
        sealed::{ChangeError, Refusal, SealedProblem},
    },
    small_file::FileError,
};

#[derive(Debug, thiserror::Error)]
pub(super) enum CommandError {
    /// What the configuration says of credentials has mistakes.
    #[error(transparent)]
    Config(#[from] Mistakes),
    /// It says of no sealed store.
    #[error(
        "{} configures no sealed store: write sealed = \"credentials.age\" and identity = \"broker.key\" in [credentials]",
        .0.display()
    )]
    NoStore(PathBuf),
    /// The command was called wrongly.
    #[error("{0}")]
    Usage(String),
    /// The store or its key cannot be read.
    #[error("{0}{advice}", advice = advice(.0))]
    Credential(CredentialError),
    /// The secret cannot be read.
    #[error(transparent)]
    Source(CredentialError),
    /// A change is against the rules.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The store was not changed.
    #[error(transparent)]
    Unchanged(ChangeError),
    /// There is nobody to ask whether the secret works.
    #[error("{0}")]
    Unverifiable(String),
    /// The secret does not work, or nobody could be asked.
    #[error("{0}; nothing was changed")]
    Rejected(String),
    /// Some verdict was bad. They were shown.
    #[error("not everything could be verified")]
    Unverified,
    /// The credential is in use.
    #[error("{0}")]
    InUse(String),
    /// The new key cannot be written.
    #[error("{} cannot be written: {source}", .path.display())]
    Key { path: PathBuf, source: io::Error },
    /// Nobody can be asked for the secret.
    #[error(
        "the secret cannot be asked for: {0}: pipe it into the command, or name its file with --secret-file"
    )]
    Prompt(io::Error),
    /// Standard output is out of order.
    #[error("cannot write to standard output: {0}")]
    Output(#[from] io::Error),
}

impl From<CredentialError> for CommandError {
    fn from(error: CredentialError) -> Self {
        Self::Credential(error)
    }
}

impl From<ChangeError> for CommandError {
    fn from(error: ChangeError) -> Self {
        match error {
            ChangeError::Unreadable(error) => Self::Credential(error),
            ChangeError::Refused(refusal) => Self::Refused(refusal),
            other => Self::Unchanged(other),
        }
    }
}

impl From<SealedProblem> for CommandError {
    fn from(problem: SealedProblem) -> Self {
        Self::Refused(Refusal::Absent(problem))
    }
}

fn advice(error: &CredentialError) -> &'static str {
    match error.problem {
        Problem::File(FileError::Missing) => ": `token-broker credential init` makes it",
        _ => "",
    }
}
