//! Counting what is executed and allocated, which no load on the machine changes.
//!
//! Callgrind writes down what was executed since the last time whenever [`mark`] is called, so
//! one run counts all parts, and what comes before and between them does not count.

use std::{
    collections::HashMap,
    env, fs,
    hint::black_box,
    path::Path,
    process::{Command, Stdio},
    sync::Arc,
};

use serde::{Deserialize, Serialize};

use crate::{
    part::{Meter, Part},
    site::{ORDINARY, Site},
};

/// Enough for calls to differ.
const CALLS: u32 = 4096;
/// The same calls come before those that count, so that what happens once does not.
const FIRST: usize = CALLS as usize;
/// The functions by which Rust allocates.
const ALLOCATES: [&str; 5] = [
    "malloc",
    "calloc",
    "realloc",
    "posix_memalign",
    "aligned_alloc",
];

/// What one call costs.
#[derive(Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Count {
    pub(crate) instructions: f64,
    pub(crate) allocations: f64,
}

impl Count {
    /// As exact as is of use.
    pub(crate) fn rounded(self) -> Self {
        Self {
            instructions: self.instructions.round(),
            allocations: (self.allocations * 100.0).round() / 100.0,
        }
    }
}

/// Counts every part, in a process of its own.
pub(crate) fn count() -> Vec<(Part, Count)> {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    let counted = Command::new("valgrind")
        .args(["--tool=callgrind", "--fair-sched=yes"])
        .arg("--dump-before=*::callgrind::mark")
        .arg(format!("--callgrind-out-file={}", out.display()))
        .arg(env::current_exe().unwrap())
        .arg("counted")
        .stdin(Stdio::null())
        .output()
        .expect("valgrind is needed");
    let said = String::from_utf8_lossy(&counted.stderr);
    assert!(counted.status.success(), "{said}");
    // The first dump is what came before the first mark; then parts and what is between them
    // take turns.
    let dumps = (2..).step_by(2);
    let counts = Part::ALL.into_iter().zip(dumps);
    counts
        .map(|(part, number)| {
            let dump = folder.path().join(format!("out.{number}"));
            (part, read(&dump))
        })
        .collect()
}

/// Does every part between two marks.
pub(crate) fn counted() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("audit");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let calls = usize::try_from(CALLS).unwrap();
        let plain = Arc::new(Site::new(ORDINARY, None).await);
        let recorded = Arc::new(Site::new(ORDINARY, Some(&file)).await);
        for part in Part::ALL {
            let site = if part == Part::Audited {
                &recorded
            } else {
                &plain
            };
            part.run(site, FIRST, &mut Nothing).await;
            part.run(site, calls, &mut Marks).await;
        }
        recorded.close().await;
    });
}

/// For what is done the first time.
struct Nothing;

impl Meter for Nothing {
    fn begin(&mut self) {}
    fn end(&mut self) {}
}

struct Marks;

impl Meter for Marks {
    fn begin(&mut self) {
        mark();
    }

    fn end(&mut self) {
        mark();
    }
}

/// What Callgrind knows by its name.
#[inline(never)]
fn mark() {
    black_box(());
}

/// Reads what was counted (Callgrind Format Specification).
fn read(dump: &Path) -> Count {
    let text = fs::read_to_string(dump).unwrap();
    let mut names = HashMap::new();
    let (mut instructions, mut allocations) = (None, 0_u32);
    let mut allocates = false;
    for line in text.lines() {
        if let Some(totals) = line.strip_prefix("totals: ") {
            instructions = totals
                .split(' ')
                .next()
                .and_then(|total| total.parse().ok());
        } else if let Some(name) = line.strip_prefix("fn=") {
            named(&mut names, name);
        } else if let Some(callee) = line.strip_prefix("cfn=") {
            allocates = ALLOCATES.contains(&named(&mut names, callee));
        } else if let Some(calls) = line.strip_prefix("calls=").filter(|_| allocates) {
            let calls = calls.split(' ').next().unwrap();
            allocations += calls.parse::<u32>().unwrap();
        }
    }
    let each = |all: u32| f64::from(all) / f64::from(CALLS);
    Count {
        instructions: each(instructions.expect("totals in the dump")),
        allocations: each(allocations),
    }
}

/// The function that `(7) name` names, or `(7)` when that was said before.
fn named<'a>(names: &mut HashMap<&'a str, &'a str>, said: &'a str) -> &'a str {
    match said.split_once(' ') {
        Some((number, name)) => {
            names.insert(number, name);
            name
        }
        None => names.get(said).copied().unwrap_or(said),
    }
}
