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
        Ok(Full {
            calls: done.calls,
            took: done.took,
            cost: self.cost().since(&before),
        })
    }

    /// Asks so many times a second.
    pub(crate) fn steady(&mut self, rate: f64, time: Duration) -> io::Result<Steady> {
        let before = self.cost();
        let latencies = self.load.steady(rate, time)?;
        Ok(Steady {
            latencies,
            cost: self.cost().since(&before),
        })
    }

    fn cost(&self) -> Cost {
        Cost {
            processor: self.process.processor_time(),
            switches: self.process.context_switches(),
            load: processor_time(std::process::id()),
        }
    }
}

/// What had been spent at a moment, or was between two.
struct Cost {
    processor: Duration,
    switches: u64,
    load: Duration,
}

impl Cost {
    fn since(&self, before: &Self) -> Self {
        Self {
            processor: self.processor.saturating_sub(before.processor),
            switches: self.switches - before.switches,
            load: self.load.saturating_sub(before.load),
        }
    }

    /// What each of so many calls cost the server.
    #[allow(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
    fn note(&self, calls: u64, column: usize, table: &mut Table) {
        let micros = self.processor.as_secs_f64() * 1e6;
        table.note("CPU us/call", column, micros / calls as f64);
        table.note("switches/call", column, self.switches as f64 / calls as f64);
    }
}

/// What a round of full load was like.
pub(crate) struct Full {
    calls: u64,
    took: Duration,
    cost: Cost,
}

impl Full {
    pub(crate) fn note(&self, column: usize, table: &mut Table) {
        #[allow(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
        let calls = self.calls as f64;
        let busy = |time: Duration| 100.0 * time.div_duration_f64(self.took);
        table.note(THROUGHPUT, column, calls / self.took.as_secs_f64());
        self.cost.note(self.calls, column, table);
        table.note("server busy, %", column, busy(self.cost.processor));
        table.note("load busy, %", column, busy(self.cost.load));
    }
}

/// What a round of a steady load was like.
pub(crate) struct Steady {
    /// How long the calls took, in the order of their answers.
    pub(crate) latencies: Vec<Duration>,
    cost: Cost,
}

impl Steady {
    pub(crate) fn note_cost(&self, column: usize, table: &mut Table) {
        self.cost.note(self.latencies.len() as u64, column, table);
    }
}
