//! What the process asks of the system: descriptors, its host's name, that its memory stays its own,
//! and how large its terminal is; and what it takes of it.

use std::{fs, io::stdout, sync::OnceLock, time::Duration};

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

/// The second of the wall clock, in Unix time. The system notes it with each of its ticks, so it
/// may come some milliseconds late; but looking there costs a tenth of asking the clock itself.
pub fn wall_second() -> u64 {
    let since = clock_gettime(ClockId::RealtimeCoarse);
    since.tv_sec.try_into().unwrap_or_default()
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

/// What the process takes of the machine, each as far as the system tells it.
#[derive(Clone, Copy, Debug)]
pub struct Usage {
    /// Processor time since it started.
    pub processor: Option<Duration>,
    /// Memory in use.
    pub resident_bytes: Option<u64>,
    /// Mapped addresses.
    pub virtual_bytes: Option<u64>,
    /// Open descriptors.
    pub open_descriptors: Option<u64>,
    /// How many may be open.
    pub max_descriptors: u64,
    /// When it started, in Unix time.
    pub started_at: Option<Duration>,
}

/// What the process takes of the machine, where the system tells it as Linux does (proc(5)).
/// Of `/proc` this needs only what is the process' own: under systemd there may be no more
/// (`ProcSubset=pid`).
pub fn usage() -> Usage {
    let stat = fs::read_to_string("/proc/self/stat").ok();
    let descriptors = fs::read_dir("/proc/self/fd").ok();
    // Without the one that reads the folder.
    let open = descriptors.and_then(|open| u64::try_from(open.count().saturating_sub(1)).ok());
    Usage::of(stat.as_deref(), open)
}

impl Usage {
    fn of(stat: Option<&str>, open_descriptors: Option<u64>) -> Self {
        /// Fields of `/proc/self/stat`, counted from the one after the name.
        const START_TIME: usize = 19;
        const VIRTUAL_SIZE: usize = 20;
        const RESIDENT_PAGES: usize = 21;
        // The name stands in parentheses, and may hold anything.
        let fields = stat.and_then(|stat| stat.rsplit_once(") "));
        let fields = fields.map_or("", |(_, fields)| fields);
        let fields: Vec<_> = fields.split_ascii_whitespace().collect();
        let number = |index: usize| fields.get(index)?.parse::<u64>().ok();
        let page_size = u64::try_from(page_size()).ok();
        let resident = number(RESIDENT_PAGES).zip(page_size);
        Self {
            processor: clock_gettime(ClockId::ProcessCPUTime).try_into().ok(),
            resident_bytes: resident.map(|(pages, size)| pages * size),
            virtual_bytes: number(VIRTUAL_SIZE),
            open_descriptors,
            max_descriptors: getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX),
            started_at: number(START_TIME).and_then(started_at),
        }
    }
}

/// When the process started, in Unix time, which was so many ticks after the system did.
fn started_at(ticks: u64) -> Option<Duration> {
    // Of one look: a clock that is set later is no restart.
    static STARTED_AT: OnceLock<Duration> = OnceLock::new();
    let since_boot = Duration::from_millis(ticks * 1000 / clock_ticks_per_second().max(1));
    let up = Duration::try_from(clock_gettime(ClockId::Boottime)).ok()?;
    let now = Duration::try_from(clock_gettime(ClockId::Realtime)).ok()?;
    let age = up.saturating_sub(since_boot);
    Some(*STARTED_AT.get_or_init(|| now.saturating_sub(age)))
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
        const BLOCK: usize = 64 * 1024 * 1024;
        let before = usage();
        let held: Vec<_> = (0..10).map(|_| fs::File::open("/proc").unwrap()).collect();
        let block = vec![1_u8; BLOCK];
        let after = usage();
        assert!(after.processor.unwrap() > before.processor.unwrap());
        let resident = after.resident_bytes.unwrap();
        // What other tests of this process hold comes and goes.
        assert!(resident > u64::try_from(BLOCK).unwrap());
        assert!(after.virtual_bytes.unwrap() >= resident);
        // Other tests of this process open and close some of their own.
        assert!((10..after.max_descriptors).contains(&after.open_descriptors.unwrap()));
        let started_at = after.started_at.unwrap();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let age = now.saturating_sub(started_at);
        assert!(
            started_at <= now && age < Duration::from_secs(3600),
            "{age:?}"
        );
        assert_eq!(before.started_at, Some(started_at), "to the nanosecond");
        drop((held, block));
    }

    #[test]
    fn what_one_file_does_not_say_is_all_that_is_unknown() {
        let own = usage();
        let descriptors = Usage::of(None, Some(7));
        assert_eq!(descriptors.open_descriptors, Some(7));
        assert_eq!(descriptors.max_descriptors, own.max_descriptors);
        assert!(descriptors.processor.is_some());
        assert_eq!(descriptors.resident_bytes, None);
        assert_eq!(descriptors.started_at, None);

        let stat = fs::read_to_string("/proc/self/stat").unwrap();
        let stat = Usage::of(Some(&stat), None);
        assert_eq!(stat.open_descriptors, None);
        assert!(stat.resident_bytes.is_some() && stat.virtual_bytes.is_some());
        assert_eq!(stat.started_at, own.started_at);
    }
}
