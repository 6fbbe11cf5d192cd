//! A regular file of records, which only one broker writes at a time.

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, Write as _},
    os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use jiff::Timestamp;

use super::{
    at_once::AtOnce,
    chain::{Link, MAX_LINE, Record},
    kind::Kind,
};

/// So much of the end of a file is searched for its last record, in bytes.
const TAIL: u64 = 16 * MAX_LINE as u64;

/// A file of records that is open and locked.
pub(super) struct AuditFile {
    file: File,
    /// Where it is, with links followed.
    path: PathBuf,
    /// How long it is up to the end of its last whole record.
    whole: u64,
    /// There may be something behind that.
    torn: bool,
    at_once: AtOnce,
}

/// Why a file cannot be written.
#[derive(Debug, thiserror::Error)]
pub(super) enum OpenError {
    #[error("another broker writes it")]
    Locked,
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// How a file that is there already ends.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// There is nothing in it.
    Empty,
    /// It was closed in order, with this record.
    Closed(Link),
    /// It was not. This is its last whole record, if there is one.
    Unclean(Option<Link>),
}

impl AuditFile {
    /// Opens a file, or makes one that nobody else may read, and locks it.
    pub(super) fn open(path: &Path) -> Result<Self, OpenError> {
        let file = OpenOptions::new()
            .read(true)
            .append(true)
            .create(true)
            .mode(0o600)
            .open(path)?;
        file.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => OpenError::Locked,
            TryLockError::Error(error) => OpenError::Io(error),
        })?;
        let file = Self {
            whole: file.metadata()?.len(),
            file,
            path: fs::canonicalize(path)?,
            torn: false,
            at_once: AtOnce::default(),
        };
        // Whoever held the lock until now may have moved it away in the meantime.
        if file.is_in_place() {
            Ok(file)
        } else {
            Err(OpenError::Locked)
        }
    }

    /// How it ends.
    pub(super) fn ending(&self) -> io::Result<Ending> {
        if self.whole == 0 {
            return Ok(Ending::Empty);
        }
        let start = self.whole.saturating_sub(TAIL);
        let mut tail = vec![0; usize::try_from(self.whole - start).unwrap_or(usize::MAX)];
        self.file.read_exact_at(&mut tail, start)?;
        let mut lines = tail.rsplit(|byte| *byte == b'\n');
        // Behind the last end of a line there is nothing, or a torn line.
        let torn = lines.next().is_some_and(|rest| !rest.is_empty());
        let last = lines.next().and_then(Record::parse);
        Ok(match last {
            Some(record) if !torn && Kind::of(&record) == Some(Kind::Close) => {
                Ending::Closed(record.link)
            }
            Some(record) => Ending::Unclean(Some(record.link)),
            None => Ending::Unclean(lines.find_map(Record::parse).map(|record| record.link)),
        })
    }

    /// Whether the next lines may be appended at once.
    pub(super) fn is_worth_trying(&mut self) -> bool {
        self.at_once.is_worth_trying() && !self.torn
    }

    /// Appends lines if that takes no waiting. If it does, they have to come next: part of
    /// them may be in the file.
    pub(super) fn append_at_once(&mut self, lines: &[u8]) -> bool {
        let appended = self.at_once.write(&self.file, lines);
        if appended {
            self.whole += lines.len() as u64;
        }
        appended
    }

    /// Appends lines, all of them or none.
    pub(super) fn append(&mut self, lines: &[u8]) -> io::Result<()> {
        self.mend()?;
        if let Err(error) = self.file.write_all(self.at_once.rest(lines)) {
            self.torn = true;
            // Tried again before anything else is written, if it does not work now.
            let _ = self.mend();
            return Err(error);
        }
        self.whole += lines.len() as u64;
        Ok(())
    }

    /// Removes what a failed write left behind the last whole record.
    fn mend(&mut self) -> io::Result<()> {
        if self.torn {
            self.file.set_len(self.whole)?;
            self.torn = false;
        }
        Ok(())
    }

    /// How long it is, in bytes.
    pub(super) fn len(&self) -> u64 {
        self.whole
    }

    /// Whether it still is where it was opened.
    pub(super) fn is_in_place(&self) -> bool {
        let identity = |metadata: fs::Metadata| (metadata.dev(), metadata.ino());
        match (self.file.metadata(), fs::metadata(&self.path)) {
            (Ok(own), Ok(there)) => identity(own) == identity(there),
            _ => false,
        }
    }

    /// Gives it a name with the time in it, which no other file has.
    pub(super) fn move_aside(&self) -> io::Result<()> {
        let time = Timestamp::now().strftime("%Y%m%dT%H%M%S.%3fZ");
        let names = std::iter::once(String::new()).chain((1..).map(|n| format!("-{n}")));
        for suffix in names {
            let mut name = self.path.clone().into_os_string();
            name.push(format!(".{time}{suffix}"));
            let name = PathBuf::from(name);
            if fs::symlink_metadata(&name).is_err() {
                return fs::rename(&self.path, name);
            }
        }
        Ok(())
    }

    /// Sees to it that it survives a power cut, under its name.
    pub(super) fn sync(&self) -> io::Result<()> {
        self.file.sync_all()?;
        match self.path.parent() {
            Some(folder) => File::open(folder)?.sync_all(),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::{super::chain::Chain, *};

    fn lines(kinds: &[&str]) -> (Vec<u8>, Option<Link>) {
        let (mut chain, mut out) = (Chain::default(), Vec::new());
        for kind in kinds {
            chain.seal(&format!("\"kind\":\"{kind}\""), &mut out);
        }
        (out, chain.0)
    }

    #[test]
    fn the_end_of_a_file_says_whether_it_was_closed_in_order() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit");
        let (closed, last) = lines(&["open", "token", "close"]);
        let (unclosed, before) = lines(&["open", "token"]);
        let torn = closed[..closed.len() - 1].to_vec();
        let zeros = [&*unclosed, &[0; 300], b"\n\n"].concat();
        for (content, expected) in [
            (Vec::new(), Ending::Empty),
            (closed, Ending::Closed(last.unwrap())),
            (torn, Ending::Unclean(before)),
            (unclosed, Ending::Unclean(before)),
            (zeros, Ending::Unclean(before)),
            (b"something else\n".to_vec(), Ending::Unclean(None)),
            (vec![b'x'; 2 * 1024 * 1024], Ending::Unclean(None)),
        ] {
            fs::write(&path, content).unwrap();
            assert_eq!(AuditFile::open(&path).unwrap().ending().unwrap(), expected);
        }
    }

    #[test]
    fn a_new_file_is_its_owners_and_only_one_writes_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit");
        let first = AuditFile::open(&path).unwrap();
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert!(matches!(AuditFile::open(&path), Err(OpenError::Locked)));
        drop(first);
        assert!(AuditFile::open(&path).is_ok());
    }

    #[test]
    fn files_that_are_moved_aside_never_replace_one_another() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit");
        for n in 1..=20 {
            let file = AuditFile::open(&path).unwrap();
            assert!(file.is_in_place());
            file.move_aside().unwrap();
            assert!(!file.is_in_place());
            assert_eq!(fs::read_dir(folder.path()).unwrap().count(), n);
        }
    }

    #[test]
    fn a_link_stays_a_link() {
        let folder = tempfile::tempdir().unwrap();
        let (path, link) = (folder.path().join("audit"), folder.path().join("link"));
        fs::write(&path, "").unwrap();
        std::os::unix::fs::symlink(&path, &link).unwrap();
        AuditFile::open(&link).unwrap().move_aside().unwrap();
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert!(!path.exists());
    }
}
