//! The figures, beside what they are to be.

use std::{fs, path::Path};

use serde::Serialize;

use crate::site::Machine;

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/target/bench/footprint.json");

/// Everything that was measured.
#[derive(Serialize)]
pub(crate) struct Report {
    machine: Machine,
    figures: Vec<Figure>,
}

#[derive(Serialize)]
struct Figure {
    what: String,
    unit: Unit,
    value: f64,
    target: Option<Target>,
}

/// What a figure is to be at most.
#[derive(Clone, Copy, Serialize)]
pub(crate) struct Target {
    pub(crate) at_most: f64,
    pub(crate) aim: f64,
}

/// What a figure counts.
#[derive(Clone, Copy, Serialize)]
pub(crate) enum Unit {
    #[serde(rename = "MB")]
    Megabytes,
    #[serde(rename = "KiB")]
    Kibibytes,
    #[serde(rename = "bytes")]
    Bytes,
    #[serde(rename = "ms")]
    Milliseconds,
    #[serde(rename = "us")]
    Microseconds,
}

impl Unit {
    fn shown(self) -> &'static str {
        match self {
            Self::Megabytes => "MB",
            Self::Kibibytes => "KiB",
            Self::Bytes => "bytes",
            Self::Milliseconds => "ms",
            Self::Microseconds => "us",
        }
    }
}

impl Report {
    pub(crate) fn new(machine: Machine) -> Self {
        println!(
            "{:<58} {:>16} {:>10} {:>8}",
            "", "measured", "at most", "aim"
        );
        Self {
            machine,
            figures: Vec::new(),
        }
    }

    /// Shows a figure, and keeps it.
    pub(crate) fn add(&mut self, what: impl Into<String>, value: f64, unit: Unit) {
        self.figure(what.into(), value, unit, None);
    }

    /// The same for a figure that has a target.
    pub(crate) fn compare(
        &mut self,
        what: impl Into<String>,
        value: f64,
        unit: Unit,
        target: Target,
    ) {
        self.figure(what.into(), value, unit, Some(target));
    }

    fn figure(&mut self, what: String, value: f64, unit: Unit, target: Option<Target>) {
        let shown = unit.shown();
        print!("{what:<58} {value:>10.1} {shown:<5}");
        match target {
            Some(Target { at_most, aim }) => println!(" {at_most:>10} {aim:>8}"),
            None => println!(),
        }
        self.figures.push(Figure {
            what,
            unit,
            value,
            target,
        });
    }

    /// Writes all figures down.
    pub(crate) fn write(&self) {
        let file = Path::new(FILE);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, serde_json::to_string_pretty(self).unwrap()).unwrap();
    }
}

/// A number that is small enough to be shown.
pub(crate) fn number(count: u64) -> f64 {
    // Exact up to 2^53.
    #[expect(clippy::cast_precision_loss, reason = "no process has so many bytes")]
    let number = count as f64;
    number
}
