//! Why an operator's call came to nothing.

use crate::broker::CallError;

/// Why an operator's call came to nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ActError {
    /// The configuration does not name the caller as an administrator.
    #[error("not an administrator")]
    NotAdministrator,
    /// No destination has this id or name.
    #[error("no such destination")]
    NoSuchDestination,
    /// The destination has no application of this name.
    #[error("no such application")]
    NoSuchApplication,
    /// All applications of the destination are stopped as one, those to come included.
    #[error("all applications are stopped as one")]
    StoppedAsOne,
    /// The text names no caller.
    #[error("the caller is not valid")]
    InvalidCaller,
    /// The idle time is negative or not a duration.
    #[error("the idle time is not valid")]
    InvalidIdleFor,
    /// What was read has mistakes, and what was in force stays.
    #[error("the reload is refused")]
    ReloadRefused(Vec<Fault>),
    /// What callers meet as well.
    #[error(transparent)]
    Call(#[from] CallError),
}

/// One thing that keeps a configuration from being taken in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Where it is, such as `broker.toml:3:8`; empty where that is part of the message.
    pub place: String,
    /// What is wrong, and what to write instead.
    pub message: String,
}

impl ActError {
    /// The reason code that operators, logs and metrics see.
    pub fn code(&self) -> &'static str {
        match self {
            Self::NotAdministrator => "NOT_ADMINISTRATOR",
            Self::NoSuchDestination => "NO_SUCH_DESTINATION",
            Self::NoSuchApplication => "NO_SUCH_APPLICATION",
            Self::StoppedAsOne => "STOPPED_AS_ONE",
            Self::InvalidCaller => "INVALID_CALLER",
            Self::InvalidIdleFor => "INVALID_IDLE_FOR",
            Self::ReloadRefused(_) => "RELOAD_REFUSED",
            Self::Call(error) => error.code(),
        }
    }
}

impl Fault {
    /// Nobody reads a configuration any more.
    pub(super) fn stopping() -> Self {
        Self::of_the_broker("the broker is stopping")
    }

    /// Nobody could say what came of reading.
    pub(super) fn unanswered() -> Self {
        Self::of_the_broker("reading failed inside the broker: its log says more")
    }

    fn of_the_broker(message: &str) -> Self {
        Self {
            place: String::new(),
            message: message.to_owned(),
        }
    }
}
