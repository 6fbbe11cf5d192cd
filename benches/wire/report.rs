//! All that was measured, as text and as JSON.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use serde::Serialize;

use crate::{
    options::Options,
    site::{Cores, Machine},
    table::Table,
};

/// The tables, and what they were measured on.
#[derive(Serialize)]
pub(crate) struct Report {
    machine: Machine,
    pub(crate) options: Options,
    tables: Vec<Table>,
}

impl Report {
    pub(crate) fn new(machine: Machine, options: Options) -> Self {
        Self {
            machine,
            options,
            tables: Vec::new(),
        }
    }

    /// Says on what is measured.
    pub(crate) fn begin(&self, cores: &Cores) {
        let Machine {
            processor,
            cores: count,
            kernel,
            date,
            version,
        } = &self.machine;
        println!("token-broker {version}, {date}");
        println!("{processor}, {count} cores, Linux {kernel}");
        if cores.are_two() {
            println!("The servers have one core, and the load another.");
        } else {
            println!("Servers and load share one core: throughput is not the servers' alone.");
        }
    }

    /// Prints a table, and keeps it.
    pub(crate) fn add(&mut self, mut table: Table) {
        table.compare();
        print!("{table}");
        self.tables.push(table);
    }

    /// Writes the file, and returns where it is.
    pub(crate) fn write(&self) -> io::Result<PathBuf> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/bench");
        fs::create_dir_all(&folder)?;
        let file = folder.join("wire.json");
        fs::write(&file, serde_json::to_string_pretty(self)?)?;
        Ok(file)
    }
}
