//! The outline of a configuration: what the commands that keep credentials need to know.

use std::path::Path;

use super::{
    Destination, Mistake, Mistakes,
    credentials::{Places, Unresolved},
    document,
    folder::Folder,
    read_destinations, read_file,
    upstreams::Upstreams,
};
use crate::credential::CredentialRef;

/// Where credentials are kept, and who uses them. Nothing but `[credentials]`,
/// `[[upstream]]` and `[[destination]]` is read, and no credential is: they may be stored
/// later, and the server's certificates may be on another machine.
#[derive(Clone, Debug)]
pub struct Outline {
    /// Where credentials are kept.
    pub places: Places,
    /// The destinations, in file order, whose applications have references to credentials.
    pub destinations: Vec<Destination<CredentialRef>>,
}

impl Outline {
    /// Reads the outline of a configuration file.
    ///
    /// # Errors
    /// Every mistake in those sections.
    pub fn load(file: &Path) -> Result<Self, Mistakes> {
        let folder = Folder::of(file);
        read_file(file, |text| Self::read(text, &folder))
    }

    fn read(text: &str, folder: &Folder) -> Result<Self, Vec<Mistake>> {
        document::read(text, |document, findings| {
            let root = document.root(findings);
            let places = Places::read(root.section("credentials", "[credentials]"), folder);
            let mut upstreams = Upstreams::read(root.sections("upstream", "[[upstream]]"), folder);
            let destinations =
                read_destinations(document, &root, &mut upstreams, &Unresolved, |_| ())?;
            Ok(Some(Self {
                places,
                destinations,
            }))
        })
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::config::{EXAMPLE, Protection};

    fn outline(text: &str) -> Result<Outline, String> {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("broker.toml");
        fs::write(&file, text).unwrap();
        let path = format!("{}:", file.display());
        Outline::load(&file).map_err(|mistakes| mistakes.to_string().replace(&path, ""))
    }

    #[test]
    fn nothing_that_the_configuration_names_needs_to_be_there() {
        let text = EXAMPLE
            .replace("# sealed =", "sealed =")
            .replace("# identity =", "identity =")
            .replace("file:depot", "sealed:depot");
        let outline = outline(&text).unwrap();
        assert!(outline.places.directory.unwrap().ends_with("credentials"));
        let sealed = outline.places.sealed.unwrap();
        assert!(
            sealed.store.ends_with("credentials.age") && sealed.identity.ends_with("broker.key")
        );
        let Protection::Protected(first) = &outline.destinations[0].protection else {
            panic!("it is protected")
        };
        let references: Vec<_> = first
            .applications
            .iter()
            .map(|application| application.credential.to_string())
            .collect();
        assert_eq!(references, ["file:shop", "sealed:depot"]);
    }

    #[test]
    fn only_what_matters_is_looked_at() {
        let outline = outline("[server]\nnonsense = 1\n[sever]\n[cache]\nx = 1").unwrap();
        assert!(outline.destinations.is_empty() && outline.places.sealed.is_none());
    }

    #[test]
    fn mistakes_in_what_matters_are_reported() {
        let text = "[credentials]\nsealed = \"a\"\n[[destination]]\nid = \"a\"\nupstream = \"occto\"\n[[destination.application]]\nname = \"a\"\ncredential = \"vault:a\"\n";
        let mistakes = outline(text).unwrap_err();
        let lines: Vec<_> = mistakes.lines().collect();
        assert_eq!(lines.len(), 4, "{mistakes}");
        assert!(lines[0].starts_with("1:1: \"identity\" is missing in [credentials]"));
        assert!(lines[1].starts_with("5:12: \"upstream\" names \"occto\""));
        assert!(lines[2].starts_with("8:14: \"credential\" must be"));
    }
}
