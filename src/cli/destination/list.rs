//! `destination list`.

use std::{
    io::{self, IsTerminal as _, Write},
    process::ExitCode,
    time::Duration,
};

use clap::Args;
use jiff::Timestamp;
use serde::Serialize;
use tokio::time::sleep;

use super::replicas::{self, ReplicaJson};
use crate::{
    api::admin::v1::{
        Destination, DestinationState, ListDestinationsRequest, ListDestinationsResponse,
        QuarantineNote, RotationState, Warning,
    },
    cli::{
        connection::ConnectionArgs,
        operator::{Brief, Desk, OperatorError, moment, text},
        output::Output,
        table::{Column, table},
    },
};

/// How often `--watch` looks again.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// Moves the cursor to the first corner and clears what is below it (ECMA-48).
const CLEAR: &str = "\u{1b}[H\u{1b}[J";
/// Together with what is between them they take 118 characters.
const COLUMNS: [Column; 8] = [
    ("DESTINATION", 36),
    ("APPLICATION", 12),
    ("STATE", 15),
    ("EXPIRES", 7),
    ("NEXT", 4),
    ("RUNWAY", 6),
    ("USED", 4),
    ("LAST FAILURE", 20),
];

#[derive(Debug, Args)]
pub(super) struct ListArgs {
    /// Look again each second: a terminal is redrawn, elsewhere each change is printed
    #[arg(long)]
    watch: bool,
    /// What to print: a table, or JSON with all that is known
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t = Output::Text)]
    output: Output,
    #[command(flatten)]
    connection: ConnectionArgs,
}

#[derive(Serialize)]
struct ListJson<'a> {
    destinations: Vec<DestinationJson<'a>>,
    warnings: Vec<WarningJson<'a>>,
    replicas: Vec<ReplicaJson<'a>>,
}

#[derive(Serialize)]
struct DestinationJson<'a> {
    id: &'a str,
    name: &'a str,
    application: &'a str,
    state: &'static str,
    expires_at: Option<String>,
    next_refresh_at: Option<String>,
    runway: i64,
    last_success_at: Option<String>,
    last_failure_at: Option<String>,
    last_failure_reason: &'a str,
    last_used_at: Option<String>,
    callers: &'a [String],
    requested_at: Option<String>,
    served_until: Option<String>,
    minting: bool,
    failures_in_a_row: u32,
    retry_at: Option<String>,
    credential: &'a str,
    credential_generation: &'a str,
    rotation: &'static str,
    warnings: Vec<WarningJson<'a>>,
    quarantine: Option<QuarantineJson<'a>>,
}

#[derive(Serialize)]
struct WarningJson<'a> {
    code: &'a str,
    message: &'a str,
    since: Option<String>,
}

#[derive(Serialize)]
struct QuarantineJson<'a> {
    since: Option<String>,
    administrator: &'a str,
    comment: &'a str,
}

pub(super) async fn run(args: ListArgs) -> Result<ExitCode, OperatorError> {
    let mut desk = Desk::open(args.connection).await?;
    let mut ask = async || {
        let request = ListDestinationsRequest {};
        desk.call(request, async |client, request| {
            client.list_destinations(request).await
        })
        .await
    };
    let mut last = ask().await?;
    if !args.watch {
        write(&shown(&last, args.output, Timestamp::now())?)?;
        return Ok(ExitCode::SUCCESS);
    }
    let redraws = io::stdout().is_terminal();
    write(&drawn(&last, args.output, redraws)?)?;
    let watching = async {
        loop {
            sleep(LOOK_AGAIN).await;
            let now = ask().await?;
            if redraws || differs(&last, &now) {
                write(&drawn(&now, args.output, redraws)?)?;
            }
            last = now;
        }
    };
    tokio::select! {
        ended = watching => ended,
        _ = tokio::signal::ctrl_c() => Ok(ExitCode::SUCCESS),
    }
}

fn drawn(list: &ListDestinationsResponse, output: Output, redraws: bool) -> io::Result<String> {
    let shown = shown(list, output, Timestamp::now())?;
    let (before, after) = match output {
        Output::Text if redraws => (CLEAR, ""),
        Output::Text => ("", "\n"),
        Output::Json => ("", ""),
    };
    Ok(format!("{before}{shown}{after}"))
}

/// Writes at once, so that a reader sees whole tables.
fn write(shown: &str) -> io::Result<()> {
    let mut to = io::stdout().lock();
    to.write_all(shown.as_bytes())?;
    to.flush()
}

/// Whether there is news: a time that merely passes is none.
fn differs(before: &ListDestinationsResponse, now: &ListDestinationsResponse) -> bool {
    let news = |list: &ListDestinationsResponse| {
        let destinations = list.destinations.iter().map(|destination| Destination {
            runway: None,
            next_refresh_at: None,
            last_used_at: None,
            callers: Vec::new(),
            last_failure_at: None,
            last_success_at: None,
            warnings: codes(&destination.warnings),
            ..destination.clone()
        });
        let destinations: Vec<_> = destinations.collect();
        let replicas = replicas::lasting(&list.replicas);
        (destinations, codes(&list.warnings), replicas)
    };
    news(before) != news(now)
}

/// The warnings without their words, which count the time that is left.
fn codes(warnings: &[Warning]) -> Vec<Warning> {
    let codes = warnings.iter().map(|warning| Warning {
        message: String::new(),
        ..warning.clone()
    });
    codes.collect()
}

fn shown(list: &ListDestinationsResponse, output: Output, now: Timestamp) -> io::Result<String> {
    match output {
        Output::Text => Ok(lines(list, now)),
        Output::Json => {
            let json = ListJson {
                destinations: list
                    .destinations
                    .iter()
                    .map(DestinationJson::from)
                    .collect(),
                warnings: list.warnings.iter().map(WarningJson::from).collect(),
                replicas: list.replicas.iter().map(ReplicaJson::from).collect(),
            };
            let mut shown = serde_json::to_string(&json).map_err(io::Error::from)?;
            shown.push('\n');
            Ok(shown)
        }
    }
}

/// The table, and below it what an operator should see to.
fn lines(list: &ListDestinationsResponse, now: Timestamp) -> String {
    let rows: Vec<_> = list
        .destinations
        .iter()
        .map(|destination| row(destination, now))
        .collect();
    let mut shown = table(COLUMNS, &rows);
    let mut notes = Vec::new();
    for destination in &list.destinations {
        let subject = format!("{} ({})", called(destination), destination.application);
        if let Some(QuarantineNote {
            since,
            administrator,
            comment,
        }) = &destination.quarantine
        {
            let since = text(since.as_ref()).unwrap_or_default();
            notes.push(format!(
                "{subject}: quarantined since {since} by {administrator}: {comment}"
            ));
        }
        let warnings = destination.warnings.iter();
        notes.extend(
            warnings.map(|Warning { code, message, .. }| format!("{subject}: {code}: {message}")),
        );
    }
    let warnings = list.warnings.iter();
    notes.extend(warnings.map(|Warning { code, message, .. }| format!("{code}: {message}")));
    if !notes.is_empty() {
        shown.push('\n');
    }
    for note in notes {
        shown.push_str("! ");
        shown.push_str(&note.replace(char::is_control, " "));
        shown.push('\n');
    }
    if let Some(line) = replicas::line(&list.replicas) {
        shown.extend(["\n", &line, "\n"]);
    }
    shown
}

fn row(destination: &Destination, now: Timestamp) -> [String; 8] {
    let state = destination.state();
    let until = |at: &Option<prost_types::Timestamp>| {
        moment(at.as_ref()).map(|at| Brief::until(at, now).to_string())
    };
    let runway = destination
        .runway
        .as_ref()
        .map_or(0, |runway| runway.seconds);
    let used = moment(destination.last_used_at.as_ref());
    let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
    [
        called(destination).to_owned(),
        destination.application.clone(),
        word(state).replace('_', " "),
        or_dash(until(&destination.expires_at)),
        or_dash(until(&destination.next_refresh_at)),
        or_dash((runway > 0).then(|| Brief::of(runway).to_string())),
        or_dash(used.map(|at| Brief::since(at, now).to_string())),
        destination.last_failure_reason.clone(),
    ]
}

/// The name of a destination, or its id where it has none.
fn called(destination: &Destination) -> &str {
    if destination.name.is_empty() {
        &destination.id
    } else {
        &destination.name
    }
}

fn word(state: DestinationState) -> &'static str {
    match state {
        DestinationState::Unspecified => "unknown",
        DestinationState::Cold => "cold",
        DestinationState::Pending => "pending",
        DestinationState::Fresh => "fresh",
        DestinationState::RefreshFailing => "refresh_failing",
        DestinationState::Failing => "failing",
        DestinationState::Quarantined => "quarantined",
        DestinationState::Unprotected => "unprotected",
    }
}

fn rotation(state: RotationState) -> &'static str {
    match state {
        RotationState::Unspecified => "unknown",
        RotationState::None => "none",
        RotationState::Pending => "pending",
        RotationState::Promoted => "promoted",
        RotationState::RolledBack => "rolled_back",
    }
}

impl<'a> From<&'a Destination> for DestinationJson<'a> {
    fn from(destination: &'a Destination) -> Self {
        Self {
            id: &destination.id,
            name: &destination.name,
            application: &destination.application,
            state: word(destination.state()),
            expires_at: text(destination.expires_at.as_ref()),
            next_refresh_at: text(destination.next_refresh_at.as_ref()),
            runway: destination
                .runway
                .as_ref()
                .map_or(0, |runway| runway.seconds),
            last_success_at: text(destination.last_success_at.as_ref()),
            last_failure_at: text(destination.last_failure_at.as_ref()),
            last_failure_reason: &destination.last_failure_reason,
            last_used_at: text(destination.last_used_at.as_ref()),
            callers: &destination.callers,
            requested_at: text(destination.requested_at.as_ref()),
            served_until: text(destination.served_until.as_ref()),
            minting: destination.minting,
            failures_in_a_row: destination.failures_in_a_row,
            retry_at: text(destination.retry_at.as_ref()),
            credential: &destination.credential,
            credential_generation: &destination.credential_generation,
            rotation: rotation(destination.rotation()),
            warnings: destination.warnings.iter().map(WarningJson::from).collect(),
            quarantine: destination.quarantine.as_ref().map(QuarantineJson::from),
        }
    }
}

impl<'a> From<&'a Warning> for WarningJson<'a> {
    fn from(warning: &'a Warning) -> Self {
        Self {
            code: &warning.code,
            message: &warning.message,
            since: text(warning.since.as_ref()),
        }
    }
}

impl<'a> From<&'a QuarantineNote> for QuarantineJson<'a> {
    fn from(note: &'a QuarantineNote) -> Self {
        Self {
            since: text(note.since.as_ref()),
            administrator: &note.administrator,
            comment: &note.comment,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::admin::v1::Replica;

    fn at(seconds: i64) -> prost_types::Timestamp {
        prost_types::Timestamp { seconds, nanos: 0 }
    }

    fn list() -> ListDestinationsResponse {
        let warning = Warning {
            code: "runway_short".to_owned(),
            message: "minting fails, and callers will notice in 5m".to_owned(),
            since: Some(at(990)),
        };
        let fresh = Destination {
            id: "7d3c1f0e-5b8e-4a53-9f6b-0a3c5d1e2f40".to_owned(),
            name: "product-catalogue-v2".to_owned(),
            application: "shop".to_owned(),
            state: DestinationState::Fresh.into(),
            expires_at: Some(at(4600)),
            next_refresh_at: Some(at(2800)),
            runway: Some(prost_types::Duration {
                seconds: 3540,
                nanos: 0,
            }),
            last_used_at: Some(at(997)),
            credential: "file:shop".to_owned(),
            rotation: RotationState::Promoted.into(),
            ..Destination::default()
        };
        ListDestinationsResponse {
            destinations: vec![
                fresh.clone(),
                Destination {
                    name: "x".repeat(128),
                    application: "y".repeat(128),
                    state: DestinationState::RefreshFailing.into(),
                    last_failure_reason: "UPSTREAM_UNAVAILABLE".to_owned(),
                    expires_at: Some(at(100_000_000)),
                    next_refresh_at: Some(at(100_000_000)),
                    last_used_at: Some(at(-100_000_000)),
                    warnings: vec![warning],
                    quarantine: Some(QuarantineNote {
                        since: Some(at(0)),
                        administrator: "spiffe://td/ops".to_owned(),
                        comment: "a\nb".to_owned(),
                    }),
                    ..fresh
                },
                Destination {
                    id: "opening-hours".to_owned(),
                    state: DestinationState::Unprotected.into(),
                    ..Destination::default()
                },
            ],
            ..ListDestinationsResponse::default()
        }
    }

    #[test]
    fn the_table_fits_120_columns_whatever_the_names_are() {
        let now = Timestamp::from_second(1000).unwrap();
        let shown = lines(&list(), now);
        let (table, notes) = shown.split_once("\n\n").unwrap();
        assert_eq!(
            table,
            "\
DESTINATION                           APPLICATION   STATE            EXPIRES  NEXT  RUNWAY  USED  LAST FAILURE
product-catalogue-v2                  shop          fresh            1h       30m   59m     3s    \n"
                .trim_end()
                .to_owned()
                + "\n\
xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx…  yyyyyyyyyyy…  refresh failing  1157d    115…  59m     115…  UPSTREAM_UNAVAILABLE
opening-hours                                       unprotected      -        -     -       -"
        );
        assert!(table.lines().all(|line| line.chars().count() <= 120));
        let long = format!("{} ({})", "x".repeat(128), "y".repeat(128));
        assert_eq!(
            notes,
            format!(
                "! {long}: quarantined since 1970-01-01T00:00:00Z by spiffe://td/ops: a b\n! {long}: runway_short: minting fails, and callers will notice in 5m\n"
            )
        );
    }

    #[test]
    fn time_that_passes_is_no_news_and_anything_else_is() {
        let before = list();
        let mut now = list();
        now.destinations[0].last_used_at = Some(at(999));
        now.destinations[0].runway = None;
        now.destinations[1].warnings[0].message = "in 4m".to_owned();
        assert!(!differs(&before, &now));
        let changes: [fn(&mut ListDestinationsResponse); 5] = [
            |list| list.destinations[0].state = DestinationState::Failing.into(),
            |list| list.destinations[0].expires_at = Some(at(4601)),
            |list| list.destinations[1].warnings.clear(),
            |list| list.destinations[1].quarantine = None,
            |list| drop(list.destinations.pop()),
        ];
        for change in changes {
            let mut now = list();
            change(&mut now);
            assert!(differs(&before, &now));
        }
    }

    #[test]
    fn replicas_are_told_last_and_one_that_is_merely_heard_again_is_no_news() {
        let replica = |last_heard_at| Replica {
            name: "broker-1".to_owned(),
            last_heard_at: Some(at(last_heard_at)),
            ..Replica::default()
        };
        let [before, heard, gone] = [vec![replica(7)], vec![replica(9)], vec![]]
            .map(|replicas| ListDestinationsResponse { replicas, ..list() });
        assert!(!differs(&before, &heard));
        assert!(differs(&before, &gone));
        let now = Timestamp::from_second(1000).unwrap();
        let (others, line) = (lines(&gone, now), "\n1 replica: broker-1\n");
        assert_eq!(lines(&before, now), format!("{others}{line}"));
    }

    #[test]
    fn json_tells_all_that_is_known() {
        let now = Timestamp::from_second(1000).unwrap();
        let mut list = list();
        list.replicas = vec![Replica {
            name: "broker-1".to_owned(),
            version: "0.1.0".to_owned(),
            started_at: Some(at(7)),
            last_heard_at: Some(at(999)),
            is_this: true,
        }];
        let shown = shown(&list, Output::Json, now).unwrap();
        let json: serde_json::Value = serde_json::from_str(&shown).unwrap();
        let first = &json["destinations"][0];
        assert_eq!(first["state"], "fresh");
        assert_eq!(first["runway"], 3540);
        assert_eq!(first["rotation"], "promoted");
        assert_eq!(first["credential"], "file:shop");
        assert_eq!(first["expires_at"], "1970-01-01T01:16:40Z");
        assert_eq!(first["quarantine"], serde_json::Value::Null);
        assert_eq!(json["destinations"][1]["quarantine"]["comment"], "a\nb");
        assert_eq!(
            json["destinations"][1]["warnings"][0]["code"],
            "runway_short"
        );
        let replica = serde_json::json!({
            "name": "broker-1",
            "version": "0.1.0",
            "started_at": "1970-01-01T00:00:07Z",
            "last_heard_at": "1970-01-01T00:16:39Z",
            "is_this": true,
        });
        assert_eq!(json["replicas"], serde_json::json!([replica]));
    }
}
