//! One destination.

use std::time::{Duration, SystemTime};

use maud::{Markup, html};

use super::{
    rank::Kind,
    scale::Scale,
    span::{Span, clock, moment, when},
    timeline::{next, timeline},
    words::{advice, meaning, rotation},
};
use crate::{
    broker::{Protected, State, Survey, Trouble, Warning},
    usage::MOST_CALLERS,
};

/// As many callers are named here; the command line names all that are known.
const CALLERS: usize = 8;

/// What is due for longer than this waits for a caller.
const LATE: Duration = Duration::from_secs(2);

pub(super) fn row(survey: &Survey, scale: &Scale, now: SystemTime) -> Markup {
    let kind = Kind::of(survey);
    let state = match &survey.state {
        State::Protected(state) => Some(&**state),
        State::Unprotected => None,
    };
    let application = state.map_or("", |state| state.application.as_str());
    // What both are made of has no slash.
    let key = format!("d/{}/{application}", survey.id);
    html! {
        li.row.(kind.label()) id=(key) {
            details {
                summary id={ "s/" (key) } {
                    span.state { (icon(kind)) (kind.word()) }
                    span.who {
                        span.name { (survey.name.as_ref().unwrap_or(&survey.id)) }
                        @if !application.is_empty() { " " span.application { (application) } }
                    }
                    @if let Some(state) = state {
                        (timeline(state, kind, scale, now))
                        span.runway { (runway(state, kind)) }
                        span.next { (next_words(state, kind, now)) }
                    }
                    @else {
                        span.public { "public: callers need no token" }
                    }
                }
                (all(survey, state, now))
            }
            @if let Some(state) = state { (notes(survey, state, kind, now)) }
        }
    }
}

/// The sign of a state, which differs in shape and not in colour alone.
pub(super) fn icon(kind: Kind) -> Markup {
    html! {
        svg.icon aria-hidden="true" width="16" height="16" { use href={ "#i-" (kind.label()) } {} }
    }
}

fn runway(state: &Protected, kind: Kind) -> Markup {
    html! {
        @match kind {
            Kind::Quarantined => span.none { "stopped" },
            Kind::Cold | Kind::Pending => span.none { "no token yet" },
            _ if state.runway.is_zero() => span.none { "no token" },
            _ => { span.unit { "runway " } (Span(state.runway)) },
        }
    }
}

fn next_words(state: &Protected, kind: Kind, now: SystemTime) -> String {
    if state.is_minting {
        return "minting now".to_owned();
    }
    match next(state, kind) {
        // The schedule leaves alone what nobody uses.
        Some((_, at)) if at + LATE < now => "when somebody asks".to_owned(),
        Some(("retry", at)) => format!("next try {}", when(at, now)),
        Some((_, at)) => format!("refresh {}", when(at, now)),
        None if kind == Kind::Cold => "nobody asked yet".to_owned(),
        None => String::new(),
    }
}

/// What an operator should read without being asked to.
fn notes(survey: &Survey, state: &Protected, kind: Kind, now: SystemTime) -> Markup {
    let is_failing = matches!(kind, Kind::Failing | Kind::RefreshFailing);
    let failure = state.last_failure.filter(|_| is_failing);
    html! {
        @if let Some((reason, at)) = failure {
            p.note {
                code { (reason.code()) } ": " (meaning(reason))
                @if reason.needs_an_operator() { " " bdi { (state.secret.credential) } }
                ", " (times(state.failures))
                ", last " (when(at, now)) ". "
                @if kind == Kind::Failing { b { "Callers get no token. " } }
                @else { b { "Callers notice in " (Span(state.runway)) ". " } }
                (advice(reason))
            }
        }
        @if let Some(quarantine) = &state.quarantine {
            p.note {
                "Stopped " (when(quarantine.since.wall(), now)) " by "
                bdi { (quarantine.administrator) }
                @if !quarantine.comment.is_empty() { ": “" bdi { (quarantine.comment) } "”" }
                ". To end it: " code { "token-broker destination release " (survey.id) }
            }
        }
        // What they mean is said above.
        @let said = |warning: &&Warning| failure.is_some() && is_said_with(warning.trouble);
        @if state.warnings.iter().any(|warning| said(&warning)) {
            p.note.warning {
                @for warning in state.warnings.iter().filter(said) {
                    code { (warning.trouble.label()) } " since " (clock(warning.since, now)) ". "
                }
            }
        }
        @for warning in state.warnings.iter().filter(|warning| !said(warning)) {
            (warned(warning, now))
        }
    }
}

/// Whether the note about a failure says what this warning means.
fn is_said_with(trouble: Trouble) -> bool {
    matches!(trouble, Trouble::CredentialRejected | Trouble::RunwayShort)
}

/// A warning, with its beginning.
pub(super) fn warned(warning: &Warning, now: SystemTime) -> Markup {
    html! {
        p.note.warning {
            code { (warning.trouble.label()) } ": " bdi { (warning.message) }
            " (since " (clock(warning.since, now)) ")"
        }
    }
}

fn times(failures: u32) -> String {
    match failures {
        0 | 1 => "once".to_owned(),
        many => format!("{many} times in a row"),
    }
}

/// Everything else that is known.
fn all(survey: &Survey, state: Option<&Protected>, now: SystemTime) -> Markup {
    html! {
        dl {
            @if survey.name.is_some() { dt { "Id" } dd { (survey.id) } }
            @if let Some(state) = state { (facts(state, now)) }
            dt { "Last use" }
            dd {
                @match survey.last_used {
                    Some(at) => (moment(at, now)),
                    None => "never",
                }
            }
            @if let Some(state) = state { dt { "Callers" } dd { (callers(state)) } }
        }
    }
}

fn facts(state: &Protected, now: SystemTime) -> Markup {
    html! {
        @if let Some(token) = &state.token {
            dt { "Token minted" } dd { (moment(token.requested_at, now)) }
            dt { "Refresh due" } dd { (moment(token.refresh_at, now)) }
            dt { "Handed out until" } dd { (moment(token.served_until, now)) }
            dt { "Expires" } dd { (moment(token.expires_at, now)) }
        }
        @if let Some(at) = state.last_success { dt { "Last success" } dd { (moment(at, now)) } }
        @if let Some((reason, at)) = state.last_failure {
            dt { "Last failure" }
            dd { code { (reason.code()) } ", " (moment(at, now)) ": " (meaning(reason)) }
        }
        @if let Some(at) = state.retry_at { dt { "Next try" } dd { (moment(at, now)) } }
        dt { "Credential" }
        dd { bdi { (state.secret.credential) } @if let Some(trial) = state.trial { ": " (rotation(trial)) } }
    }
}

/// Who was served since the start.
fn callers(state: &Protected) -> Markup {
    let more = state.callers.len().saturating_sub(CALLERS);
    html! {
        @if state.callers.is_empty() { "nobody since the start" }
        @else {
            ul { @for caller in state.callers.iter().take(CALLERS) { li { bdi { (caller) } } } }
            @if more > 0 {
                "and " (more) @if state.callers.len() >= MOST_CALLERS { " or more" }
                " others: " code { "token-broker destination list --output json" }
            }
        }
    }
}
