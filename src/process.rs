//! What the process asks of the system: descriptors, its host's name, that its memory stays its own,
//! and how large its terminal is; and what it takes of it.

use std::{fs, io::stdout, time::Duration};

use rustix::{
    param::{clock_ticks_per_second, page_size},
    process::{DumpableBehavior, Resource, Rlimit, getrlimit, set_dumpable_behavior, setrlimit},
    system::uname,
    termios::tcgetwinsize,
    time::{ClockId, clock_gettime},
};
use tracing::warn;

/// Descriptors that are not for callers: the ports, the upstreams, the files that are read.
const RESERVED_DESCRIPTORS: u64 = 32;

/// Forbids core dumps, and keeps other processes of the same user from looking in: both
/// would show every secret that the broker holds.
pub fn keep_memory_private() {
    let none = Rlimit {
        current: Some(0),
        maximum: Some(0),
    };
    if let Err(error) = setrlimit(Resource::Core, none) {
        warn!(%error, "core dumps cannot be forbidden");
    }
    if let Err(error) = set_dumpable_behavior(DumpableBehavior::NotDumpable) {
        warn!(%error, "other processes of this user can look into the memory");
    }
}

/// What the host is called. A container has a name of its own, which on Kubernetes is its pod's.
pub fn host_name() -> String {
    uname().nodename().to_string_lossy().into_owned()
}

/// Raises the limit of descriptors as far as the system lets it, and says how many
/// connections fit below it.
pub fn connections_that_fit(wanted: usize) -> usize {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        ..limit
    };
    // A limit that cannot be raised is one to live with.
    let limit = match setrlimit(Resource::Nofile, raised) {
        Ok(()) => raised,
        Err(_) => limit,
    };
    let Some(descriptors) = limit.current else {
        return wanted;
    };
    let fit = descriptors.saturating_sub(RESERVED_DESCRIPTORS).max(1);
    let fit = usize::try_from(fit).unwrap_or(usize::MAX);
    if fit < wanted {
        warn!(
            descriptors,
            wanted,
            connections = fit,
            "the limit of descriptors allows fewer connections than [server] max_connections"
        );
    }
    fit.min(wanted)
}

/// What the process takes of the machine.
#[derive(Clone, Copy, Debug)]
pub struct Usage {
    /// Processor time since it started.
    pub processor: Duration,
    /// Memory in use.
    pub resident_bytes: u64,
    /// Mapped addresses.
    pub virtual_bytes: u64,
    /// Open descriptors.
    pub open_descriptors: u64,
    /// How many may be open.
    pub max_descriptors: u64,
    /// When it started, in Unix time.
    pub started_at: Duration,
}

/// What the process takes of the machine, where the system tells it as Linux does (proc(5)).
pub fn usage() -> Option<Usage> {
    /// Fields of `/proc/self/stat`, counted from the one after the name.
    const START_TIME: usize = 19;
    const VIRTUAL_SIZE: usize = 20;
    const RESIDENT_PAGES: usize = 21;
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    // The name stands in parentheses, and may hold anything.
    let (_, fields) = stat.rsplit_once(") ")?;
    let fields: Vec<_> = fields.split_ascii_whitespace().collect();
    let number = |index: usize| fields.get(index)?.parse::<u64>().ok();
    let ticks = number(START_TIME)?;
    let since_boot = Duration::from_millis(ticks * 1000 / clock_ticks_per_second().max(1));
    let system = fs::read_to_string("/proc/stat").ok()?;
    let boot = system.lines().find_map(|line| line.strip_prefix("btime "));
    let boot = Duration::from_secs(boot?.trim().parse().ok()?);
    let processor = clock_gettime(ClockId::ProcessCPUTime);
    Some(Usage {
        processor: processor.try_into().ok()?,
        resident_bytes: number(RESIDENT_PAGES)? * u64::try_from(page_size()).ok()?,
        virtual_bytes: number(VIRTUAL_SIZE)?,
        // Without the one that reads the folder.
        open_descriptors: u64::try_from(fs::read_dir("/proc/self/fd").ok()?.count())
            .ok()?
            .saturating_sub(1),
        max_descriptors: getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX),
        started_at: boot + since_boot,
    })
}

/// The columns and rows of the terminal that standard output is, as far as it is one that
/// knows.
pub fn terminal_size() -> Option<(usize, usize)> {
    let size = tcgetwinsize(stdout()).ok()?;
    let (columns, rows) = (usize::from(size.ws_col), usize::from(size.ws_row));
    // So much is said by a line that nobody has told the size of.
    (columns > 0 && rows > 0).then_some((columns, rows))
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::time::{SystemTime, UNIX_EPOCH};

    use super::*;

    #[test]
    fn what_the_process_takes_is_what_the_system_says() {
        let before = usage().unwrap();
        let held: Vec<_> = (0..10).map(|_| fs::File::open("/proc").unwrap()).collect();
        let block = vec![1_u8; 32 * 1024 * 1024];
        let after = usage().unwrap();
        assert!(after.processor > before.processor);
        assert!(after.resident_bytes > before.resident_bytes + 16 * 1024 * 1024);
        assert!(after.virtual_bytes >= after.resident_bytes);
        // Other tests of this process open and close some of their own.
        assert!(after.open_descriptors >= 10 && after.open_descriptors < after.max_descriptors);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let age = now.saturating_sub(after.started_at);
        assert!(age < Duration::from_secs(3600), "{age:?}");
        drop((held, block));
    }
}
