//! A server under load.

use std::{io, time::Duration};

use crate::{
    load::Load,
    site::{Process, processor_time},
    table::Table,
};

/// A server, and the connections to it.
pub(crate) struct Contender<'a> {
    pub(crate) name: String,
    process: &'a Process,
    load: Load,
}

/// Of so many calls a second the table has a line.
pub(crate) const THROUGHPUT: &str = "calls/s";

impl<'a> Contender<'a> {
    pub(crate) fn new(name: impl Into<String>, process: &'a Process, load: Load) -> Self {
        Self {
            name: name.into(),
            process,
            load,
        }
    }

    /// Takes all that it can give for this long.
    pub(crate) fn full(&mut self, streams: usize, time: Duration) -> io::Result<Full> {
        let before = self.cost();
        let done = self.load.full(streams, time)?;
        let after = self.cost();
        Ok(Full {
            calls: done.calls,
            took: done.took,
            processor: after.processor.saturating_sub(before.processor),
            switches: after.switches - before.switches,
            load: after.load.saturating_sub(before.load),
        })
    }

    /// Asks so many times a second, and returns how long the calls took, in the
    /// order of their answers.
    pub(crate) fn steady(&mut self, rate: f64, time: Duration) -> io::Result<Vec<Duration>> {
        self.load.steady(rate, time)
    }

    fn cost(&self) -> Cost {
        Cost {
            processor: self.process.processor_time(),
            switches: self.process.context_switches(),
            load: processor_time(std::process::id()),
        }
    }
}

/// What had been spent at a moment.
struct Cost {
    processor: Duration,
    switches: u64,
    load: Duration,
}

/// What a round of full load was like.
pub(crate) struct Full {
    calls: u64,
    took: Duration,
    processor: Duration,
    switches: u64,
    load: Duration,
}

impl Full {
    pub(crate) fn note(&self, column: usize, table: &mut Table) {
        #[allow(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
        let (calls, switches) = (self.calls as f64, self.switches as f64);
        let micros = self.processor.as_secs_f64() * 1e6;
        let busy = |time: Duration| 100.0 * time.div_duration_f64(self.took);
        table.note(THROUGHPUT, column, calls / self.took.as_secs_f64());
        table.note("CPU us/call", column, micros / calls);
        table.note("switches/call", column, switches / calls);
        table.note("server busy, %", column, busy(self.processor));
        table.note("load busy, %", column, busy(self.load));
    }
}
