//! Reads files that ought to be small, and only those.

use std::{
    fs::{self, File, Metadata},
    io::{self, Read},
    path::Path,
};

use zeroize::Zeroizing;

/// Why a file was not read. It never repeats what the file holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FileError {
    /// There is no such file, or a symbolic link leads nowhere.
    #[error("does not exist")]
    Missing,
    /// The system refuses to read it.
    #[error("cannot be read: {0}")]
    Unreadable(io::ErrorKind),
    /// It is a folder, a pipe, a socket or a device.
    #[error("is not a regular file")]
    NotRegular,
    /// It is larger than such a file ever is.
    #[error("is larger than {} KiB", .limit / 1024)]
    TooLarge {
        /// The largest allowed size in bytes.
        limit: u64,
    },
}

/// Reads a regular file of at most `limit` bytes, following symbolic links, because
/// Kubernetes mounts every file as one. The bytes are wiped when they are dropped.
///
/// # Errors
/// [`FileError`] for anything else, without waiting for a pipe and without reading more
/// than the limit.
pub fn read(path: &Path, limit: u64) -> Result<Zeroizing<Vec<u8>>, FileError> {
    // Looked at before it is opened, because opening a pipe waits for its writer.
    check(&fs::metadata(path)?, limit)?;
    let file = File::open(path)?;
    let metadata = file.metadata()?;
    check(&metadata, limit)?;
    // Room for all of it and a little more: a vector that grows leaves copies behind.
    let room = usize::try_from(metadata.len()).unwrap_or(0) + 64;
    let mut bytes = Zeroizing::new(Vec::with_capacity(room));
    // Files such as those below /proc are longer than they say.
    file.take(limit + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit {
        return Err(FileError::TooLarge { limit });
    }
    Ok(bytes)
}

impl From<io::Error> for FileError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::NotFound => Self::Missing,
            kind => Self::Unreadable(kind),
        }
    }
}

fn check(metadata: &Metadata, limit: u64) -> Result<(), FileError> {
    if !metadata.is_file() {
        return Err(FileError::NotRegular);
    }
    if metadata.len() > limit {
        return Err(FileError::TooLarge { limit });
    }
    Ok(())
}
