//! Noticing that files have changed.
//!
//! They are looked at again and again: a notification of the system would miss what
//! Kubernetes does, which points a link to another folder.

use std::{
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

/// The files that a configuration was read from, each with the state it had just before.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Files(Vec<(PathBuf, Option<State>)>);

/// What a file's metadata says; links are followed.
#[derive(Clone, Debug, PartialEq, Eq)]
struct State {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Files {
    /// Looks at one more file, which is about to be read. One that is missing has a state
    /// as well.
    pub(super) fn look_at(&mut self, file: PathBuf) {
        let state = State::of(&file);
        self.0.push((file, state));
    }

    /// Looks at the same files again.
    #[must_use]
    pub fn again(&self) -> Self {
        let files = self.0.iter();
        Self(
            files
                .map(|(file, _)| (file.clone(), State::of(file)))
                .collect(),
        )
    }

    /// The files that are others than they were.
    pub fn other_than<'a>(&'a self, before: &Self) -> Vec<&'a Path> {
        let others = self.0.iter().filter(|file| !before.0.contains(file));
        others.map(|(path, _)| path.as_path()).collect()
    }
}

impl State {
    fn of(file: &Path) -> Option<Self> {
        let metadata = fs::metadata(file).ok()?;
        Some(Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn writing_replacing_removing_and_pointing_elsewhere_are_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::create_dir(path("one")).unwrap();
        fs::create_dir(path("two")).unwrap();
        fs::write(path("one/file"), "same").unwrap();
        fs::write(path("two/file"), "same").unwrap();
        symlink(path("one"), path("data")).unwrap();
        let mut files = Files::default();
        files.look_at(path("data/file"));
        files.look_at(path("missing"));

        let mut before = files;
        assert_eq!(before.again(), before, "nothing has changed");
        let changes: [(&str, &dyn Fn()); 5] = [
            ("written", &|| {
                fs::write(path("one/file"), "other!").unwrap();
            }),
            ("pointed elsewhere", &|| {
                symlink(path("two"), path("new")).unwrap();
                fs::rename(path("new"), path("data")).unwrap();
            }),
            ("replaced", &|| {
                fs::write(path("new"), "same").unwrap();
                fs::rename(path("new"), path("two/file")).unwrap();
            }),
            ("made", &|| {
                fs::write(path("missing"), "").unwrap();
            }),
            ("removed", &|| {
                fs::remove_file(path("two/file")).unwrap();
            }),
        ];
        for (name, change) in changes {
            change();
            let after = before.again();
            assert_ne!(after, before, "{name}");
            before = after;
        }
    }
}
