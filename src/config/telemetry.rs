//! `[telemetry]`: what an operator sees.

use tracing::Level;

use super::{reader::Section, values};

/// What is logged, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Telemetry {
    /// The least severe events that are logged.
    pub log_level: Level,
    /// How an event is written.
    pub log_format: LogFormat,
}

/// How an event is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people on a terminal, JSON elsewhere.
    Auto,
    /// For people.
    Pretty,
    /// One JSON object a line.
    Json,
}

const LEVELS: [(&str, Level); 5] = [
    ("error", Level::ERROR),
    ("warn", Level::WARN),
    ("info", Level::INFO),
    ("debug", Level::DEBUG),
    ("trace", Level::TRACE),
];

const FORMATS: [(&str, LogFormat); 3] = [
    ("auto", LogFormat::Auto),
    ("pretty", LogFormat::Pretty),
    ("json", LogFormat::Json),
];

impl Telemetry {
    pub(super) fn read(section: Section<'_>) -> Self {
        let log_level = section.or("log_level", Level::INFO, values::choice(&LEVELS));
        let log_format = section.or("log_format", LogFormat::Auto, values::choice(&FORMATS));
        section.finish();
        Self {
            log_level,
            log_format,
        }
    }
}
