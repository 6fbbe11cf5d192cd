//! What kind of state a destination is in, and who comes first.

use std::time::Duration;

use crate::{
    broker::{State, Survey},
    cache::Condition,
};

/// The states of destinations, the worst first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    Failing,
    RefreshFailing,
    Quarantined,
    Pending,
    Fresh,
    Cold,
    Unprotected,
}

/// Where a row stands: the smaller, the higher up.
pub(super) type Rank = (Kind, bool, Duration);

impl Kind {
    pub(super) const ALL: [Self; 7] = [
        Self::Failing,
        Self::RefreshFailing,
        Self::Quarantined,
        Self::Pending,
        Self::Fresh,
        Self::Cold,
        Self::Unprotected,
    ];

    pub(super) fn of(survey: &Survey) -> Self {
        let State::Protected(state) = &survey.state else {
            return Self::Unprotected;
        };
        match state.condition {
            Condition::Failing => Self::Failing,
            Condition::RefreshFailing => Self::RefreshFailing,
            Condition::Quarantined => Self::Quarantined,
            Condition::Pending => Self::Pending,
            Condition::Fresh => Self::Fresh,
            Condition::Cold => Self::Cold,
        }
    }

    pub(super) fn named(label: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.label() == label)
    }

    /// The name in addresses, and of what the style says about it.
    pub(super) fn label(self) -> &'static str {
        match self {
            Self::Failing => "failing",
            Self::RefreshFailing => "refresh-failing",
            Self::Quarantined => "quarantined",
            Self::Pending => "pending",
            Self::Fresh => "fresh",
            Self::Cold => "cold",
            Self::Unprotected => "unprotected",
        }
    }

    /// The name for people, as the command line has it.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::RefreshFailing => "refresh failing",
            other => other.label(),
        }
    }
}

/// Where a row stands. Of those that are in the same trouble the shortest runway comes first;
/// the others stay where they are in the file, so that no row wanders.
pub(super) fn rank(survey: &Survey) -> Rank {
    let kind = Kind::of(survey);
    let (is_quiet, runway) = match &survey.state {
        State::Protected(state) => (state.warnings.is_empty(), state.runway),
        State::Unprotected => (true, Duration::ZERO),
    };
    let counts = kind == Kind::RefreshFailing;
    (kind, is_quiet, if counts { runway } else { Duration::ZERO })
}
