//! Changing the files that a broker was configured with while it runs.

use std::{fs, path::PathBuf};

use crate::trial::Trial;

impl Trial {
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn text(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }

    /// Replaces a file at once, as a careful program does.
    pub(crate) fn write(&self, name: &str, content: &str) {
        let new = self.path("new");
        fs::write(&new, content).unwrap();
        fs::rename(new, self.path(name)).unwrap();
    }

    /// Replaces a text in the configuration, which must have it once.
    pub(crate) fn reconfigure(&self, from: &str, to: &str) {
        let text = self.text("broker.toml");
        assert_eq!(text.matches(from).count(), 1, "{from} in {text}");
        self.write("broker.toml", &text.replace(from, to));
    }
}
