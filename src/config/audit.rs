//! `[audit]`: what is recorded where.

use std::{ops::RangeInclusive, time::Duration};

use super::{folder::Folder, reader::Section, values};
use crate::audit::{DEFAULT_STALL_TIMEOUT, OnFailure, Settings};

const DEFAULT_MAX_FILE_SIZE: u64 = 100 * values::MIB;

// A file of less would hold hardly a record; more is what one disk takes.
const FILE_SIZES: RangeInclusive<u64> = 16 * values::KIB..=1024 * values::GIB;

// Callers wait for no longer than their deadline anyway.
const STALL_TIMEOUTS: RangeInclusive<Duration> =
    Duration::from_millis(10)..=Duration::from_secs(30);

const ON_FAILURE: [(&str, OnFailure); 2] =
    [("refuse", OnFailure::Refuse), ("allow", OnFailure::Allow)];

pub(super) fn read(section: Section<'_>, folder: &Folder) -> Settings {
    let file = section.optional("file", |value| folder.written(value));
    let stdout = section.or("stdout", false, values::boolean);
    let size = values::size(FILE_SIZES);
    let max_file_size = section.or("max_file_size", DEFAULT_MAX_FILE_SIZE, size);
    let stall_timeout = section.or(
        "stall_timeout",
        DEFAULT_STALL_TIMEOUT,
        values::duration(STALL_TIMEOUTS),
    );
    let on_failure = section.or("on_failure", OnFailure::Refuse, values::choice(&ON_FAILURE));
    section.finish();
    Settings {
        file,
        stdout,
        max_file_size,
        stall_timeout,
        on_failure,
    }
}
