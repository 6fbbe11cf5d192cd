//! The text format 0.0.4 of Prometheus, made from `OpenMetrics`, the only one that the client
//! writes. Both have the same samples; they differ in the lines about them.

use std::fmt::Write as _;

/// The same samples in the older format.
///
/// What it does not have is left out: units, exemplars and the mark of the end. A counter goes
/// by the name of its samples, and an info is a gauge.
pub(super) fn from_openmetrics(exposition: &str) -> String {
    let mut classic = String::with_capacity(exposition.len());
    // The client writes it before the type, which decides about the name.
    let mut help = None;
    for line in exposition.lines() {
        let Some(comment) = line.strip_prefix("# ") else {
            classic.push_str(sample(line));
            classic.push('\n');
            continue;
        };
        let mut words = comment.splitn(3, ' ');
        let (keyword, family, rest) = (words.next(), words.next(), words.next());
        match (keyword, family, rest) {
            (Some("HELP"), _, rest) => help = rest,
            (Some("TYPE"), Some(family), Some(kind)) => {
                let (suffix, kind) = match kind {
                    "counter" => ("_total", kind),
                    "info" => ("_info", "gauge"),
                    "stateset" => ("", "gauge"),
                    "unknown" => ("", "untyped"),
                    _ => ("", kind),
                };
                let help = help.take().unwrap_or_default();
                // Writing to a text cannot fail.
                let _ = writeln!(classic, "# HELP {family}{suffix} {help}");
                let _ = writeln!(classic, "# TYPE {family}{suffix} {kind}");
            }
            _ => {}
        }
    }
    classic
}

/// A sample without its exemplar.
fn sample(line: &str) -> &str {
    let (mut quoted, mut escaped) = (false, false);
    for (at, byte) in line.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b'#' if !quoted => return line[..at].trim_end(),
            _ => {}
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use prometheus_client::{
        encoding::text,
        metrics::{
            counter::Counter, family::Family, gauge::Gauge, histogram::Histogram, info::Info,
        },
        registry::{Registry, Unit},
    };

    use super::*;

    #[test]
    fn every_kind_of_metric_reads_as_the_older_format_has_it() {
        let mut registry = Registry::with_prefix("t");
        let calls = Family::<[(&str, &str); 1], Counter>::default();
        calls.get_or_create(&[("door", "a # \"b\" \\ }")]).inc();
        registry.register("calls", "Calls", calls);
        let left: Gauge = Gauge::default();
        registry.register_with_unit("left", "What is left", Unit::Seconds, left);
        let took = Histogram::new([0.5]);
        took.observe(0.25);
        registry.register_with_unit("took", "How long", Unit::Seconds, took);
        registry.register("build", "Version", Info::new([("version", "1")]));
        let mut open = String::new();
        text::encode(&mut open, &registry).unwrap();
        assert_eq!(
            from_openmetrics(&open),
            r#"# HELP t_calls_total Calls.
# TYPE t_calls_total counter
t_calls_total{door="a # \"b\" \\ }"} 1
# HELP t_left_seconds What is left.
# TYPE t_left_seconds gauge
t_left_seconds 0
# HELP t_took_seconds How long.
# TYPE t_took_seconds histogram
t_took_seconds_sum 0.25
t_took_seconds_count 1
t_took_seconds_bucket{le="0.5"} 1
t_took_seconds_bucket{le="+Inf"} 1
# HELP t_build_info Version.
# TYPE t_build_info gauge
t_build_info{version="1"} 1
"#
        );
    }

    #[test]
    fn what_the_older_format_lacks_is_left_out() {
        let open = "# TYPE a unknown\n\
                    # UNIT a seconds\n\
                    a{b=\"\\\"#\"} 1 # {trace_id=\"x\"} 0.5 1.0\n\
                    # HELP s States.\n\
                    # TYPE s stateset\n\
                    s{s=\"on\"} 1\n\
                    # EOF\n";
        let classic = "# HELP a \n\
                       # TYPE a untyped\n\
                       a{b=\"\\\"#\"} 1\n\
                       # HELP s States.\n\
                       # TYPE s gauge\n\
                       s{s=\"on\"} 1\n";
        assert_eq!(from_openmetrics(open), classic);
    }
}
