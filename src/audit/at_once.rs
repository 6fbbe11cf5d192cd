//! Writing what the system takes without waiting.
//!
//! Whoever serves calls must never wait for a disk or for the reader of a pipe, so records
//! are a thread's to write. But to wake it costs more than to write. Where the system can
//! say that it would have to wait (`RWF_NOWAIT`, pwritev2(2)), it is asked first. The pipe
//! of standard output and files on XFS can say so, as of Linux 6.18; named pipes and files
//! on ext4, tmpfs and overlay cannot, and those on btrfs say it whenever they grow.

use std::{fs::File, io, mem};

/// After so many refusals in a row, it is not worth asking for each batch.
const PATIENCE: u32 = 64;
/// So many batches are left to the thread between two that are tried, then.
const PAUSE: u32 = 1024;

/// Whether a file takes what is written at once, and how far that went.
#[derive(Default)]
pub(super) struct AtOnce {
    /// How often in a row it did not.
    refusals: u32,
    /// So many batches are not tried.
    pause: u32,
    /// So much of what comes next is written already, in bytes.
    begun: usize,
}

impl AtOnce {
    /// Whether it is worth trying with the next batch: asked once for each.
    pub(super) fn is_worth_trying(&mut self) -> bool {
        let is_paused = self.pause > 0;
        self.pause = self.pause.saturating_sub(1);
        !is_paused
    }

    /// Writes what takes no waiting, and says whether that was all. If it was not, the same
    /// bytes have to come next, and [`Self::rest`] says which of them are left.
    pub(super) fn write(&mut self, file: &File, bytes: &[u8]) -> bool {
        // An error comes again when the thread writes, which deals with it.
        self.begun = without_waiting(file, bytes).unwrap_or(0);
        if self.begun == bytes.len() {
            *self = Self::default();
            return true;
        }
        self.refusals = (self.refusals + 1).min(PATIENCE);
        if self.refusals == PATIENCE {
            self.pause = PAUSE;
        }
        false
    }

    /// What is left to write of bytes that were begun, or all of others.
    pub(super) fn rest<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        let begun = mem::take(&mut self.begun);
        bytes.get(begun..).unwrap_or_default()
    }
}

#[cfg(target_os = "linux")]
fn without_waiting(file: &File, bytes: &[u8]) -> io::Result<usize> {
    use std::io::IoSlice;

    use rustix::io::{ReadWriteFlags, pwritev2};

    /// Where the file is, or at its end if it was opened for that.
    const HERE: u64 = u64::MAX;
    let bytes = [IoSlice::new(bytes)];
    Ok(pwritev2(file, &bytes, HERE, ReadWriteFlags::NOWAIT)?)
}

#[cfg(not(target_os = "linux"))]
fn without_waiting(_: &File, _: &[u8]) -> io::Result<usize> {
    Err(io::ErrorKind::Unsupported.into())
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::{
        io::{Read as _, Write as _},
        os::fd::OwnedFd,
    };

    use super::*;

    /// A pipe and how much it holds.
    fn pipe() -> io::Result<(File, File, usize)> {
        let (reader, writer) = io::pipe()?;
        let [mut reader, writer] = [OwnedFd::from(reader), writer.into()].map(File::from);
        let mut held = 0;
        while let Ok(written) = without_waiting(&writer, &[b'x'; 4096]) {
            held += written;
        }
        reader.read_exact(&mut vec![0; held])?;
        Ok((reader, writer, held))
    }

    #[test]
    fn what_a_pipe_has_no_room_for_is_left_and_nothing_is_written_twice() {
        let (mut reader, mut writer, held) = pipe().unwrap();
        let mut at_once = AtOnce::default();
        let lines: Vec<u8> = (b'a'..=b'z').cycle().take(held + 1000).collect();
        assert!(!at_once.write(&writer, &lines));
        let rest = at_once.rest(&lines).to_vec();
        assert!(rest.len() >= 1000 && rest.len() < lines.len());
        let mut read = vec![0; lines.len() - rest.len()];
        reader.read_exact(&mut read).unwrap();
        writer.write_all(&rest).unwrap();
        read.resize(lines.len(), 0);
        reader
            .read_exact(&mut read[lines.len() - rest.len()..])
            .unwrap();
        assert!(read == lines);
        // What comes next was not begun.
        assert_eq!(at_once.rest(b"next"), b"next");
        assert!(at_once.write(&writer, b"next"));
        assert_eq!(at_once.rest(b"more"), b"more");
    }

    #[test]
    fn a_file_that_refuses_again_and_again_is_asked_now_and_then() {
        let (mut reader, writer, held) = pipe().unwrap();
        (&writer).write_all(&vec![b'x'; held]).unwrap();
        let mut at_once = AtOnce::default();
        for _ in 0..PATIENCE {
            assert!(at_once.is_worth_trying() && !at_once.write(&writer, b"a"));
        }
        reader.read_exact(&mut vec![0; held]).unwrap();
        // There is room for it now, but nobody asks.
        let tries = (1..2 * PAUSE).find(|_| at_once.is_worth_trying());
        assert_eq!(tries, Some(PAUSE + 1));
        assert!(at_once.write(&writer, b"a"));
        assert!(at_once.is_worth_trying());
    }

    #[test]
    fn an_error_is_left_to_whoever_writes_next() {
        let full = File::options().write(true).open("/dev/full").unwrap();
        let mut at_once = AtOnce::default();
        assert!(!at_once.write(&full, b"a"));
        assert_eq!(at_once.rest(b"a"), b"a");
    }
}
