//! Where log events go, and panics without their payload.

use std::{
    io::{self, IsTerminal as _},
    panic, thread,
};

use tracing::{Dispatch, Level, dispatcher, level_filters::LevelFilter};
use tracing_subscriber::{Layer as _, filter::Targets, fmt::MakeWriter, layer::SubscriberExt as _};

use crate::config::LogFormat;

/// The target that every event of this crate begins with.
const OWN_TARGET: &str = "token_broker";

/// Something else in this process already receives the log events.
#[derive(Debug, thiserror::Error)]
#[error("logging was started twice")]
pub struct AlreadyStarted;

/// Starts writing log events to standard error.
///
/// On a terminal they are lines for people, elsewhere flat JSON objects, unless
/// `format` decides: `timestamp`, `level`, `message`, the event's own fields,
/// `target`, and under `span` the fields of the surrounding span.
///
/// `level` is for this crate's events. Dependencies are cut at WARN, since at
/// TRACE the HTTP and TLS libraries print what they carry. No environment
/// variable changes either.
///
/// # Errors
/// [`AlreadyStarted`] on the second call in a process.
pub fn start(level: Level, format: LogFormat) -> Result<(), AlreadyStarted> {
    let style = Style::choose(format, io::stderr().is_terminal());
    dispatcher::set_global_default(subscriber(level.into(), style, io::stderr))
        .map_err(|_| AlreadyStarted)
}

/// Makes panics say where they happened and in which thread, but never why: a
/// payload may quote what the code was holding, and that may be a secret.
pub fn hide_panic_payloads() {
    panic::set_hook(Box::new(|info| {
        let thread = thread::current();
        let thread = thread.name().unwrap_or("unnamed");
        let location = info.location().map(ToString::to_string);
        let location = location.as_deref().unwrap_or("unknown");
        if dispatcher::has_been_set() {
            tracing::error!(thread, location, "panicked");
        } else {
            eprintln!("thread {thread} panicked at {location}");
        }
    }));
}

/// How the lines look, once it is known where they go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Style {
    Text { colours: bool },
    Json,
}

impl Style {
    fn choose(format: LogFormat, terminal: bool) -> Self {
        match format {
            LogFormat::Auto if !terminal => Self::Json,
            LogFormat::Auto | LogFormat::Pretty => Self::Text { colours: terminal },
            LogFormat::Json => Self::Json,
        }
    }
}

fn subscriber<W>(level: LevelFilter, style: Style, writer: W) -> Dispatch
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let lines = tracing_subscriber::fmt::layer().with_writer(writer);
    let lines = match style {
        Style::Text { colours: true } => lines.boxed(),
        Style::Text { colours: false } => lines.with_ansi(false).boxed(),
        Style::Json => lines
            .json()
            .flatten_event(true)
            .with_span_list(false)
            .boxed(),
    };
    let levels = Targets::new()
        .with_default(level.min(LevelFilter::WARN))
        .with_target(OWN_TARGET, level);
    Dispatch::new(tracing_subscriber::registry().with(lines.with_filter(levels)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::lines::Lines;

    fn logged(level: LevelFilter, style: Style, events: impl FnOnce()) -> String {
        let lines = Lines::default();
        dispatcher::with_default(&subscriber(level, style, lines.clone()), events);
        lines.text()
    }

    #[test]
    fn auto_is_text_on_a_terminal_and_json_elsewhere() {
        for (format, terminal, style) in [
            (LogFormat::Auto, true, Style::Text { colours: true }),
            (LogFormat::Auto, false, Style::Json),
            (LogFormat::Pretty, true, Style::Text { colours: true }),
            (LogFormat::Pretty, false, Style::Text { colours: false }),
            (LogFormat::Json, true, Style::Json),
            (LogFormat::Json, false, Style::Json),
        ] {
            assert_eq!(Style::choose(format, terminal), style, "{format:?}");
        }
    }

    #[test]
    fn json_events_are_flat() {
        let text = logged(LevelFilter::INFO, Style::Json, || {
            let _request = tracing::info_span!("request", caller = "spiffe://td/cart").entered();
            tracing::info!(destination = "orders", waited = 3, "token served");
        });
        let event: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert!(event["timestamp"].as_str().unwrap().ends_with('Z'));
        assert_eq!(event["level"], "INFO");
        assert_eq!(event["message"], "token served");
        assert_eq!(event["destination"], "orders");
        assert_eq!(event["waited"], 3);
        assert_eq!(event["target"], "token_broker::telemetry::logs::tests");
        assert_eq!(event["span"]["caller"], "spiffe://td/cart");
        assert_eq!(text.lines().count(), 1);
    }

    #[test]
    fn text_has_colours_only_on_a_terminal() {
        let hello = || tracing::info!("hello");
        let plain = logged(LevelFilter::INFO, Style::Text { colours: false }, hello);
        assert!(
            plain.ends_with("hello\n") && !plain.contains('\x1b'),
            "{plain}"
        );
    }

    #[test]
    fn dependencies_are_cut_at_warn_whatever_the_level() {
        for (level, expected) in [
            (
                LevelFilter::TRACE,
                vec!["own trace", "own error", "h2 warn", "h2 error"],
            ),
            (LevelFilter::INFO, vec!["own error", "h2 warn", "h2 error"]),
            (LevelFilter::ERROR, vec!["own error", "h2 error"]),
            (LevelFilter::OFF, vec![]),
        ] {
            let text = logged(level, Style::Json, || {
                tracing::trace!("own trace");
                tracing::error!("own error");
                tracing::trace!(target: "h2::codec", "h2 trace");
                tracing::debug!(target: "rustls::client", "rustls debug");
                tracing::info!(target: "hyper", "hyper info");
                tracing::warn!(target: "h2", "h2 warn");
                tracing::error!(target: "h2", "h2 error");
            });
            let messages: Vec<_> = text
                .lines()
                .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap())
                .map(|event| event["message"].as_str().unwrap().to_owned())
                .collect();
            assert_eq!(messages, expected, "{level}");
        }
    }

    #[test]
    fn a_panic_shows_its_place_and_thread_but_not_its_payload() {
        let before = panic::take_hook();
        hide_panic_payloads();
        let lines = Lines::default();
        let dispatch = subscriber(LevelFilter::INFO, Style::Json, lines.clone());
        let outcome = thread::Builder::new()
            .name("refresher".to_owned())
            .spawn(move || {
                dispatcher::with_default(&dispatch, || panic!("{}", "canary".to_owned()));
            })
            .unwrap()
            .join();
        panic::set_hook(before);

        assert!(outcome.is_err());
        let event: serde_json::Value = serde_json::from_str(&lines.text()).unwrap();
        assert_eq!(event["level"], "ERROR");
        assert_eq!(event["message"], "panicked");
        assert_eq!(event["thread"], "refresher");
        assert!(
            event["location"]
                .as_str()
                .unwrap()
                .starts_with("src/telemetry/logs.rs:")
        );
        assert!(!lines.text().contains("canary"));
    }
}
