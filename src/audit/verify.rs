//! Reading audit files back: whether they hang together, and if not, where they break.
//!
//! That a file is whole shows that nothing in it was changed, removed or put in another
//! order since it was written, unless by somebody who computed all its hashes anew.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, Read as _},
    path::{Path, PathBuf},
};

use super::{
    chain::{Chain, Link, MAX_LINE, Record},
    kind::Kind,
};

/// Reads the files of one sink in the order in which they were written.
#[derive(Default)]
pub struct Verifier {
    chain: Chain,
    last: Option<Last>,
}

/// A file without a fault in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Whole {
    /// How many records are in it.
    pub records: u64,
    /// The number of the first.
    pub first: u64,
    /// The number of the last.
    pub last: u64,
    /// How many records are not in it because the sink failed; it says so itself.
    pub missed: u64,
    /// How it ends.
    pub end: End,
}

/// How a file ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// In order.
    Closed,
    /// After a whole record. The broker still writes it, or was killed.
    Open,
    /// In the midst of a record.
    Torn,
}

/// The first fault in a file.
#[derive(Debug, thiserror::Error)]
#[error("{}:{line}: {}{fault}", .file.display(), .seq.map(|seq| format!("seq {seq}: ")).unwrap_or_default())]
pub struct Broken {
    /// The file.
    pub file: PathBuf,
    /// The line, counted from one.
    pub line: u64,
    /// The number of the record, where there is one.
    pub seq: Option<u64>,
    /// What is wrong.
    pub fault: Fault,
}

/// What is wrong with a record.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// The file cannot be read.
    #[error("cannot be read: {0}")]
    Unreadable(io::Error),
    /// There is nothing in the file.
    #[error("is empty")]
    Empty,
    /// The line is no record.
    #[error("is not a record")]
    NoRecord,
    /// The line has no end.
    #[error("is torn: the line has no end")]
    Torn,
    /// Records before it are missing.
    #[error("records are missing before it: {expected} was expected")]
    Missing {
        /// The number that was expected.
        expected: u64,
    },
    /// It is older than the record before.
    #[error("is out of order, or there twice: {expected} was expected")]
    OutOfOrder {
        /// The number that was expected.
        expected: u64,
    },
    /// Its hash is not that of its text and the record before.
    #[error("was changed, or the record before it was: the hash differs")]
    Changed,
    /// The file does not begin as the last one ended.
    #[error("does not continue the previous file")]
    Discontinued,
    /// A file begins with something else than that it was opened.
    #[error("is not what a file begins with")]
    NotOpened,
    /// It was opened again without having been closed.
    #[error("was opened again without having been closed")]
    NotClosedBefore,
    /// Nothing but an opening follows a closing.
    #[error("follows the end of the file")]
    AfterClose,
    /// The last file was not closed.
    #[error("is not closed: the broker still writes the file, was killed, or the end was cut off")]
    NotClosed,
}

/// What is known of the file before.
struct Last {
    file: PathBuf,
    lines: u64,
    end: End,
}

/// A file that is being read.
struct Reading<'a> {
    file: &'a Path,
    line: u64,
    whole: Option<Whole>,
}

impl Verifier {
    /// Reads the next file.
    ///
    /// # Errors
    /// [`Broken`] with the first fault in it.
    pub fn read(&mut self, file: &Path) -> Result<Whole, Broken> {
        let opened = File::open(file).map_err(|error| Broken {
            file: file.to_owned(),
            line: 0,
            seq: None,
            fault: Fault::Unreadable(error),
        })?;
        self.read_lines(file, BufReader::with_capacity(MAX_LINE, opened))
    }

    fn read_lines(&mut self, file: &Path, mut lines: impl BufRead) -> Result<Whole, Broken> {
        let mut reading = Reading {
            file,
            line: 1,
            whole: None,
        };
        let mut line = Vec::new();
        let torn = loop {
            line.clear();
            let read = next_line(&mut lines, &mut line);
            let read = read.map_err(|error| reading.broken(None, Fault::Unreadable(error)))?;
            let Some(text) = line.strip_suffix(b"\n") else {
                if read > MAX_LINE {
                    return Err(reading.broken(None, Fault::NoRecord));
                }
                break read > 0;
            };
            self.take(&mut reading, text)?;
            reading.line += 1;
        };
        let Some(mut whole) = reading.whole.take() else {
            let fault = if torn { Fault::Torn } else { Fault::Empty };
            return Err(reading.broken(None, fault));
        };
        if torn {
            whole.end = End::Torn;
        }
        self.last = Some(Last {
            file: file.to_owned(),
            lines: reading.line - u64::from(!torn),
            end: whole.end,
        });
        Ok(whole)
    }

    /// Judges how the last file ends. A file that the broker still writes is not closed,
    /// but nothing in it is torn.
    ///
    /// # Errors
    /// [`Broken`] when it does not end as it should.
    pub fn finish(self, still_written: bool) -> Result<(), Broken> {
        let Some(Last { file, lines, end }) = self.last else {
            return Ok(());
        };
        let fault = match end {
            End::Torn => Fault::Torn,
            End::Open if !still_written => Fault::NotClosed,
            End::Open | End::Closed => return Ok(()),
        };
        Err(Broken {
            file,
            line: lines,
            seq: match end {
                End::Torn => None,
                _ => self.chain.0.map(|last| last.seq),
            },
            fault,
        })
    }

    /// Takes in one line.
    fn take(&mut self, reading: &mut Reading<'_>, line: &[u8]) -> Result<(), Broken> {
        let record = Record::parse(line).ok_or_else(|| reading.broken(None, Fault::NoRecord))?;
        let Link { seq, .. } = record.link;
        let broken = |reading: &Reading<'_>, fault| Err(reading.broken(Some(seq), fault));
        if reading.whole.is_none() {
            match Kind::of(&record) {
                Some(Kind::Open { previous, unclean }) => match &self.last {
                    // What was before the first file is its own word.
                    None => {
                        let before = |hash| seq.checked_sub(1).map(|seq| Link { seq, hash });
                        self.chain = Chain(previous.and_then(before));
                    }
                    Some(last) => {
                        let told = unclean || last.end != End::Torn;
                        if previous != self.chain.previous() || !told {
                            return broken(reading, Fault::Discontinued);
                        }
                    }
                },
                _ => return broken(reading, Fault::NotOpened),
            }
        }
        let expected = self.chain.0.map_or(1, |last| last.seq.saturating_add(1));
        if seq > expected {
            return broken(reading, Fault::Missing { expected });
        }
        if seq < expected {
            return broken(reading, Fault::OutOfOrder { expected });
        }
        if !record.follows(self.chain.previous()) {
            return broken(reading, Fault::Changed);
        }
        let Some(kind) = Kind::of(&record) else {
            return broken(reading, Fault::NoRecord);
        };
        let whole = reading.whole.get_or_insert(Whole {
            records: 0,
            first: seq,
            last: seq,
            missed: 0,
            end: End::Closed,
        });
        match (whole.end, kind) {
            (End::Closed, Kind::Open { previous, .. }) if previous == self.chain.previous() => {}
            (End::Closed, _) => return broken(reading, Fault::AfterClose),
            (_, Kind::Open { .. }) => return broken(reading, Fault::NotClosedBefore),
            (_, Kind::Gap { missed }) => whole.missed = whole.missed.saturating_add(missed),
            (_, Kind::Close | Kind::Event) => {}
        }
        whole.records += 1;
        whole.last = seq;
        whole.end = if kind == Kind::Close {
            End::Closed
        } else {
            End::Open
        };
        self.chain = Chain(Some(record.link));
        Ok(())
    }
}

impl Reading<'_> {
    fn broken(&self, seq: Option<u64>, fault: Fault) -> Broken {
        Broken {
            file: self.file.to_owned(),
            line: self.line,
            seq,
            fault,
        }
    }
}

/// Reads a line with its end, but no more of it than a record can have.
fn next_line(lines: &mut impl BufRead, line: &mut Vec<u8>) -> io::Result<usize> {
    lines.take(MAX_LINE as u64 + 1).read_until(b'\n', line)
}

#[cfg(test)]
mod fuzz;
#[cfg(test)]
mod tests;
