//! What the process says at error level.

use std::{
    io,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
};

use tracing::level_filters::LevelFilter;
use tracing_subscriber::fmt::MakeWriter;

/// There is one place in a process that events go to; the tests tell theirs by the files
/// that they name.
static EVENTS: OnceLock<Events> = OnceLock::new();

/// The events since somebody first listened.
#[derive(Clone, Default)]
pub(crate) struct Events(Arc<Mutex<Vec<u8>>>);

impl Events {
    pub(crate) fn listen() -> &'static Self {
        EVENTS.get_or_init(|| {
            let events = Self::default();
            tracing_subscriber::fmt()
                .with_max_level(LevelFilter::ERROR)
                .with_writer(events.clone())
                .with_ansi(false)
                .init();
            events
        })
    }

    /// The events in which all of these occur.
    pub(crate) fn with(&self, texts: &[&str]) -> Vec<String> {
        String::from_utf8_lossy(&self.bytes())
            .lines()
            .filter(|line| texts.iter().all(|text| line.contains(text)))
            .map(str::to_owned)
            .collect()
    }

    fn bytes(&self) -> MutexGuard<'_, Vec<u8>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl io::Write for Events {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.bytes().extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Events {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}
