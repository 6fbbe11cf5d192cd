//! `destination list --watch`: the list again and again, also while the broker is restarted.

use std::{io, process::ExitCode, time::Duration};

use jiff::Timestamp;
use serde::Serialize;
use tokio::{
    signal::unix::{SignalKind, signal},
    time::{Instant, sleep},
};

use super::{
    list::{ask, notes, rows, shown, word},
    replicas,
};
use crate::{
    api::admin::v1::{Destination, DestinationState, ListDestinationsResponse, Warning},
    cli::{
        connection::ConnectionArgs,
        operator::{Brief, Desk, OperatorError, moment},
        output::{Output, write},
        screen::{Screen, fit},
        signal::Signals,
    },
    client::{ConnectError, Refusal},
};

/// What has happened is shown on a terminal for so long.
const REMEMBERED: Duration = Duration::from_secs(60);

/// A watch, and what it has seen.
pub(super) struct Watch {
    every: Duration,
    output: Output,
    connection: ConnectionArgs,
    desk: Option<Desk>,
    last: Option<ListDestinationsResponse>,
    /// Since when the broker has not answered, and why.
    lost: Option<(Timestamp, Event)>,
    /// What happened last, and until when it is shown.
    event: Option<(Event, Instant)>,
}

/// Something that happened to the broker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Event {
    reason: String,
    message: String,
}

impl Watch {
    pub(super) fn new(every: Duration, output: Output, connection: ConnectionArgs) -> Self {
        Self {
            every,
            output,
            connection,
            desk: None,
            last: None,
            lost: None,
            event: None,
        }
    }

    /// Watches until it is interrupted, or until somebody has to act.
    pub(super) async fn run(mut self) -> Result<ExitCode, OperatorError> {
        // Files may be missing for a moment later on, but not from the beginning.
        let settings = self.connection.clone().settings()?;
        settings.check().map_err(OperatorError::Connect)?;
        let stop = Signals::listen().stop_requested(|| ());
        // JSON is for programs, whatever they read it from.
        let screen = match self.output {
            Output::Text => Screen::open()?,
            Output::Json => None,
        };
        // Whatever ends it, the terminal is given back before anything else is said.
        tokio::select! {
            ended = self.look_again_and_again(screen.as_ref()) => ended,
            () = stop => Ok(ExitCode::SUCCESS),
        }
    }

    async fn look_again_and_again(
        &mut self,
        screen: Option<&Screen>,
    ) -> Result<ExitCode, OperatorError> {
        let mut resized = signal(SignalKind::window_change())?;
        loop {
            match self.look().await {
                Ok(list) => self.take(list, screen)?,
                Err(error) => {
                    let event = self.passing(error)?;
                    self.lose(event, screen)?;
                }
            }
            let pause = sleep(self.every);
            tokio::pin!(pause);
            loop {
                if let Some(screen) = screen {
                    self.draw(screen)?;
                }
                tokio::select! {
                    () = &mut pause => break,
                    Some(()) = resized.recv() => {}
                }
            }
        }
    }

    /// Asks over the connection that there is, or over a new one if the last one failed: with
    /// the certificates as they are then.
    async fn look(&mut self) -> Result<ListDestinationsResponse, OperatorError> {
        let mut desk = match self.desk.take() {
            Some(desk) => desk,
            None => Desk::open(self.connection.clone()).await?,
        };
        let list = ask(&mut desk).await?;
        self.desk = Some(desk);
        Ok(list)
    }

    /// What is over when the broker is back; what is not ends the watch.
    fn passing(&self, error: OperatorError) -> Result<Event, OperatorError> {
        match error {
            OperatorError::Refused(Refusal {
                reason,
                message,
                needs_action: false,
                ..
            }) => Ok(Event { reason, message }),
            OperatorError::Connect(error)
                if self.last.is_some() || matches!(error, ConnectError::Unreachable { .. }) =>
            {
                Ok(Event::new("UNAVAILABLE", &error.to_string()))
            }
            other => Err(other),
        }
    }

    fn lose(&mut self, event: Event, screen: Option<&Screen>) -> io::Result<()> {
        let is_news = self
            .lost
            .as_ref()
            .is_none_or(|(_, last)| last.reason != event.reason);
        let since = self.lost.take().map(|(since, _)| since);
        if is_news && screen.is_none() {
            event.log(self.output)?;
        }
        self.lost = Some((since.unwrap_or_else(Timestamp::now), event));
        Ok(())
    }

    fn take(&mut self, list: ListDestinationsResponse, screen: Option<&Screen>) -> io::Result<()> {
        if let Some(event) = happened(self.last.as_ref(), &list, self.lost.take().is_some()) {
            if screen.is_none() {
                event.log(self.output)?;
            }
            self.event = Some((event, Instant::now() + REMEMBERED));
        }
        let is_news = self.last.as_ref().is_none_or(|last| differs(last, &list));
        if is_news && screen.is_none() {
            let between = match self.output {
                Output::Text => "\n",
                Output::Json => "",
            };
            let shown = shown(&list, self.output, Timestamp::now())?;
            write(&format!("{shown}{between}"))?;
        }
        self.last = Some(list);
        Ok(())
    }

    fn draw(&self, screen: &Screen) -> io::Result<()> {
        let event = match (&self.lost, &self.event) {
            (Some((since, event)), _) => Some(format!(
                "! the broker has not answered since {}: {}",
                since.strftime("%H:%M:%S UTC"),
                event.message
            )),
            (None, Some((event, until))) if Instant::now() < *until => {
                Some(format!("! {}", event.message))
            }
            (None, _) => None,
        };
        let now = Timestamp::now();
        screen
            .draw(|columns, rows| page(self.last.as_ref(), event, self.every, now, (columns, rows)))
    }
}

/// What has happened since the last list.
fn happened(
    last: Option<&ListDestinationsResponse>,
    now: &ListDestinationsResponse,
    was_lost: bool,
) -> Option<Event> {
    // To the nanosecond: a restart may take less than a second.
    let anew = last.is_some_and(|last| last.started_at != now.started_at);
    match (anew, was_lost) {
        (true, _) => {
            let at =
                moment(now.started_at.as_ref()).map_or_else(String::new, |at| format!(" at {at}"));
            let message = format!("the broker that answers was started{at}");
            Some(Event::new("STARTED", &message))
        }
        (false, true) => Some(Event::new("ANSWERS", "the broker answers again")),
        (false, false) => None,
    }
}

/// A terminal full: how it goes, what happened, the table with those in trouble first, and
/// below it what to see to, which has a third of the room at most.
fn page(
    list: Option<&ListDestinationsResponse>,
    event: Option<String>,
    every: Duration,
    now: Timestamp,
    (columns, rows_there_are): (usize, usize),
) -> Vec<String> {
    const SHARE_OF_NOTES: usize = 3;
    let time = now.strftime("%H:%M:%S UTC");
    let mut lines = vec![format!("{time}, every {every:?}, Ctrl-C ends")];
    let mut below = Vec::new();
    let mut table = Vec::new();
    if let Some(list) = list {
        lines[0] = format!("{}   {}", summary(list, now), lines[0]);
        let mut list = list.clone();
        list.destinations.sort_by_key(|one| rank(one.state()));
        table = rows(&list, now).lines().map(str::to_owned).collect();
        below = notes(&list);
        below.extend(replicas::line(&list.replicas));
    }
    lines.extend(event.map(|event| event.replace(char::is_control, " ")));
    lines.push(String::new());
    let mut lines = fit(lines, columns, rows_there_are);
    let room = rows_there_are - lines.len();
    if !below.is_empty() {
        below.insert(0, String::new());
    }
    let needed = room.saturating_sub(table.len());
    let below = fit(below, columns, needed.max(room / SHARE_OF_NOTES));
    let room = room - below.len();
    lines.extend(fit(table, columns, room));
    lines.extend(below);
    lines
}

/// How many there are in each state, the worst first, and how long the broker is up.
fn summary(list: &ListDestinationsResponse, now: Timestamp) -> String {
    let mut states: Vec<_> = list.destinations.iter().map(Destination::state).collect();
    states.sort_by_key(|state| rank(*state));
    let counts = states.chunk_by(|one, other| one == other).map(|of_one| {
        let word = word(of_one[0]).replace('_', " ");
        format!("{} {word}", of_one.len())
    });
    let mut summary = counts.collect::<Vec<_>>().join(", ");
    if let Some(started) = moment(list.started_at.as_ref()) {
        let up = Brief::since(started, now);
        summary = format!("{summary}   {} up {up}", list.version);
    }
    summary.replace(char::is_control, " ")
}

/// Who comes first.
fn rank(state: DestinationState) -> u8 {
    match state {
        DestinationState::Failing => 0,
        DestinationState::RefreshFailing => 1,
        DestinationState::Quarantined => 2,
        DestinationState::Pending => 3,
        DestinationState::Fresh => 4,
        DestinationState::Cold => 5,
        DestinationState::Unprotected => 6,
        DestinationState::Unspecified => 7,
    }
}

/// Whether there is news: a time that merely passes is none.
fn differs(before: &ListDestinationsResponse, now: &ListDestinationsResponse) -> bool {
    let news = |list: &ListDestinationsResponse| {
        let destinations = list.destinations.iter().map(|destination| Destination {
            runway: None,
            next_refresh_at: None,
            retry_at: None,
            minting: false,
            failures_in_a_row: 0,
            last_used_at: None,
            callers: Vec::new(),
            last_failure_at: None,
            last_success_at: None,
            // It is worked out anew at each look, and never quite the same.
            served_until: None,
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

impl Event {
    fn new(reason: &str, message: &str) -> Self {
        Self {
            reason: reason.to_owned(),
            message: message.to_owned(),
        }
    }

    /// Tells it beside what is printed.
    fn log(&self, output: Output) -> io::Result<()> {
        match output {
            Output::Text => eprintln!("{}: {}", self.reason, self.message),
            Output::Json => {
                let line = serde_json::to_string(self).map_err(io::Error::from)?;
                eprintln!("{line}");
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::list::tests::{at, list},
        *,
    };
    use crate::api::admin::v1::Replica;

    #[test]
    fn time_that_passes_is_no_news_and_anything_else_is() {
        let shared = || ListDestinationsResponse {
            replicas: vec![Replica::default()],
            ..list()
        };
        let before = shared();
        let mut now = shared();
        now.destinations[0].last_used_at = Some(at(999));
        now.destinations[0].runway = None;
        now.destinations[0].minting = true;
        now.destinations[0].served_until = Some(at(4541));
        now.destinations[1].failures_in_a_row += 1;
        now.destinations[1].warnings[0].message = "in 4m".to_owned();
        now.replicas[0].last_heard_at = Some(at(9));
        assert!(!differs(&before, &now));
        let changes: [fn(&mut ListDestinationsResponse); 6] = [
            |list| list.destinations[0].state = DestinationState::Failing.into(),
            |list| list.destinations[0].expires_at = Some(at(4601)),
            |list| list.replicas.clear(),
            |list| list.destinations[1].warnings.clear(),
            |list| list.destinations[1].quarantine = None,
            |list| drop(list.destinations.pop()),
        ];
        for change in changes {
            let mut now = shared();
            change(&mut now);
            assert!(differs(&before, &now));
        }
    }

    #[test]
    fn a_restart_and_an_answer_after_none_are_told() {
        let started = |second| ListDestinationsResponse {
            started_at: Some(at(second)),
            ..list()
        };
        let (one, other) = (started(1), started(2));
        assert_eq!(happened(None, &one, false), None);
        assert_eq!(happened(Some(&one), &one, false), None);
        let again = Event::new("ANSWERS", "the broker answers again");
        assert_eq!(happened(Some(&one), &one, true), Some(again));
        let message = "the broker that answers was started at 1970-01-01T00:00:02Z";
        for was_lost in [true, false] {
            let told = happened(Some(&one), &other, was_lost);
            assert_eq!(told, Some(Event::new("STARTED", message)));
        }
    }

    #[test]
    fn a_terminal_has_the_worst_first_and_no_more_than_there_is_room_for() {
        let now = Timestamp::from_second(1000).unwrap();
        let list = ListDestinationsResponse {
            started_at: Some(at(400)),
            version: "1.2.3".to_owned(),
            ..list()
        };
        let second = Duration::from_secs(1);
        let event = || Some("! the broker\nanswers again".to_owned());
        let whole = page(Some(&list), event(), second, now, (400, 50));
        assert_eq!(
            whole[0],
            "1 refresh failing, 1 fresh, 1 unprotected   1.2.3 up 10m   00:16:40 UTC, every 1s, Ctrl-C ends"
        );
        assert_eq!(whole[1], "! the broker answers again");
        assert!(whole[3].starts_with("DESTINATION"));
        assert!(whole[4].starts_with("xxx") && whole[5].starts_with("product-catalogue-v2"));
        assert_eq!(whole.len(), 10, "{whole:#?}");
        assert!(whole[9].starts_with("! xxx") && whole[9].contains("runway_short"));
        for columns in [0, 1, 10, 40, 200] {
            for rows in [0, 1, 2, 5, 8, 9, 10, 24] {
                let page = page(Some(&list), event(), second, now, (columns, rows));
                assert!(page.len() <= rows, "{page:#?}");
                assert!(
                    page.iter()
                        .all(|line| line.chars().count() <= columns.max(1))
                );
            }
        }
        let narrow = page(Some(&list), None, second, now, (60, 8));
        assert!(narrow[3].starts_with("xxx"), "{narrow:#?}");
        assert!(narrow.iter().any(|line| line.contains("more lines")));
        let nothing = page(None, event(), second, now, (80, 24));
        assert_eq!(nothing[0], "00:16:40 UTC, every 1s, Ctrl-C ends");
    }
}
