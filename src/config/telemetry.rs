//! `[telemetry]`: what an operator sees.

use toml::de::DeValue;
use tracing::Level;

use super::{folder::Folder, reader::Section, suggestion::quoted, values};
use crate::telemetry::{Collector, InvalidCollector};

/// What is logged, and how.
#[derive(Clone, Debug, PartialEq)]
pub struct Telemetry {
    /// The least severe events that are logged.
    pub log_level: Level,
    /// How an event is written.
    pub log_format: LogFormat,
    /// Who gets traces, if anybody does.
    pub collector: Option<Collector>,
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
    pub(super) fn read(section: Section<'_>, folder: &Folder) -> Self {
        let log_level = section.or("log_level", Level::INFO, values::choice(&LEVELS));
        let log_format = section.or("log_format", LogFormat::Auto, values::choice(&FORMATS));
        let collector = read_collector(&section, folder);
        section.finish();
        Self {
            log_level,
            log_format,
            collector,
        }
    }
}

fn read_collector(section: &Section<'_>, folder: &Folder) -> Option<Collector> {
    let collector = section.optional("otlp_endpoint", |value| {
        Collector::parse(values::text(value)?).map_err(|invalid| advice(invalid).to_owned())
    });
    let ca = section.optional("otlp_ca", |value| folder.certificate_text(value));
    let ratio = section.or("trace_ratio", 1.0, ratio);
    if section.has("otlp_ca") && !section.has("otlp_endpoint") {
        section.report("otlp_ca", "is for traces: write otlp_endpoint = \"https://collector.example:4317\" as well, or remove it");
    }
    let collector = collector?;
    if collector.is_plain() && section.has("otlp_ca") {
        section.report(
            "otlp_ca",
            "is for TLS: begin otlp_endpoint with https://, or remove it",
        );
    }
    let collector = collector.getting(ratio);
    Some(match ca {
        Some(ca) => collector.trusting(ca),
        None => collector,
    })
}

fn advice(invalid: InvalidCollector) -> &'static str {
    match invalid {
        InvalidCollector::NotUrl => {
            "must be a URL with a host and a port, such as \"http://127.0.0.1:4317\" or \"https://collector.example:4317\""
        }
        InvalidCollector::UserInfo => {
            "must not hold a user or a password: secrets are never in this file"
        }
        InvalidCollector::MoreThanHost => "must end with the port: OTLP over gRPC has no path",
    }
}

/// A part of a whole.
fn ratio(value: &DeValue<'_>) -> Result<f64, String> {
    let text = match (value.as_float(), value.as_integer()) {
        (Some(float), _) => float.as_str().to_owned(),
        (None, Some(integer)) => integer.as_str().to_owned(),
        (None, None) => return Err("must be a number from 0.0 to 1.0".to_owned()),
    };
    let ratio = text.replace('_', "").parse().ok();
    let ratio = ratio.filter(|ratio| (0.0..=1.0).contains(ratio));
    ratio.ok_or_else(|| {
        format!(
            "cannot be {}: write a number from 0.0 to 1.0",
            quoted(&text)
        )
    })
}
