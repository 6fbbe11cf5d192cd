//! The counts that are kept beside the code.

use std::{collections::BTreeMap, fs};

use serde::{Deserialize, Serialize};

use crate::{callgrind::Count, part::Part};

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/core/counts.json");

/// The kept counts, by the names of the parts.
#[derive(Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Kept(BTreeMap<String, Count>);

impl Kept {
    pub(crate) fn read() -> Self {
        serde_json::from_str(&fs::read_to_string(FILE).unwrap()).unwrap()
    }

    pub(crate) fn of(&self, part: Part) -> Option<Count> {
        self.0.get(part.name()).copied()
    }

    /// Keeps these from now on.
    pub(crate) fn write(counts: &[(Part, Count)]) {
        let counts = counts.iter();
        let named = counts.map(|(part, count)| (part.name().to_owned(), count.rounded()));
        let text = serde_json::to_string_pretty(&Self(named.collect())).unwrap();
        fs::write(FILE, text + "\n").unwrap();
    }
}
