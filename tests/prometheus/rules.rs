//! An alert that no test causes does not exist, nor one without a paragraph of what to do.

use std::{collections::BTreeSet, fs};

use crate::{
    audit, availability, calls, configuration, connections, prometheus::delivered, rotation,
    shared_cache, tokens,
};

/// What the tests beside this one see firing; each of them holds itself to its own list.
const SEEN: [&[&str]; 8] = [
    audit::ALERTS,
    availability::ALERTS,
    calls::ALERTS,
    configuration::ALERTS,
    connections::ALERTS,
    rotation::ALERTS,
    shared_cache::ALERTS,
    tokens::ALERTS,
];

fn read(path: &str) -> String {
    fs::read_to_string(delivered(path)).unwrap()
}

/// What stands after this in the lines that begin so.
fn after<'a>(text: &'a str, start: &str) -> Vec<&'a str> {
    let lines = text.lines().map(str::trim_start);
    lines.filter_map(|line| line.strip_prefix(start)).collect()
}

#[test]
fn every_alert_is_caused_by_a_test_tested_by_promtool_and_explained() {
    let rules = read("deploy/prometheus/alerts.yaml");
    let delivered = after(&rules, "- alert: ");
    let seen: Vec<_> = SEEN.iter().copied().flatten().copied().collect();
    let sorted = |names: &[&str]| {
        let set: BTreeSet<_> = names.iter().map(|name| (*name).to_owned()).collect();
        assert_eq!(set.len(), names.len(), "a name is there twice: {names:?}");
        set
    };
    let delivered = sorted(&delivered);
    assert_eq!(sorted(&seen), delivered, "alerts that a test causes");

    let cases = read("deploy/prometheus/alerts.test.yaml");
    let cases = after(&cases, "- name: ");
    assert_eq!(sorted(&cases), delivered, "cases of promtool");

    let page = read("docs/alerts.md");
    let paragraphs = after(&page, "### ");
    assert_eq!(sorted(&paragraphs), delivered, "paragraphs of the runbook");
    for paragraph in page.split("\n### ").skip(1) {
        for says in ["**Means**", "**Look at", "do**", "**Callers\nnotice**"] {
            let text = paragraph.replace('\n', " ").to_lowercase();
            let says = says.replace('\n', " ").to_lowercase();
            assert!(text.contains(&says), "no {says} in {paragraph}");
        }
    }
}

#[test]
fn every_alert_says_how_bad_it_is_and_where_to_read_on() {
    let rules = read("deploy/prometheus/alerts.yaml");
    for alert in rules.split("- alert: ").skip(1) {
        let name = alert.lines().next().unwrap();
        let [severity] = after(alert, "severity: ")[..] else {
            panic!("{name} has no severity");
        };
        assert!(
            ["critical", "warning", "info"].contains(&severity),
            "{name}"
        );
        for annotation in ["summary: ", "description: "] {
            assert_eq!(after(alert, annotation).len(), 1, "{name}: {annotation}");
        }
        let runbook = format!("docs/alerts.md#{}", name.to_lowercase());
        assert_eq!(after(alert, "runbook_url: "), [runbook]);
    }
}
