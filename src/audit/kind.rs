//! What a record is, read back.

use serde::Deserialize;

use super::chain::{Hash, Record};

/// What a record is, as far as it matters to the chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A file begins or goes on after the record with this hash.
    Open {
        previous: Option<Hash>,
        unclean: bool,
    },
    /// It ends in order.
    Close,
    /// So many records are not in it.
    Gap { missed: u64 },
    /// Something happened.
    Event,
}

#[derive(Deserialize)]
struct Members {
    kind: String,
    previous: Option<String>,
    #[serde(default)]
    unclean: bool,
    #[serde(default)]
    missed: u64,
}

impl Kind {
    /// Reads a record; nothing if it is none.
    pub(super) fn of(record: &Record<'_>) -> Option<Self> {
        let object = [record.covered, b"}"].concat();
        let members: Members = serde_json::from_slice(&object).ok()?;
        Some(match members.kind.as_str() {
            "open" => Self::Open {
                previous: match members.previous {
                    Some(digits) => Some(Hash::parse(digits.as_bytes())?),
                    None => None,
                },
                unclean: members.unclean,
            },
            "close" => Self::Close,
            "gap" => Self::Gap {
                missed: members.missed,
            },
            _ => Self::Event,
        })
    }
}
