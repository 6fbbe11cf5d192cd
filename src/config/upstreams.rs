//! All upstreams, and finding the one that a destination means.

use std::sync::Arc;

use super::{
    folder::Folder,
    kind::Kind,
    reader::Section,
    suggestion::{instead_of, quoted},
    unique::Unique,
    upstream::{Draft, Upstream},
};

/// The upstreams that are written, and then the built-in ones that destinations mean.
pub(super) struct Upstreams(Vec<Draft>);

impl Upstreams {
    pub(super) fn read(sections: Vec<Section<'_>>, folder: &Folder) -> Self {
        let mut names = Unique::default();
        let mut drafts = Vec::new();
        for section in sections {
            drafts.extend(Draft::read(section, &mut names, folder));
        }
        Self(drafts)
    }

    /// The upstream that a destination names.
    pub(super) fn resolve(&mut self, name: &str) -> Result<&Draft, String> {
        let known = self.0.iter().position(|draft| draft.upstream.name == name);
        let place = match (known, Kind::parse(name)) {
            (Some(place), _) => place,
            (None, Some(kind)) => {
                self.0.push(Draft::built_in(name, kind));
                self.0.len() - 1
            }
            (None, None) => return Err(self.unknown(name)),
        };
        Ok(&self.0[place])
    }

    pub(super) fn finish(self) -> Vec<Arc<Upstream>> {
        self.0.into_iter().map(|draft| draft.upstream).collect()
    }

    fn unknown(&self, name: &str) -> String {
        let written = self.0.iter().map(|draft| draft.upstream.name.as_str());
        let mut known: Vec<_> = written.chain(Kind::ALL.map(|(kind, _)| kind)).collect();
        known.sort_unstable();
        known.dedup();
        format!(
            "names {}, which is no [[upstream]]: {}",
            quoted(name),
            instead_of(name, &known)
        )
    }
}
