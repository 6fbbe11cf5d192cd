//! Standard output, a pipe or a device: what takes records and keeps nothing.

use std::{
    fs::{File, OpenOptions},
    io::{self, ErrorKind, Write as _},
    os::fd::AsFd as _,
    path::Path,
    thread,
    time::Duration,
};

/// How long to wait for a reader where the system does not.
const WAIT_FOR_READER: Duration = Duration::from_millis(5);

/// Something that takes records and keeps nothing.
pub(super) struct Stream {
    file: File,
    /// The last line was not written to its end.
    torn: bool,
}

impl Stream {
    /// Opens a pipe or a device. A pipe is waited for until somebody reads it.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().write(true).open(path)?;
        Ok(Self { file, torn: false })
    }

    /// Standard output, past its buffer.
    pub(super) fn stdout() -> io::Result<Self> {
        let file = io::stdout().as_fd().try_clone_to_owned()?.into();
        Ok(Self { file, torn: false })
    }

    /// Sends lines. After an error some of them may be sent.
    pub(super) fn append(&mut self, lines: &[u8]) -> io::Result<()> {
        if self.torn {
            // What comes next is not to be taken for the rest of the torn line.
            self.send(b"\n")?;
        }
        self.torn = true;
        self.send(lines)?;
        self.torn = false;
        Ok(())
    }

    fn send(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            match self.file.write(bytes) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(sent) => bytes = bytes.get(sent..).unwrap_or_default(),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                // Whoever shares our standard output may have it so that it never waits.
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    thread::sleep(WAIT_FOR_READER);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}
