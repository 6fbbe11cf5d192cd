//! Writes the records of one sink.

use std::{
    fs, io,
    path::{Path, PathBuf},
    thread::{self, JoinHandle},
};

use tracing::{error, warn};

use super::{
    chain::{Chain, OVERHEAD},
    event::Mark,
    file::{AuditFile, Ending, OpenError},
    queue::Records,
    stream::Stream,
};

/// Where records go.
pub(super) enum Target {
    Path(PathBuf),
    Stdout,
}

/// Writes the records of one sink.
pub(super) struct Writer {
    target: Target,
    max_file_size: u64,
    /// The file that was opened, and locked, when the broker started.
    first: Option<AuditFile>,
    output: Option<Output>,
    /// What is written already.
    chain: Chain,
    /// The file before was not closed in order, and no record says so yet.
    unclean: bool,
    /// Where lines are put together; kept, since it is as long for every batch.
    lines: Vec<u8>,
    /// Files that are being written to the disk.
    syncs: Vec<JoinHandle<()>>,
}

enum Output {
    File(Regular),
    Stream(Stream),
}

struct Regular {
    file: AuditFile,
    /// How long it is when there is nothing in it but that it was opened.
    bare: u64,
    /// When it is as long as this, the next one is begun.
    limit: u64,
}

impl Writer {
    /// A writer that has written nothing yet, to a file that may be open already.
    pub(super) fn new(target: Target, max_file_size: u64, first: Option<AuditFile>) -> Self {
        Self {
            target,
            max_file_size,
            first,
            output: None,
            chain: Chain::default(),
            unclean: false,
            lines: Vec::new(),
            syncs: Vec::new(),
        }
    }

    /// Writes records, after one that says how many were missed before them.
    pub(super) fn write(&mut self, missed: u64, records: &Records) -> io::Result<()> {
        if self.output.is_none() {
            self.open()?;
        }
        if let Some(Output::File(regular)) = &self.output
            && regular.is_full_with(records)
        {
            self.rotate()?;
        }
        if missed == 0 && records.is_empty() {
            return Ok(());
        }
        let gap = (missed > 0).then(|| Mark::Gap { missed }.body());
        self.append(gap.iter().map(String::as_str).chain(records.iter()))
    }

    /// Writes records if that takes no waiting. If it does, they have to come next, by
    /// [`Self::write`] and with nothing that was missed before them.
    pub(super) fn write_at_once(&mut self, records: &Records) -> bool {
        // Before the records are hashed, which is the most of the work.
        let output = self.output.as_mut();
        if !output.is_some_and(|output| output.is_worth_trying(records)) {
            return false;
        }
        let chain = self.seal(records.iter());
        let output = self.output.as_mut();
        let written = output.is_some_and(|output| output.append_at_once(&self.lines));
        if written {
            self.chain = chain;
        }
        written
    }

    /// Begins a new file, unless there is nothing in the last one. One that somebody has
    /// moved away is left where it is.
    pub(super) fn rotate(&mut self) -> io::Result<()> {
        let Some(output) = &self.output else {
            return self.open();
        };
        let Output::File(Regular { file, bare, .. }) = output else {
            return Ok(());
        };
        let in_place = file.is_in_place();
        if in_place && file.len() <= *bare {
            return Ok(());
        }
        let closed = self.append([&*close("rotation")]);
        let Some(Output::File(mut regular)) = self.output.take() else {
            return closed;
        };
        if !in_place {
            if let Err(error) = closed {
                // It may be its disk that is full, so the next one is not kept from beginning.
                warn!(%error, "cannot close an audit file that was moved away");
                self.unclean = true;
            }
            self.sync_later(regular.file);
            return self.open();
        }
        if let Err(error) = closed {
            self.output = Some(Output::File(regular));
            return Err(error);
        }
        if let Err(error) = regular.file.move_aside() {
            error!(%error, "cannot move the audit file aside: it goes on growing");
            regular.limit = regular.file.len().saturating_add(self.max_file_size);
            return self.begin(Output::File(regular));
        }
        self.sync_later(regular.file);
        self.open()
    }

    /// Ends in order, as far as it works.
    pub(super) fn close(&mut self, missed: u64) {
        if self.output.is_some() {
            let gap = (missed > 0).then(|| Mark::Gap { missed }.body());
            let close = close("stop");
            let marks = gap.iter().map(String::as_str).chain([&*close]);
            if let Err(error) = self.append(marks) {
                warn!(%error, "cannot close the audit sink in order");
            }
        }
        if let Some(Output::File(Regular { file, .. })) = &self.output {
            sync(file);
        }
        for sync in self.syncs.drain(..) {
            // A panic has been reported where it happened.
            let _ = sync.join();
        }
    }

    /// Opens the target, and writes that it is open.
    fn open(&mut self) -> io::Result<()> {
        let output = match &self.target {
            Target::Stdout => Output::Stream(Stream::stdout()?),
            Target::Path(path) if is_stream(path) => Output::Stream(Stream::open(path)?),
            Target::Path(path) => {
                let mut file = match self.first.take() {
                    Some(file) => file,
                    None => open_file(path)?,
                };
                match file.ending()? {
                    Ending::Empty => {}
                    Ending::Closed(last) => self.chain = Chain(Some(last)),
                    Ending::Unclean(last) => {
                        file.move_aside()?;
                        warn!("the last audit file was not closed in order: it was moved aside");
                        // Without a record in it, it is no part of any chain.
                        (self.chain, self.unclean) = (Chain(last.or(self.chain.0)), true);
                        file = open_file(path)?;
                    }
                }
                let (bare, limit) = (0, self.max_file_size);
                Output::File(Regular { file, bare, limit })
            }
        };
        self.begin(output)
    }

    /// Writes that an output is open. One that does not take this is not.
    fn begin(&mut self, output: Output) -> io::Result<()> {
        let previous = self.chain.previous().map(|hash| hash.to_string());
        let open = Mark::Open {
            previous: previous.as_deref(),
            unclean: self.unclean,
        };
        self.output = Some(output);
        let begun = self.append([&*open.body()]);
        if begun.is_ok()
            && let Some(Output::File(regular)) = &mut self.output
            // In a file that goes on there is more.
            && regular.file.len() == self.lines.len() as u64
        {
            regular.bare = regular.file.len();
        }
        match begun {
            Ok(()) => self.unclean = false,
            Err(_) => self.output = None,
        }
        begun
    }

    /// Appends records in one write. The chain goes on only if they are in it.
    fn append<'a>(&mut self, bodies: impl IntoIterator<Item = &'a str>) -> io::Result<()> {
        let chain = self.seal(bodies);
        let Some(output) = &mut self.output else {
            return Err(io::ErrorKind::NotConnected.into());
        };
        let appended = output.append(&self.lines);
        match appended {
            Ok(()) => self.chain = chain,
            // The reader of a pipe may be gone for good; the next one opens it anew.
            Err(_)
                if matches!(
                    (&self.target, &self.output),
                    (Target::Path(_), Some(Output::Stream(_)))
                ) =>
            {
                self.output = None;
            }
            Err(_) => {}
        }
        appended
    }

    /// Puts lines together, and says what the chain is once they are written.
    fn seal<'a>(&mut self, bodies: impl IntoIterator<Item = &'a str>) -> Chain {
        let mut chain = self.chain;
        self.lines.clear();
        for body in bodies {
            chain.seal(body, &mut self.lines);
        }
        chain
    }

    /// Writes a file that has ended to the disk, while the next one is written already: it
    /// may take long.
    fn sync_later(&mut self, file: AuditFile) {
        self.syncs.retain(|sync| !sync.is_finished());
        let thread = thread::Builder::new().name("audit-sync".to_owned());
        if let Ok(sync) = thread.spawn(move || sync(&file)) {
            self.syncs.push(sync);
        }
    }
}

impl Output {
    /// Whether these records may be appended at once.
    fn is_worth_trying(&mut self, records: &Records) -> bool {
        match self {
            Self::File(regular) => regular.file.is_worth_trying() && !regular.is_full_with(records),
            Self::Stream(stream) => stream.is_worth_trying(),
        }
    }

    /// Appends lines if that takes no waiting. If it does, they have to come next.
    fn append_at_once(&mut self, lines: &[u8]) -> bool {
        match self {
            Self::File(regular) => regular.file.append_at_once(lines),
            Self::Stream(stream) => stream.append_at_once(lines),
        }
    }

    fn append(&mut self, lines: &[u8]) -> io::Result<()> {
        match self {
            Self::File(regular) => regular.file.append(lines),
            Self::Stream(stream) => stream.append(lines),
        }
    }
}

impl Regular {
    /// Whether records belong into the next file.
    fn is_full_with(&self, records: &Records) -> bool {
        let longest = records.bytes() + OVERHEAD * records.len();
        let length = self.file.len();
        length + longest as u64 > self.limit && length > self.bare
    }
}

/// Whether there is something else than a regular file, or nothing.
pub(super) fn is_stream(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|metadata| !metadata.is_file())
}

fn open_file(path: &Path) -> io::Result<AuditFile> {
    AuditFile::open(path).map_err(|error| match error {
        OpenError::Locked => io::Error::new(io::ErrorKind::ResourceBusy, error),
        OpenError::Io(error) => error,
    })
}

fn close(reason: &str) -> String {
    Mark::Close { reason }.body()
}

fn sync(file: &AuditFile) {
    if let Err(error) = file.sync() {
        warn!(%error, "cannot write an audit file through to the disk");
    }
}
