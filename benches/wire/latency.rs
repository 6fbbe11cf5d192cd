//! How long calls take at half load.

use std::{io, time::Duration};

use crate::{
    contender::Contender,
    options::Options,
    table::{Spread, Table},
};

/// A machine that stops for milliseconds, as virtual ones do, decides about the slowest hundredth
/// of a longer time. What a server does to its calls is in each of these, and the median of all
/// of them is told beside the whole.
const WINDOW: Duration = Duration::from_millis(100);

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
            let mut steady = contenders[*who].steady(*rate, options.round())?;
            if round > 0 {
                steady.note_cost(column, &mut table);
                let latencies = &mut steady.latencies;
                // The windows first, since they are in the order of the answers.
                let windows = latencies.chunks_mut(calls_in(WINDOW, *rate));
                let each = windows.map(|window| {
                    window.sort_unstable();
                    micros(percentile(window, 990))
                });
                let each: Vec<_> = each.collect();
                latencies.sort_unstable();
                for (what, part) in [("p50", 500), ("p99", 990), ("p99.9", 999)] {
                    table.note(what, column, micros(percentile(latencies, part)));
                }
                table.note("p99 of 0.1 s", column, Spread::of(&each).median);
            }
        }
    }
    Ok(table)
}

fn calls_in(time: Duration, rate: f64) -> usize {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "some thousands"
    )]
    let calls = (rate * time.as_secs_f64()) as usize;
    calls.max(1)
}

/// What so many thousandths of the calls stay below, the fastest of which come first.
fn percentile(sorted: &[Duration], thousandths: usize) -> Duration {
    let at = (sorted.len() * thousandths / 1000).min(sorted.len() - 1);
    sorted[at]
}

fn micros(latency: Duration) -> f64 {
    latency.as_secs_f64() * 1e6
}
