//! Writes files that are always whole: what they held before, or what they hold after.

use std::{
    ffi::OsString,
    fs::{self, File, OpenOptions, Permissions, TryLockError},
    io::{self, Write as _},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, fchown},
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use tracing::warn;

/// Who may read a new file: its owner.
const OWNER_ONLY: u32 = 0o600;
/// How often a lock that another process holds is tried again.
const TRY_AGAIN: Duration = Duration::from_millis(20);

/// A file that nobody else writes while this lives, as far as they lock it, too.
///
/// The lock is on the folder, so it leaves nothing behind, and a process that is killed
/// gives it back.
#[derive(Debug)]
pub struct WholeFile {
    path: PathBuf,
    folder: File,
    draft: PathBuf,
}

/// Why a file was not written; what it held before is still there.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// The path has no last part that could be a file.
    #[error("is no path of a file")]
    Nameless,
    /// Another process writes to the same folder.
    #[error("is being written by another process: try again when it has ended")]
    Locked,
    /// The folder cannot be opened or locked.
    #[error("cannot be locked through its folder: {0}")]
    Folder(io::Error),
    /// The system refuses to write.
    #[error("cannot be written, and is as it was before: {0}")]
    Unwritten(io::Error),
}

impl WholeFile {
    /// Locks a file, which need not exist yet, and waits for others that hold it, but no
    /// longer than `patience`. It blocks the thread. A symbolic link is followed.
    ///
    /// # Errors
    /// [`WriteError`], without having changed anything.
    pub fn lock(path: &Path, patience: Duration) -> Result<Self, WriteError> {
        let path = match fs::canonicalize(path) {
            Ok(path) => path,
            Err(error) if error.kind() == io::ErrorKind::NotFound => end_of_links(path),
            Err(error) => return Err(WriteError::Folder(error)),
        };
        let name = path.file_name().ok_or(WriteError::Nameless)?;
        let parent = path
            .parent()
            .filter(|parent| !parent.as_os_str().is_empty());
        let parent = parent.unwrap_or(Path::new("."));
        let folder = File::open(parent).map_err(WriteError::Folder)?;
        let last = Instant::now() + patience;
        while let Err(error) = folder.try_lock() {
            match error {
                TryLockError::WouldBlock if Instant::now() < last => thread::sleep(TRY_AGAIN),
                TryLockError::WouldBlock => return Err(WriteError::Locked),
                TryLockError::Error(error) => return Err(WriteError::Folder(error)),
            }
        }
        let mut draft_name = OsString::from(".");
        draft_name.push(name);
        draft_name.push(".new");
        let draft = parent.join(draft_name);
        Ok(Self {
            path,
            folder,
            draft,
        })
    }

    /// Replaces what the file holds. It keeps its permissions, its group, and its owner where
    /// the system lets it; a new one is its owner's.
    ///
    /// # Errors
    /// [`WriteError::Unwritten`]; the file is then as it was before.
    pub fn write(&self, bytes: &[u8]) -> Result<(), WriteError> {
        let written = self.replace(bytes);
        if written.is_err() {
            // Whatever the reason was, half a draft is of use to nobody.
            let _ = fs::remove_file(&self.draft);
        }
        written.map_err(WriteError::Unwritten)
    }

    fn replace(&self, bytes: &[u8]) -> io::Result<()> {
        // One that a killed process left: the lock says that nobody writes it now.
        match fs::remove_file(&self.draft) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut draft = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(OWNER_ONLY)
            .open(&self.draft)?;
        if let Ok(metadata) = fs::metadata(&self.path) {
            // A service reads it through its group, and must still do so afterwards.
            let (owner, group) = (Some(metadata.uid()), Some(metadata.gid()));
            fchown(&draft, owner, group).or_else(|_| fchown(&draft, None, group))?;
            let mode = metadata.permissions().mode() & 0o777;
            draft.set_permissions(Permissions::from_mode(mode))?;
        }
        draft.write_all(bytes)?;
        draft.sync_all()?;
        fs::rename(&self.draft, &self.path)?;
        // The new name is on the disk only when the folder is. It is the file's by now, so
        // this is no failure: some file systems do not know how.
        if let Err(error) = self.folder.sync_all() {
            warn!(file = %self.path.display(), %error, "a written file may not survive a power cut");
        }
        Ok(())
    }
}

/// Where a file is to be that a path leads to, and that is not there: so its links, if it is
/// one, have an end.
fn end_of_links(path: &Path) -> PathBuf {
    let mut path = path.to_owned();
    while let Ok(target) = fs::read_link(&path) {
        path.pop();
        path.push(target);
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn a_file_is_replaced_whole_and_nothing_else_is_left() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        fs::write(folder.path().join(".file.new"), "left by a killed process").unwrap();
        WholeFile::lock(&path, Duration::ZERO)
            .unwrap()
            .write(b"one")
            .unwrap();
        assert_eq!(mode(&path), 0o600);
        fs::set_permissions(&path, Permissions::from_mode(0o640)).unwrap();
        WholeFile::lock(&path, Duration::ZERO)
            .unwrap()
            .write(b"two")
            .unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(mode(&path), 0o640);
        assert_eq!(names(folder.path()), ["file"]);
    }

    #[test]
    fn a_file_stays_its_groups() {
        const GROUP: u32 = 4711;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        fs::write(&path, "old").unwrap();
        // Only root may give a file to any group.
        if std::os::unix::fs::chown(&path, Some(GROUP), Some(GROUP)).is_err() {
            return;
        }
        WholeFile::lock(&path, Duration::ZERO)
            .unwrap()
            .write(b"new")
            .unwrap();
        let metadata = fs::metadata(&path).unwrap();
        assert_eq!((metadata.uid(), metadata.gid()), (GROUP, GROUP));
    }

    #[test]
    fn a_link_stays_a_link() {
        let folder = tempfile::tempdir().unwrap();
        let (link, file) = (folder.path().join("link"), folder.path().join("file"));
        fs::write(&file, "old").unwrap();
        std::os::unix::fs::symlink(&file, &link).unwrap();
        WholeFile::lock(&link, Duration::ZERO)
            .unwrap()
            .write(b"new")
            .unwrap();
        assert_eq!(fs::read(&file).unwrap(), b"new");
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    }

    #[test]
    fn a_link_to_a_file_that_is_not_there_yet_stays_a_link() {
        let folder = tempfile::tempdir().unwrap();
        let elsewhere = tempfile::tempdir().unwrap();
        let link = |name: &str, target: &Path| {
            let link = folder.path().join(name);
            std::os::unix::fs::symlink(target, &link).unwrap();
            link
        };
        let file = elsewhere.path().join("file");
        let second = link("second", &file);
        let first = link("first", Path::new("second"));
        WholeFile::lock(&first, Duration::ZERO)
            .unwrap()
            .write(b"new")
            .unwrap();
        assert_eq!(fs::read(&file).unwrap(), b"new");
        for link in [first, second] {
            assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        }
        assert_eq!(names(folder.path()), ["first", "second"]);
    }

    #[test]
    fn a_second_writer_is_refused_until_the_first_has_ended() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let first = WholeFile::lock(&path, Duration::ZERO).unwrap();
        let refused = WholeFile::lock(&path, Duration::ZERO).unwrap_err();
        assert!(matches!(refused, WriteError::Locked), "{refused}");
        drop(first);
        assert!(WholeFile::lock(&path, Duration::ZERO).is_ok());
    }

    #[test]
    fn a_write_that_fails_leaves_what_was_there() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        fs::write(&path, "old").unwrap();
        let file = WholeFile::lock(&path, Duration::ZERO).unwrap();
        // Where the draft belongs there is something that cannot be replaced.
        fs::create_dir(folder.path().join(".file.new")).unwrap();
        let error = file.write(b"new").unwrap_err();
        assert!(matches!(error, WriteError::Unwritten(_)), "{error}");
        assert_eq!(fs::read(&path).unwrap(), b"old");
    }
}
