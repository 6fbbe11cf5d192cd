//! A process that is measured.

use std::{
    fs,
    process::{Child, ChildStderr, ChildStdout, Command},
    time::Duration,
};

use super::Cores;

/// Processor time in `/proc` is counted in these on every Linux (proc(5), `USER_HZ`).
const TICK: Duration = Duration::from_millis(10);

/// A running process. Dropped, it is killed.
pub(crate) struct Process(Child);

impl Process {
    /// Starts it on the core of the servers.
    pub(crate) fn start(command: &mut Command, cores: &Cores) -> Self {
        Self(cores.spawn(command))
    }

    pub(crate) fn id(&self) -> u32 {
        self.0.id()
    }

    /// What it says, where a pipe was asked for.
    pub(crate) fn take_stdout(&mut self) -> ChildStdout {
        self.0.stdout.take().unwrap()
    }

    /// What it logs, where a pipe was asked for.
    pub(crate) fn take_stderr(&mut self) -> ChildStderr {
        self.0.stderr.take().unwrap()
    }

    /// The processor time that it has taken.
    pub(crate) fn processor_time(&self) -> Duration {
        processor_time(self.id())
    }

    /// The memory that it has in use, in bytes.
    pub(crate) fn resident_memory(&self) -> u64 {
        self.status("VmRSS") * 1024
    }

    /// The first number of a line of its status (proc(5)).
    pub(crate) fn status(&self, field: &str) -> u64 {
        number(&self.proc("status"), field)
    }

    /// How often its threads of this moment were taken off their core, by themselves or not.
    pub(crate) fn context_switches(&self) -> u64 {
        let of_thread = |status: &str| {
            number(status, "voluntary_ctxt_switches") + number(status, "nonvoluntary_ctxt_switches")
        };
        fs::read_dir(format!("/proc/{}/task", self.id()))
            .unwrap()
            // A thread may have ended since.
            .filter_map(|task| fs::read_to_string(task.ok()?.path().join("status")).ok())
            .map(|status| of_thread(&status))
            .sum()
    }

    /// The content of one of its files under `/proc`.
    pub(crate) fn proc(&self, name: &str) -> String {
        fs::read_to_string(format!("/proc/{}/{name}", self.id())).unwrap()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The processor time that a process has taken.
pub(crate) fn processor_time(process: u32) -> Duration {
    const USER_AND_SYSTEM: std::ops::Range<usize> = 11..13;
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap();
    // The name stands in parentheses, and may hold anything.
    let (_, fields) = stat.rsplit_once(") ").unwrap();
    let fields: Vec<_> = fields.split(' ').collect();
    fields[USER_AND_SYSTEM]
        .iter()
        .map(|ticks| TICK * ticks.parse::<u32>().unwrap())
        .sum()
}

fn number(status: &str, field: &str) -> u64 {
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    let number = line.unwrap().split_whitespace().next().unwrap();
    number.parse().unwrap()
}
