//! The version stands in several files, and is one.

// The lints know only the test functions themselves; here a panic is the report, too.
#![allow(clippy::expect_used, clippy::panic)]

use std::{fs, path::Path};

/// The version of Cargo.toml.
const VERSION: &str = env!("CARGO_PKG_VERSION");

fn read(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// What follows this on the first line that has it.
fn after<'a>(text: &'a str, words: &str) -> &'a str {
    let rest = text.lines().find_map(|line| line.split_once(words));
    rest.unwrap_or_else(|| panic!("no line has {words}")).1
}

/// The versions of the sections of the change log and their days.
fn sections(changes: &str) -> Vec<(&str, Option<&str>)> {
    changes
        .lines()
        .filter_map(|line| line.strip_prefix("## ["))
        .map(|line| {
            let (version, day) = line.split_once(']').expect("a heading ends its version");
            (version, day.strip_prefix(" - "))
        })
        .collect()
}

fn numbers(version: &str) -> [u64; 3] {
    let numbers: Vec<u64> = version
        .split('.')
        .map(|number| number.parse().expect("a version is three numbers"))
        .collect();
    numbers.try_into().expect("a version is three numbers")
}

#[test]
fn the_change_log_ends_with_the_version_that_is_built() {
    let changes = read("CHANGELOG.md");
    let sections = sections(&changes);
    let ((first, day), released) = sections.split_first().expect("there are sections");
    assert_eq!((*first, *day), ("Unreleased", None), "the first section");

    for (version, day) in released {
        let day = day.unwrap_or_else(|| panic!("{version} has no day"));
        let date = day.split('-').map(str::len).collect::<Vec<_>>();
        assert_eq!(date, [4, 2, 2], "the day of {version}: {day}");
    }
    assert!(
        released.is_sorted_by(|(newer, _), (older, _)| numbers(newer) > numbers(older)),
        "newest first: {released:?}"
    );
    // Between releases Cargo.toml may be ahead.
    if let Some((newest, _)) = released.first() {
        assert!(
            numbers(newest) <= numbers(VERSION),
            "{newest} was released, but {VERSION} is built"
        );
    }
}

#[test]
fn the_image_says_the_version_that_is_in_it() {
    let dockerfile = read("deploy/Dockerfile");
    let label = after(&dockerfile, "org.opencontainers.image.version=");
    assert_eq!(
        label.trim_end_matches([' ', '\\']),
        format!("\"{VERSION}\"")
    );

    let licence = after(&dockerfile, "org.opencontainers.image.licenses=").trim();
    assert_eq!(licence, format!("\"{}\"", env!("CARGO_PKG_LICENSE")));
}

#[test]
fn the_image_is_built_with_a_rust_that_can_build_it() {
    let dockerfile = read("deploy/Dockerfile");
    let tag = after(&dockerfile, "FROM docker.io/library/rust:");
    let (rust, _) = tag.split_once('-').expect("the tag names the system too");
    let wanted = format!("{}.0", env!("CARGO_PKG_RUST_VERSION"));
    assert!(
        numbers(rust) >= numbers(&wanted),
        "{rust} is older than {wanted}"
    );
}

#[test]
fn the_chart_deploys_the_version_it_came_with() {
    let chart = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/helm/token-broker/Chart.yaml");
    let Ok(chart) = fs::read_to_string(chart) else {
        return; // no chart, nothing to disagree
    };
    let version = after(&chart, "appVersion:").trim();
    assert_eq!(version.trim_matches('"'), VERSION);
}
