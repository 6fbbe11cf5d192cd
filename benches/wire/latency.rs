//! How long calls take at half load.

use std::{io, time::Duration};

use crate::{contender::Contender, options::Options, table::Table};

/// Everybody is asked half as often as the first can be; and the others half as often as
/// they themselves can be.
pub(crate) fn measure(
    contenders: &mut [Contender<'_>],
    rates: &[f64],
    options: &Options,
) -> io::Result<Table> {
    let half: Vec<_> = rates.iter().map(|rate| rate / 2.0).collect();
    // Who is asked, and how often.
    let mut columns: Vec<_> = (0..half.len()).map(|who| (who, half[0])).collect();
    columns.extend(half.iter().copied().enumerate().skip(1));
    let names = columns
        .iter()
        .map(|(who, rate)| format!("{}, {rate:.0}/s", contenders[*who].name));
    let mut table = Table::new(
        "Half load, open loop: microseconds from when a call was due",
        names.collect::<Vec<_>>(),
    );
    for round in options.rounds() {
        for (column, (who, rate)) in columns.iter().enumerate() {
            let latencies = contenders[*who].steady(*rate, options.round())?;
            if round > 0 {
                for (what, part) in [("p50", 500), ("p99", 990), ("p99.9", 999)] {
                    let at = (latencies.len() * part / 1000).min(latencies.len() - 1);
                    table.note(what, column, micros(latencies[at]));
                }
            }
        }
    }
    Ok(table)
}

fn micros(latency: Duration) -> f64 {
    latency.as_secs_f64() * 1e6
}
