//! What there is for callers of each destination, as it was at the last look.

use std::{
    collections::HashSet,
    fmt,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use arc_swap::ArcSwap;
use prometheus_client::{
    encoding::{EncodeLabelSet, EncodeLabelValue, EncodeMetric, LabelValueEncoder, MetricEncoder},
    metrics::{MetricType, TypedMetric},
    registry::{Registry, Unit},
};

use super::Metrics;
use crate::destination::{ApplicationName, DestinationId, TokenKey};

/// One application of a destination.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Registered<'a> {
    /// What is registered.
    pub key: &'a Arc<TokenKey>,
    /// The host and port that mints its tokens.
    pub host: &'a str,
    /// What a caller would meet: one of [`STATES`].
    pub state: &'static str,
    /// How long until the first caller would fail if the upstream were gone; `None` where
    /// nobody asked yet.
    pub runway: Option<Duration>,
    /// When the token at hand expires.
    pub expires_at: Option<SystemTime>,
}

/// What a caller may meet. Each has a series in the sum over all destinations, also where it
/// is nought.
pub const STATES: [&str; 6] = [
    "fresh",
    "refresh_failing",
    "failing",
    "pending",
    "cold",
    "quarantined",
];

/// What was seen at the last look. A clone is the same.
#[derive(Clone, Debug, Default)]
pub(super) struct Destinations(Arc<ArcSwap<Vec<Row>>>);

/// One application of a destination, of which there may be ten thousand: nothing is kept of it
/// for each of its series.
#[derive(Debug)]
struct Row {
    key: Arc<TokenKey>,
    state: &'static str,
    /// Whole seconds.
    runway: Option<u64>,
    /// Unix time in seconds.
    expires_at: Option<u64>,
}

impl Destinations {
    pub(super) fn register(&self, registry: &mut Registry) {
        let shown = |encode| Shown {
            destinations: self.clone(),
            encode,
        };
        registry.register(
            "destinations",
            "Destinations, once for each of their applications, by what a caller would meet",
            shown(|rows, mut gauges| {
                for state in STATES {
                    let count = rows.iter().filter(|row| row.state == state).count();
                    gauge(&mut gauges, &[("state", state)], count)?;
                }
                Ok(())
            }),
        );
        registry.register(
            "destination_state",
            "1 for the state that a destination is in for an application, and absent for all others",
            shown(|rows, mut gauges| {
                for row in rows {
                    let [destination, application] = row.labels();
                    let labels = [destination, application, ("state", row.state)];
                    gauge(&mut gauges, &labels, 1_u64)?;
                }
                Ok(())
            }),
        );
        registry.register_with_unit(
            "runway",
            "How long until the first caller would fail if the upstream were gone, for tokens that somebody asked for",
            Unit::Seconds,
            shown(|rows, mut gauges| {
                for (row, runway) in rows.iter().filter_map(|row| Some((row, row.runway?))) {
                    gauge(&mut gauges, &row.labels(), runway)?;
                }
                Ok(())
            }),
        );
        registry.register_with_unit(
            "token_expiry_timestamp",
            "When the token at hand expires, in Unix time",
            Unit::Seconds,
            shown(|rows, mut gauges| {
                for (row, at) in rows.iter().filter_map(|row| Some((row, row.expires_at?))) {
                    gauge(&mut gauges, &row.labels(), at)?;
                }
                Ok(())
            }),
        );
    }
}

impl Row {
    fn labels(&self) -> [(&'static str, &str); 2] {
        labels(&self.key)
    }
}

/// Whose tokens they are.
pub(super) fn labels(key: &TokenKey) -> [(&'static str, &str); 2] {
    let (destination, application) = key.name();
    [
        ("destination", destination.as_str()),
        ("application", application.as_str()),
    ]
}

impl From<Registered<'_>> for Row {
    fn from(one: Registered<'_>) -> Self {
        let since_epoch = |at: SystemTime| at.duration_since(UNIX_EPOCH).unwrap_or_default();
        Self {
            key: Arc::clone(one.key),
            state: one.state,
            runway: one.runway.map(|runway| runway.as_secs()),
            expires_at: one.expires_at.map(|at| since_epoch(at).as_secs()),
        }
    }
}

/// The series of one metric.
#[derive(Debug)]
struct Shown {
    destinations: Destinations,
    encode: fn(&[Row], MetricEncoder<'_>) -> fmt::Result,
}

impl TypedMetric for Shown {
    const TYPE: MetricType = MetricType::Gauge;
}

impl EncodeMetric for Shown {
    fn encode(&self, encoder: MetricEncoder<'_>) -> fmt::Result {
        (self.encode)(&self.destinations.0.load(), encoder)
    }

    fn metric_type(&self) -> MetricType {
        Self::TYPE
    }
}

fn gauge(
    gauges: &mut MetricEncoder<'_>,
    labels: &impl EncodeLabelSet,
    value: impl TryInto<i64>,
) -> fmt::Result {
    let value = value.try_into().unwrap_or(i64::MAX);
    gauges.encode_family(labels)?.encode_gauge(&value)
}

impl Metrics {
    /// Shows what there is for these, and forgets everything of destinations, applications
    /// and hosts that are not among them.
    pub fn show<'a>(&self, all: impl IntoIterator<Item = Registered<'a>>) {
        let mut hosts = HashSet::new();
        // As long as it was, since there may be ten thousand of them every second.
        let mut rows = Vec::with_capacity(self.destinations.0.load().len());
        rows.extend(all.into_iter().map(|one| {
            hosts.insert(one.host);
            Row::from(one)
        }));
        rows.sort_unstable_by(|a, b| a.key.name().cmp(&b.key.name()));
        self.keep(&rows, &hosts);
        self.destinations.0.store(Arc::new(rows));
    }

    /// Ends what is of none of these: whoever reloads again and again must not leave series
    /// behind. What a last flight or call counts afterwards ends at the next look.
    fn keep(&self, rows: &[Row], hosts: &HashSet<&str>) {
        self.calls.keep();
        self.flights.keep(|key| {
            let found = rows.binary_search_by(|row| row.key.name().cmp(&key.name()));
            found.is_ok()
        });
        self.upstream.keep(|host| hosts.contains(host));
    }
}

impl EncodeLabelValue for DestinationId {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> fmt::Result {
        EncodeLabelValue::encode(&self.as_str(), encoder)
    }
}

impl EncodeLabelValue for ApplicationName {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> fmt::Result {
        EncodeLabelValue::encode(&self.as_str(), encoder)
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::{Door, OK},
        *,
    };

    fn registered<'a>(key: &'a Arc<TokenKey>, host: &'a str, runway: u64) -> Registered<'a> {
        Registered {
            key,
            host,
            state: if runway == 0 { "failing" } else { "fresh" },
            runway: Some(Duration::from_secs(runway)),
            expires_at: (runway > 0).then(|| UNIX_EPOCH + Duration::from_secs(99)),
        }
    }

    /// Everything with a label, without the metrics whose series never end.
    fn series(metrics: &Metrics) -> Vec<String> {
        let exposition = metrics.exposition().unwrap();
        let of_destinations = |line: &&str| {
            let labels = ["{destination=", ",destination=", "{host=", "{state="];
            labels.iter().any(|label| line.contains(label)) && !line.contains("_bucket{")
        };
        let lines = exposition.lines().filter(of_destinations);
        lines.map(str::to_owned).collect()
    }

    fn count(metrics: &Metrics, key: &Arc<TokenKey>, host: &str) {
        let tally = metrics.tally(&key.destination);
        metrics.call(Door::Grpc, Some(&tally), OK);
        metrics.call(Door::Grpc, Some(&tally), "UPSTREAM_UNAVAILABLE");
        metrics.landed(key, "ok");
        metrics.answered(host, "ok", Duration::ZERO);
    }

    #[test]
    fn what_is_no_longer_configured_has_no_series() {
        let metrics = Metrics::new();
        metrics.call(Door::Grpc, None, "NOT_GRANTED");
        let sums = |fresh, failing| {
            [
                "token_broker_destinations{state=\"cold\"} 0".to_owned(),
                format!("token_broker_destinations{{state=\"failing\"}} {failing}"),
                format!("token_broker_destinations{{state=\"fresh\"}} {fresh}"),
                "token_broker_destinations{state=\"pending\"} 0".to_owned(),
                "token_broker_destinations{state=\"quarantined\"} 0".to_owned(),
                "token_broker_destinations{state=\"refresh_failing\"} 0".to_owned(),
            ]
        };
        let nobody =
            r#"token_broker_calls_total{door="grpc",destination="",outcome="NOT_GRANTED"} 1"#;

        let [a, b] = ["a", "b"].map(|id| Arc::new(TokenKey::sample(id)));
        // What is configured has its tally.
        let [_a, of_b] = [&a, &b].map(|key| metrics.tally(&key.destination));
        // So has what wants no token, of which no application is registered.
        let public = metrics.tally(&TokenKey::sample("public").destination);
        metrics.call(Door::ExtAuthz, Some(&public), "DESTINATION_UNPROTECTED");
        metrics.show([registered(&a, "one:443", 5), registered(&b, "two:443", 0)]);
        count(&metrics, &a, "one:443");
        count(&metrics, &b, "two:443");
        let all = series(&metrics);
        for line in sums(1, 1) {
            assert!(all.contains(&line), "{line} in {all:#?}");
        }
        for line in [
            nobody,
            r#"token_broker_runway_seconds{destination="a",application="app"} 5"#,
            r#"token_broker_runway_seconds{destination="b",application="app"} 0"#,
            r#"token_broker_token_expiry_timestamp_seconds{destination="a",application="app"} 99"#,
            r#"token_broker_destination_state{destination="a",application="app",state="fresh"} 1"#,
            r#"token_broker_destination_state{destination="b",application="app",state="failing"} 1"#,
            r#"token_broker_calls_total{door="grpc",destination="a",outcome="ok"} 1"#,
            r#"token_broker_calls_total{door="grpc",destination="b",outcome="UPSTREAM_UNAVAILABLE"} 1"#,
            r#"token_broker_upstream_calls_total{host="two:443",outcome="ok"} 1"#,
        ] {
            assert!(all.iter().any(|known| known == line), "{line} in {all:#?}");
        }

        metrics.show([registered(&a, "one:443", 0)]);
        drop(of_b);
        // As the last flight and call of a destination that is gone do.
        count(&metrics, &b, "two:443");
        metrics.show([registered(&a, "one:443", 0)]);
        let rest = series(&metrics);
        assert!(
            !rest
                .iter()
                .any(|line| line.contains("\"b\"") || line.contains("two:443")),
            "{rest:#?}"
        );
        assert!(
            !rest.iter().any(|line| line.contains("\"fresh\"} 1")),
            "{rest:#?}"
        );
        assert!(rest.iter().any(|line| line == nobody));
        for line in [
            r#"token_broker_mints_total{destination="a",application="app",outcome="ok"} 1"#,
            r#"token_broker_calls_total{door="grpc",destination="a",outcome="ok"} 1"#,
            r#"token_broker_calls_total{door="grpc",destination="a",outcome="UPSTREAM_UNAVAILABLE"} 1"#,
            r#"token_broker_calls_total{door="ext_authz",destination="public",outcome="DESTINATION_UNPROTECTED"} 1"#,
        ] {
            assert!(
                rest.iter().any(|known| known == line),
                "{line} in {rest:#?}"
            );
        }
    }
}
