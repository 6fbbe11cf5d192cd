//! `destination list`.

use std::{io, process::ExitCode, time::Duration};

use clap::Args;
use jiff::Timestamp;
use serde::Serialize;

use super::{
    replicas::{self, ReplicaJson},
    watch::Watch,
};
use crate::{
    api::admin::v1::{
        Destination, DestinationState, ListDestinationsRequest, ListDestinationsResponse,
        QuarantineNote, RotationState, Warning,
    },
    cli::{
        connection::ConnectionArgs,
        duration::interval,
        operator::{Brief, Desk, OperatorError, moment, text},
        output::{Output, write},
        table::{Column, table},
    },
};

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
    /// Look again each second, or each INTERVAL: a terminal is redrawn, elsewhere what has
    /// changed is printed, and it goes on when the broker is restarted
    #[arg(
        long,
        value_name = "INTERVAL",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "1s",
        value_parser = interval
    )]
    watch: Option<Duration>,
    /// What to print: a table, or JSON with all that is known
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t = Output::Text)]
    output: Output,
    #[command(flatten)]
    connection: ConnectionArgs,
}

#[derive(Serialize)]
struct ListJson<'a> {
    /// Since when the broker that answers runs, and which one it is.
    started_at: Option<String>,
    version: &'a str,
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
    let ListArgs {
        watch,
        output,
        connection,
    } = args;
    if let Some(every) = watch {
        return Watch::new(every, output, connection).run().await;
    }
    let mut desk = Desk::open(connection).await?;
    let list = ask(&mut desk).await?;
    write(&shown(&list, output, Timestamp::now())?)?;
    Ok(ExitCode::SUCCESS)
}

/// Asks for everything.
pub(super) async fn ask(desk: &mut Desk) -> Result<ListDestinationsResponse, OperatorError> {
    let request = ListDestinationsRequest {};
    desk.call(request, async |client, request| {
        client.list_destinations(request).await
    })
    .await
}

/// The list as it is printed.
pub(super) fn shown(
    list: &ListDestinationsResponse,
    output: Output,
    now: Timestamp,
) -> io::Result<String> {
    match output {
        Output::Text => Ok(lines(list, now)),
        Output::Json => {
            let json = ListJson {
                started_at: text(list.started_at.as_ref()),
                version: &list.version,
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
    let mut shown = rows(list, now);
    let notes = notes(list);
    if !notes.is_empty() {
        shown.push('\n');
    }
    for note in notes {
        shown.push_str(&note);
        shown.push('\n');
    }
    if let Some(line) = replicas::line(&list.replicas) {
        shown.extend(["\n", &line, "\n"]);
    }
    shown
}

/// The table.
pub(super) fn rows(list: &ListDestinationsResponse, now: Timestamp) -> String {
    let destinations = list.destinations.iter();
    let rows: Vec<_> = destinations
        .map(|destination| row(destination, now))
        .collect();
    table(COLUMNS, &rows)
}

/// What an operator should see to, one line each.
pub(super) fn notes(list: &ListDestinationsResponse) -> Vec<String> {
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
    let plain = notes.into_iter();
    plain
        .map(|note| format!("! {}", note.replace(char::is_control, " ")))
        .collect()
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

/// What a state is called.
pub(super) fn word(state: DestinationState) -> &'static str {
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
pub(super) mod tests {
    use super::*;
    use crate::api::admin::v1::Replica;

    pub(in super::super) fn at(seconds: i64) -> prost_types::Timestamp {
        prost_types::Timestamp { seconds, nanos: 0 }
    }

    /// One that is fresh, one in trouble, and one that is public.
    pub(in super::super) fn list() -> ListDestinationsResponse {
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
    fn replicas_are_told_last() {
        let replica = Replica {
            name: "broker-1".to_owned(),
            ..Replica::default()
        };
        let [alone, shared] =
            [vec![], vec![replica]].map(|replicas| ListDestinationsResponse { replicas, ..list() });
        let now = Timestamp::from_second(1000).unwrap();
        let (others, line) = (lines(&alone, now), "\n1 replica: broker-1\n");
        assert_eq!(lines(&shared, now), format!("{others}{line}"));
    }

    #[test]
    fn json_tells_all_that_is_known() {
        let now = Timestamp::from_second(1000).unwrap();
        let mut list = list();
        list.started_at = Some(at(400));
        list.version = "1.2.3".to_owned();
        list.replicas = vec![Replica {
            name: "broker-1".to_owned(),
            version: "0.1.0".to_owned(),
            started_at: Some(at(7)),
            last_heard_at: Some(at(999)),
            is_this: true,
        }];
        let shown = shown(&list, Output::Json, now).unwrap();
        let json: serde_json::Value = serde_json::from_str(&shown).unwrap();
        assert_eq!(json["started_at"], "1970-01-01T00:06:40Z");
        assert_eq!(json["version"], "1.2.3");
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
