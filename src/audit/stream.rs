//! Standard output, a pipe or a device: what takes records and keeps nothing.

use std::{
    fs::{File, OpenOptions},
    io::{self, ErrorKind, Write as _},
    os::fd::AsFd as _,
    path::Path,
    thread,
    time::Duration,
};

use super::at_once::AtOnce;

/// How long to wait for a reader where the system does not.
const WAIT_FOR_READER: Duration = Duration::from_millis(5);

/// Something that takes records and keeps nothing.
pub(super) struct Stream {
    file: File,
    /// The last line was not written to its end.
    torn: bool,
    at_once: AtOnce,
}

impl Stream {
    /// Opens a pipe or a device. A pipe is waited for until somebody reads it.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().write(true).open(path)?;
        Ok(Self::new(file))
    }

    /// Standard output, past its buffer.
    pub(super) fn stdout() -> io::Result<Self> {
        let file = io::stdout().as_fd().try_clone_to_owned()?.into();
        Ok(Self::new(file))
    }

    fn new(file: File) -> Self {
        Self {
            file,
            torn: false,
            at_once: AtOnce::default(),
        }
    }

    /// Whether the next lines may be sent at once.
    pub(super) fn is_worth_trying(&mut self) -> bool {
        self.at_once.is_worth_trying() && !self.torn
    }

    /// Sends lines if that takes no waiting. If it does, they have to come next: part of
    /// them may be sent.
    pub(super) fn append_at_once(&mut self, lines: &[u8]) -> bool {
        self.at_once.write(&self.file, lines)
    }

    /// Sends lines. After an error some of them may be sent.
    pub(super) fn append(&mut self, lines: &[u8]) -> io::Result<()> {
        if self.torn {
            // What comes next is not to be taken for the rest of the torn line.
            self.send(b"\n")?;
        }
        self.torn = true;
        let rest = self.at_once.rest(lines);
        self.send(rest)?;
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

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::{io::Read as _, os::fd::OwnedFd};

    use super::*;

    #[test]
    fn what_is_sent_half_at_once_comes_whole_and_once() {
        let (mut reader, writer) = io::pipe().unwrap();
        let mut stream = Stream::new(OwnedFd::from(writer).into());
        // More than a pipe holds.
        let lines = "a line\n".repeat(300_000);
        assert!(!stream.append_at_once(lines.as_bytes()));
        let read = thread::spawn(move || {
            let mut text = String::new();
            reader.read_to_string(&mut text).map(|_| text)
        });
        stream.append(lines.as_bytes()).unwrap();
        stream.append(b"last\n").unwrap();
        drop(stream);
        let read = read.join().unwrap().unwrap();
        assert!(read == lines + "last\n");
    }
}
