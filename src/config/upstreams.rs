//! All upstreams, and finding the one that a destination means.

use super::{
    folder::Folder,
    reader::Section,
    suggestion::{instead_of, quoted},
    unique::Unique,
    upstream::{Draft, Kind, Upstream},
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

    /// The place of the upstream that a destination names.
    pub(super) fn resolve(&mut self, name: &str) -> Result<usize, String> {
        let written = self.0.iter().position(|draft| draft.upstream.name == name);
        if let Some(place) = written {
            return Ok(place);
        }
        let Some(kind) = Kind::parse(name) else {
            let written = self.0.iter().map(|draft| draft.upstream.name.as_str());
            let mut known: Vec<_> = written.chain(Kind::ALL.map(|(kind, _)| kind)).collect();
            known.sort_unstable();
            known.dedup();
            return Err(format!(
                "names {}, which is no [[upstream]]: {}",
                quoted(name),
                instead_of(name, &known)
            ));
        };
        self.0.push(Draft::built_in(kind));
        Ok(self.0.len() - 1)
    }

    pub(super) fn draft(&self, place: usize) -> Option<&Draft> {
        self.0.get(place)
    }

    pub(super) fn finish(self) -> Vec<Upstream> {
        self.0.into_iter().map(|draft| draft.upstream).collect()
    }
}
