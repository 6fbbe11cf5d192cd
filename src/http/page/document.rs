//! The whole page.

use std::time::SystemTime;

use jiff::Timestamp;
use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::{
    query::{CHARACTERS, Query},
    rank::{Kind, rank},
    row::{icon, row, warned},
    scale::Scale,
    snapshot::{Sharing, Snapshot},
    span::{Span, clock, moment, until, when},
    timeline::axis,
};
use crate::{
    broker::{State, Survey},
    http::readiness::Readiness,
    listener::Expiry,
};

/// The shapes that are used again and again.
const SHAPES: &str = include_str!("shapes.svg");
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// How it goes as a whole.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Mood {
    Well,
    Warned,
    Bad,
}

pub(super) fn document(snapshot: &Snapshot, query: &Query) -> Markup {
    let (mood, headline) = headline(snapshot);
    html! {
        (DOCTYPE)
        html lang="en" data-version=(VERSION) {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                meta name="robots" content="noindex";
                title { (headline) " · token-broker" }
                link rel="icon" href=(mood.badge());
                link rel="stylesheet" href="/status.css";
                script src="/status.js" defer {}
            }
            body {
                (PreEscaped(SHAPES))
                header {
                    h1 { "token-broker" }
                    p #live role="status" {
                        "As of " (clock(snapshot.now, snapshot.now)) ". Reload for news."
                    }
                }
                main {
                    section #summary aria-label="Summary" data-live {
                        p #headline.(mood.label()) { (headline) }
                        (facts(snapshot))
                        @for warning in &snapshot.warnings { (warned(warning, snapshot.now)) }
                    }
                    (destinations(snapshot, query))
                    section #replicas aria-label="Replicas" data-live {
                        (replicas(&snapshot.sharing, snapshot.now))
                    }
                }
            }
        }
    }
}

/// The worst in one sentence.
fn headline(snapshot: &Snapshot) -> (Mood, String) {
    let count = |kind| count(snapshot, kind);
    let (failing, refreshes, stopped) = (
        count(Kind::Failing),
        count(Kind::RefreshFailing),
        count(Kind::Quarantined),
    );
    if snapshot.readiness == Readiness::Stopping {
        return (Mood::Bad, "Stopping".to_owned());
    }
    if failing > 0 {
        return (
            Mood::Bad,
            format!("{failing} failing: callers get no token"),
        );
    }
    if snapshot.readiness == Readiness::Unready {
        return (Mood::Bad, "Not ready".to_owned());
    }
    if refreshes > 0 {
        let runways = snapshot.surveys.iter().filter_map(failing_runway);
        let first = Span(runways.min().unwrap_or_default());
        let words = format!("{refreshes} cannot refresh: callers notice in {first}");
        return (Mood::Warned, words);
    }
    let warned = snapshot
        .surveys
        .iter()
        .filter(|survey| match &survey.state {
            State::Protected(state) => !state.warnings.is_empty(),
            State::Unprotected => false,
        });
    let warnings = warned.count() + snapshot.warnings.len();
    if stopped > 0 {
        return (Mood::Warned, format!("{stopped} quarantined"));
    }
    match warnings {
        0 => (Mood::Well, "All is well".to_owned()),
        1 => (Mood::Warned, "1 warning".to_owned()),
        many => (Mood::Warned, format!("{many} warnings")),
    }
}

fn failing_runway(survey: &Survey) -> Option<std::time::Duration> {
    match &survey.state {
        State::Protected(state) if Kind::of(survey) == Kind::RefreshFailing => Some(state.runway),
        _ => None,
    }
}

fn count(snapshot: &Snapshot, kind: Kind) -> usize {
    let surveys = snapshot.surveys.iter();
    surveys.filter(|survey| Kind::of(survey) == kind).count()
}

fn facts(snapshot: &Snapshot) -> Markup {
    let now = snapshot.now;
    html! {
        dl.facts {
            div { dt { "Readiness" } dd { (snapshot.readiness.words()) } }
            div { dt { "Version" } dd { (VERSION) } }
            div {
                dt { "Up" }
                dd { (Span(until(now, snapshot.started_at))) ", since " (clock(snapshot.started_at, now)) }
            }
            div {
                dt { "Shared cache" }
                dd {
                    @match &snapshot.sharing {
                        Sharing::Off => "none: this broker is on its own",
                        Sharing::Answers(_) => "answers",
                        Sharing::Trouble(code, _) => { b { "no answer" } " (" (code) ")" },
                    }
                }
            }
            @for (which, words) in EXPIRING {
                @if let Some(first) = first_to_expire(&snapshot.expiries, which) {
                    div { dt { (words) } dd { (expiry(first, now)) } }
                }
            }
        }
    }
}

/// What runs out, and what it is called here.
const EXPIRING: [(&str, &str); 3] = [
    ("server", "Certificate"),
    ("client_ca", "Client CA"),
    ("crl", "Revocation list"),
];

fn first_to_expire<'a>(expiries: &'a [Expiry], which: &str) -> Option<&'a Expiry> {
    let of_kind = expiries.iter().filter(|expiry| expiry.which == which);
    of_kind.min_by_key(|expiry| expiry.last)
}

fn expiry(expiry: &Expiry, now: SystemTime) -> Markup {
    let at = Timestamp::from_second(expiry.last).and_then(SystemTime::try_from);
    let Ok(at) = at else {
        return html! { "expires after the end of time" };
    };
    html! {
        @if at < now { b { "expired " (when(at, now)) } } @else { "expires " (when(at, now)) }
    }
}

fn destinations(snapshot: &Snapshot, query: &Query) -> Markup {
    let now = snapshot.now;
    let surveys = snapshot.surveys.iter();
    let mut wanted: Vec<_> = surveys.filter(|survey| query.wants(survey)).collect();
    wanted.sort_by_key(|survey| rank(survey));
    let found = wanted.len();
    wanted.truncate(query.most());
    let tokens = wanted.iter().filter_map(|survey| match &survey.state {
        State::Protected(state) => state.token,
        State::Unprotected => None,
    });
    let scale = Scale::of(tokens, now);
    html! {
        section #destinations aria-labelledby="h-destinations" {
            div.bar {
                h2 #h-destinations { "Destinations" }
                (filter(query))
            }
            nav #states aria-label="States" data-live { (states(snapshot, query)) }
            div #axis data-live { (axis(&scale)) }
            ul #rows data-rows { @for survey in &wanted { (row(survey, &scale, now)) } }
            p #found data-live { (shown(found, wanted.len(), query)) }
            (legend())
        }
    }
}

fn filter(query: &Query) -> Markup {
    html! {
        form #filter role="search" action="/" {
            label for="q" { "Filter" }
            input #q type="search" name="q" value=(query.text) maxlength=(CHARACTERS) autocomplete="off"
                placeholder="name, id, application, caller, state";
            @if let Some(kind) = query.kind { input type="hidden" name="state" value=(kind.label()); }
            button { "Show" }
        }
    }
}

/// How many there are in each state, and the way to those alone.
fn states(snapshot: &Snapshot, query: &Query) -> Markup {
    let link = |kind| query.address(kind, false);
    let is_current = |kind| (query.kind == kind).then_some("true");
    html! {
        a href=(link(None)) aria-current=[is_current(None)] { "all " b { (snapshot.surveys.len()) } }
        @for kind in Kind::ALL {
            @let count = count(snapshot, kind);
            @if count > 0 {
                a.(kind.label()) href=(link(Some(kind))) aria-current=[is_current(Some(kind))] {
                    (icon(kind)) (kind.word()) " " b { (count) }
                }
            }
        }
    }
}

/// What is not shown.
fn shown(found: usize, shown: usize, query: &Query) -> Markup {
    html! {
        @if found > shown {
            "The first " (shown) " of " (found) ", those in trouble before the others. "
            a href=(query.address(query.kind, true)) { "Show all" }
        }
        @else if found == 0 && query.is_everything() { "No destination is configured." }
        @else if found == 0 { "Nothing matches. " a href="/" { "Show everything" } }
        @else if !query.is_everything() { (found) " found. " a href="/" { "Show everything" } }
    }
}

fn legend() -> Markup {
    html! {
        p.legend aria-label="Legend of the time line" {
            span { svg width="26" height="12" aria-hidden="true" { rect.past width="26" height="12" rx="2" {} } "since it was minted" }
            span { svg.fresh width="26" height="12" aria-hidden="true" { rect.runway width="26" height="12" rx="2" {} } "runway: still handed out" }
            span { svg width="26" height="12" aria-hidden="true" { rect.margin width="26" height="12" rx="2" fill="url(#margin)" {} } "margin before expiry" }
            span { svg width="26" height="12" aria-hidden="true" { rect.gap width="26" height="12" rx="2" fill="url(#gap)" {} } "no token" }
            span { svg.refresh width="14" height="14" viewBox="-7 -7 14 14" aria-hidden="true" { use href="#m-refresh" {} } "refresh" }
            span { svg.retry width="14" height="14" viewBox="-7 -7 14 14" aria-hidden="true" { use href="#m-retry" {} } "next try" }
            span { svg.minting width="14" height="14" viewBox="-7 -7 14 14" aria-hidden="true" { use href="#m-minting" {} } "minting" }
        }
    }
}

fn replicas(sharing: &Sharing, now: SystemTime) -> Markup {
    let (Sharing::Answers(replicas) | Sharing::Trouble(_, replicas)) = sharing else {
        return html! {};
    };
    html! {
        h2 { "Replicas" }
        ul.replicas {
            @for replica in replicas {
                li {
                    b { bdi { (replica.name) } }
                    @if replica.is_this { " (this one)" }
                    span { "version " bdi { (replica.version) } }
                    span { "up " (Span(until(now, replica.since))) }
                    @if !replica.is_this { span { "heard of " (moment(replica.seen, now)) } }
                }
            }
        }
    }
}

impl Mood {
    fn label(self) -> &'static str {
        match self {
            Self::Well => "well",
            Self::Warned => "warned",
            Self::Bad => "bad",
        }
    }

    /// The icon in the tab: a disc, a triangle or a cross.
    fn badge(self) -> &'static str {
        match self {
            Self::Well => {
                "data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 16 16'%3E%3Ccircle cx='8' cy='8' r='6' fill='%231a7f4b'/%3E%3C/svg%3E"
            }
            Self::Warned => {
                "data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 16 16'%3E%3Cpath d='M8 1l8 14H0z' fill='%23c77700'/%3E%3C/svg%3E"
            }
            Self::Bad => {
                "data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 16 16'%3E%3Cpath d='M2 2l12 12M14 2L2 14' stroke='%23c62828' stroke-width='4'/%3E%3C/svg%3E"
            }
        }
    }
}
