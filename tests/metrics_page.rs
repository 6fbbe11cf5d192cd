//! docs/metrics.md is held to the exposition, and the exposition to it.

// The lints know only the test functions themselves; here a panic is the report, too.
#![allow(clippy::panic, clippy::unwrap_used)]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
    sync::Arc,
    time::{Duration, SystemTime},
};

use token_broker::{
    destination::{ApplicationName, DestinationId, Generation, TokenKey},
    metrics::{Door, Format, Metrics, OK, Registered, STATES},
};

const PAGE: &str = include_str!("../docs/metrics.md");

/// What is known of a metric.
#[derive(Debug, PartialEq, Eq)]
struct Known {
    kind: String,
    labels: BTreeSet<String>,
}

#[test]
fn the_page_has_every_metric_with_its_type_and_labels_and_no_other() {
    let mut told = BTreeMap::new();
    for row in PAGE.lines().filter(|line| line.starts_with("| `")) {
        let cells: Vec<_> = row.trim_matches('|').split('|').map(str::trim).collect();
        let [name, kind, labels, _] = cells.as_slice() else {
            continue;
        };
        let labels = labels.split(", ").filter(|label| !label.is_empty());
        let known = Known {
            kind: (*kind).to_owned(),
            labels: labels.map(str::to_owned).collect(),
        };
        told.insert(name.trim_matches('`').to_owned(), known);
    }
    assert_eq!(told, exposed());
}

#[test]
fn every_document_names_metrics_that_there_are() {
    let exposed = exposed();
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let pages = fs::read_dir(root.join("docs")).unwrap();
    let pages = pages.map(|page| page.unwrap().path());
    let top = ["README.md", "ARCHITECTURE.md"].map(|name| root.join(name));
    let mut found = 0;
    for page in pages.chain(top) {
        if page.extension().is_none_or(|extension| extension != "md") {
            continue;
        }
        let text = fs::read_to_string(&page).unwrap();
        for name in text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_') {
            let is_metric = name.starts_with("token_broker_") || name.starts_with("process_");
            let suffix = ["_bucket", "_sum", "_count"];
            let family = suffix.iter().find_map(|suffix| name.strip_suffix(suffix));
            if is_metric && name.is_ascii() && !NOT_METRICS.contains(&name) {
                found += 1;
                assert!(
                    exposed.contains_key(name)
                        || family.is_some_and(|family| exposed.contains_key(family)),
                    "{} names {name}, which is no metric",
                    page.display()
                );
            }
        }
    }
    assert!(found > 20, "only {found}");
}

/// Names that are of something else: generated code.
const NOT_METRICS: [&str; 3] = [
    "token_broker_client",
    "token_broker_server",
    "token_broker_pb2",
];

/// The exposition that everybody reads, with at least one series of each metric.
fn exposed() -> BTreeMap<String, Known> {
    let metrics = Metrics::new();
    let orders = DestinationId::parse("orders").unwrap();
    let key = Arc::new(TokenKey {
        protocol: "occtoo",
        endpoint: "https://auth.example".into(),
        destination: orders.clone(),
        application: ApplicationName::parse("shop").unwrap(),
        client_id: "shop".into(),
        generation: Generation(1),
        asked: Arc::default(),
    });
    metrics.show([Registered {
        key: &key,
        host: "auth.example:443",
        state: STATES[0],
        runway: Some(Duration::ZERO),
        expires_at: Some(SystemTime::now()),
    }]);
    let tally = metrics.tally(&orders);
    metrics.call(Door::Grpc, Some(&tally), OK);
    metrics.call_took(Door::Grpc, Duration::ZERO);
    metrics.trace_spans("exported", 1);
    metrics.landed(&key, "ok");
    metrics.answered("auth.example:443", "ok", Duration::ZERO);
    metrics.connection("ok");
    metrics.closed("peer");
    metrics.reloaded("ok");
    metrics.expire([("server", 1)]);
    metrics.warn("orders", "shop", "runway_short", true);
    let sink = metrics.sink("file");
    sink.written(1);
    sink.up(true);
    sink.took(Duration::ZERO);
    metrics.shared_cache("look", "ok");
    metrics.shared_cache_took("look", Duration::ZERO);

    let exposition = metrics.exposition_in(Format::Classic).unwrap();
    let mut known = BTreeMap::new();
    let mut series = BTreeSet::new();
    for line in exposition.lines() {
        if let Some(head) = line.strip_prefix("# TYPE ") {
            let (name, kind) = head.split_once(' ').unwrap();
            let metric = Known {
                kind: kind.to_owned(),
                labels: BTreeSet::new(),
            };
            known.insert(name.to_owned(), metric);
        } else if !line.starts_with('#') {
            let name = line.split(['{', ' ']).next().unwrap();
            let family = ["_bucket", "_sum", "_count"]
                .iter()
                .filter_map(|suffix| name.strip_suffix(suffix))
                .find(|family| known.contains_key(*family))
                .unwrap_or(name);
            let metric = known.get_mut(family).unwrap();
            series.insert(family.to_owned());
            let labels = line.split(['{', '}']).nth(1).unwrap_or_default();
            let labels = labels.split(',').filter_map(|label| label.split_once('='));
            let labels = labels.map(|(label, _)| label.to_owned());
            metric.labels.extend(labels.filter(|label| label != "le"));
        }
    }
    let names: BTreeSet<_> = known.keys().cloned().collect();
    assert_eq!(
        series, names,
        "this test has to make a series of every metric"
    );
    known
}
