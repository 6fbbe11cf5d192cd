//! What the process asks of the system: descriptors, that its memory stays its own, and how
//! large its terminal is.

use std::io::stdout;

use rustix::{
    process::{DumpableBehavior, Resource, Rlimit, getrlimit, set_dumpable_behavior, setrlimit},
    termios::tcgetwinsize,
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

/// The columns and rows of the terminal that standard output is, as far as it is one that
/// knows.
pub fn terminal_size() -> Option<(usize, usize)> {
    let size = tcgetwinsize(stdout()).ok()?;
    let (columns, rows) = (usize::from(size.ws_col), usize::from(size.ws_row));
    // So much is said by a line that nobody has told the size of.
    (columns > 0 && rows > 0).then_some((columns, rows))
}
