//! Whether a call costs more than it did.

use std::process::ExitCode;

use crate::{
    callgrind::{self, Count},
    counts::Kept,
    part::Part,
};

/// So many times more, or less, is told.
const TOLERANCE: f64 = 0.10;
/// Allocations are exact, but for those that many calls share.
const SHARED_ALLOCATION: f64 = 0.1;
/// How many calls share a record's batch is up to the threads: so much more, or less, is told.
const BATCHED_ALLOCATION: f64 = 0.5;
/// How many counts show how far they differ by themselves.
const TRIES: usize = 5;

/// Compares with what is kept, and fails above it.
pub(crate) fn check() -> ExitCode {
    let kept = Kept::read();
    let mut failed = false;
    head();
    for (part, count) in callgrind::count() {
        let Some(kept) = kept.of(part) else {
            println!("{} <- is not kept", row(part, count));
            failed = true;
            continue;
        };
        let verdict = Verdict::of(part, count, kept);
        failed |= verdict.fails();
        println!("{}{}", row(part, count), verdict.words(kept));
    }
    if failed {
        eprintln!(
            "a call costs more than benches/core/counts.json says; if it must, tests/speed/run --update"
        );
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

/// Keeps what is counted now.
pub(crate) fn update() {
    let counts = callgrind::count();
    head();
    for (part, count) in &counts {
        println!("{}", row(*part, *count));
    }
    Kept::write(&counts);
}

/// Counts several times, and shows how far the counts differ.
pub(crate) fn spread() {
    let mut tries = Vec::new();
    for _ in 0..TRIES {
        let counts = callgrind::count();
        head();
        for (part, count) in &counts {
            println!("{}", row(*part, *count));
        }
        tries.push(counts);
    }
    println!(
        "{:<10} {:>12} {:>12} {:>8}  allocations",
        "part", "least", "most", "spread"
    );
    for (nth, part) in Part::ALL.into_iter().enumerate() {
        let range = |figure: fn(&Count) -> f64| {
            let figures = tries.iter().map(|counts| figure(&counts[nth].1));
            let range = (f64::INFINITY, f64::NEG_INFINITY);
            figures.fold(range, |(least, most), one| (least.min(one), most.max(one)))
        };
        let (least, most) = range(|count| count.instructions);
        let (fewest, all) = range(|count| count.allocations);
        let spread = 100.0 * (most - least) / least;
        println!(
            "{:<10} {least:>12.1} {most:>12.1} {spread:>6.2} %  {fewest:.3} to {all:.3}",
            part.name()
        );
    }
}

fn head() {
    println!(
        "{:<10} {:>12} {:>12}",
        "per call", "instructions", "allocations"
    );
}

fn row(part: Part, count: Count) -> String {
    let Count {
        instructions,
        allocations,
    } = count;
    format!(
        "{:<10} {instructions:>12.0} {allocations:>12.2}",
        part.name()
    )
}

/// What one count is beside the kept one.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Same,
    MoreInstructions,
    MoreAllocations,
    Less,
}

impl Verdict {
    fn of(part: Part, count: Count, kept: Count) -> Self {
        let spread = match part {
            Part::Audited => BATCHED_ALLOCATION,
            _ => SHARED_ALLOCATION,
        };
        if count.allocations > kept.allocations + spread {
            Self::MoreAllocations
        } else if count.instructions > kept.instructions * (1.0 + TOLERANCE) {
            Self::MoreInstructions
        } else if count.instructions < kept.instructions * (1.0 - TOLERANCE)
            || count.allocations < kept.allocations - spread
        {
            Self::Less
        } else {
            Self::Same
        }
    }

    fn fails(self) -> bool {
        matches!(self, Self::MoreInstructions | Self::MoreAllocations)
    }

    fn words(self, kept: Count) -> String {
        let Count {
            instructions,
            allocations,
        } = kept;
        match self {
            Self::Same => String::new(),
            Self::MoreInstructions => {
                format!("  <- TOO MUCH: it was {instructions:.0} instructions")
            }
            Self::MoreAllocations => format!("  <- TOO MUCH: it was {allocations:.2} allocations"),
            Self::Less => format!(
                "  <- less than {instructions:.0} and {allocations:.2}: tests/speed/run --update keeps it so"
            ),
        }
    }
}
