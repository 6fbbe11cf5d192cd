//! How long the parts of a call take.

use std::{
    fs,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::{
    part::{Meter, Part},
    site::{ORDINARY, Site, Size},
};

/// How many calls are timed together.
const BATCH: usize = 512;
/// How long one part is timed at least, and in how many batches.
const LONG_ENOUGH: Duration = Duration::from_millis(300);
const BATCHES: usize = 51;
/// The sizes of policies at which the core path is timed.
const SIZES: [Size; 5] = [
    size(1, 10),
    size(10, 10),
    size(25, 40),
    size(100, 100),
    size(250, 400),
];
const REPORT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/target/bench/core.json");

const fn size(destinations: usize, callers: usize) -> Size {
    Size {
        destinations,
        callers,
    }
}

/// Nanoseconds of one call.
struct Figure {
    /// Half of the batches took less.
    median: f64,
    /// A tenth of them took less, and another tenth more.
    spread: (f64, f64),
}

/// Times everything, prints it, and writes the report.
pub(crate) fn run() {
    let mut rows = Vec::new();
    println!(
        "{:>8}  {:<10} {:>9}   10 % to 90 %",
        "grants", "part", "ns/call"
    );
    for part in Part::ALL {
        rows.push(row(part, ORDINARY));
    }
    for size in SIZES {
        rows.push(row(Part::Core, size));
    }
    let report = Path::new(REPORT);
    fs::create_dir_all(report.parent().unwrap()).unwrap();
    let json = serde_json::to_string_pretty(&json!({ "unit": "ns/call", "figures": rows }));
    fs::write(report, json.unwrap()).unwrap();
}

fn row(part: Part, size: Size) -> Value {
    let Figure { median, spread } = time(part, size);
    let (name, grants, (low, high)) = (part.name(), size.grants(), spread);
    println!("{grants:>8}  {name:<10} {median:>9.0}   {low:.0} to {high:.0}");
    json!({
        "part": name, "destinations": size.destinations, "callers": size.callers,
        "grants": grants, "median": median, "p10": low, "p90": high,
    })
}

fn time(part: Part, of: Size) -> Figure {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("audit");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let site = Site::new(of, (part == Part::Audited).then_some(&*file)).await;
        let site = Arc::new(site);
        let mut watch = Stopwatch::default();
        part.run(&site, BATCH, &mut watch).await;
        watch.laps.clear();
        while watch.laps.len() < BATCHES || watch.total() < LONG_ENOUGH {
            part.run(&site, BATCH, &mut watch).await;
        }
        site.close().await;
        watch.figure()
    })
}

#[derive(Default)]
struct Stopwatch {
    began: Option<Instant>,
    laps: Vec<Duration>,
}

impl Meter for Stopwatch {
    fn begin(&mut self) {
        self.began = Some(Instant::now());
    }

    fn end(&mut self) {
        self.laps.extend(self.began.map(|began| began.elapsed()));
    }
}

impl Stopwatch {
    fn total(&self) -> Duration {
        self.laps.iter().sum()
    }

    fn figure(mut self) -> Figure {
        self.laps.sort_unstable();
        let calls = f64::from(u32::try_from(BATCH).unwrap());
        let at = |percent: usize| {
            let lap = self.laps[self.laps.len() * percent / 100];
            lap.as_secs_f64() * 1e9 / calls
        };
        Figure {
            median: at(50),
            spread: (at(10), at(90)),
        }
    }
}
