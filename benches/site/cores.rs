//! Which core works for whom.

use std::process::{Child, Command};

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// Every server has the one core, and whoever puts load on it the other. Where there is one
/// core, all share it.
pub(crate) struct Cores(Option<Pair>);

struct Pair {
    servers: usize,
    load: usize,
}

impl Cores {
    /// Puts the calling thread, and what it starts from now on, on the core of the load.
    pub(crate) fn divide() -> Self {
        let allowed = sched_getaffinity(None).unwrap();
        let mut allowed = (0..CpuSet::MAX_CPU).filter(|core| allowed.is_set(*core));
        let pair = allowed.next().zip(allowed.next());
        let cores = Self(pair.map(|(servers, load)| Pair { servers, load }));
        if let Some(pair) = &cores.0 {
            stay_on(pair.load);
        }
        cores
    }

    /// Whether servers and load have a core each.
    pub(crate) fn are_two(&self) -> bool {
        self.0.is_some()
    }

    /// Starts a server on its core. It sees one core only, and starts as many threads.
    pub(super) fn spawn(&self, command: &mut Command) -> Child {
        if let Some(pair) = &self.0 {
            stay_on(pair.servers);
        }
        let child = command.spawn();
        if let Some(pair) = &self.0 {
            stay_on(pair.load);
        }
        child.unwrap()
    }
}

fn stay_on(core: usize) {
    let mut only = CpuSet::new();
    only.set(core);
    sched_setaffinity(None, &only).unwrap();
}
