//! As many calls as there can be.

use std::io;

use crate::{
    contender::{Contender, THROUGHPUT},
    options::Options,
    table::Table,
};

/// What was found.
pub(crate) struct Throughput {
    pub(crate) table: Table,
    /// Calls a second, by contender.
    pub(crate) rates: Vec<f64>,
}

pub(crate) fn measure(
    contenders: &mut [Contender<'_>],
    options: &Options,
) -> io::Result<Throughput> {
    let title = format!(
        "Full load: {} connections with {} calls under way on each",
        options.connections, options.streams
    );
    let names = contenders.iter().map(|it| it.name.clone());
    let mut table = Table::new(title, names);
    for round in options.rounds() {
        for (column, contender) in contenders.iter_mut().enumerate() {
            let full = contender.full(options.streams, options.round())?;
            if round > 0 {
                full.note(column, &mut table);
            }
        }
    }
    Ok(Throughput {
        rates: table.medians(THROUGHPUT),
        table,
    })
}
