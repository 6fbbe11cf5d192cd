//! One row's part of the time line that all rows share, and the axis above them.
//!
//! Everything is placed by SVG attributes in percent, since the page allows no inline style.

use std::time::SystemTime;

use maud::{Markup, html};

use super::{
    rank::Kind,
    scale::{Place, Scale},
    span::{Span, until, when},
};
use crate::broker::{Protected, TokenTimes};

/// Where the bars are, in pixels.
const TOP: u8 = 9;
const HEIGHT: u8 = 12;

/// The axis above all rows, which also has what all of them show alike.
pub(super) fn axis(scale: &Scale) -> Markup {
    let ticks = scale.ticks();
    html! {
        svg.axis aria-hidden="true" {
            g.grid id="grid" {
                line x1="0" x2="100%" y1="15" y2="15" {}
                @for tick in &ticks {
                    line x1=(percent(tick.at)) x2=(percent(tick.at)) y1="11" y2="19" {}
                }
            }
            line.now id="now" x1=(percent(scale.now())) x2=(percent(scale.now())) y1="-8" y2="38" {}
            @for tick in &ticks {
                text.tick x=(percent(tick.at)) y="13" text-anchor=(anchor(tick.at)) { (tick.text) }
            }
            text.now x=(percent(scale.now())) y="13" text-anchor="middle" { "now" }
        }
    }
}

/// How a text stands by its place: one in the middle of an end would be cut.
fn anchor(at: u16) -> &'static str {
    match at {
        0..60 => "start",
        60..=940 => "middle",
        _ => "end",
    }
}

/// A row of the time line.
pub(super) fn timeline(state: &Protected, kind: Kind, scale: &Scale, now: SystemTime) -> Markup {
    html! {
        svg.line role="img" aria-label=(told(state, kind, now)) {
            use href="#grid" {}
            @match (&state.token, &state.quarantine) {
                (_, Some(quarantine)) => {
                    (part("stopped", scale, quarantine.since.wall(), now, Some("url(#stopped)")))
                }
                (Some(token), None) => (bar(token, kind, scale, now)),
                (None, None) => {}
            }
            use href="#now" {}
            @if state.is_minting { (mark("minting", scale.now(), "minting")) }
            @if let Some((shape, at)) = next(state, kind) {
                // One that waits for a caller is due now.
                @match scale.place(if shape == "retry" { at.max(now) } else { at }) {
                    Place::At(tenths) => (mark(shape, tenths, shape)),
                    Place::Before | Place::After => {}
                }
            }
        }
    }
}

/// The token from its request to its end.
fn bar(token: &TokenTimes, kind: Kind, scale: &Scale, now: SystemTime) -> Markup {
    let TokenTimes {
        requested_at,
        served_until,
        expires_at,
        ..
    } = *token;
    html! {
        (part("past", scale, requested_at, now.min(served_until), None))
        (part("runway", scale, now, served_until, None))
        (part("margin", scale, served_until, expires_at, Some("url(#margin)")))
        @if kind == Kind::Failing {
            (part("gap", scale, served_until, now, Some("url(#gap)")))
        }
        @if scale.place(expires_at) == Place::After {
            svg.beyond x="100%" y="15" overflow="visible" { path d="M-7-6 0 0l-7 6z" {} }
        }
    }
}

/// What lies between two moments, as far as it is on the scale.
fn part(
    class: &str,
    scale: &Scale,
    from: SystemTime,
    to: SystemTime,
    fill: Option<&str>,
) -> Markup {
    let (start, end) = (scale.clamped(from), scale.clamped(to));
    html! {
        @if start < end {
            rect class=(class) x=(percent(start)) width=(percent(end - start)) y=(TOP)
                height=(HEIGHT) rx="2" fill=[fill] {}
        }
    }
}

fn mark(class: &str, at: u16, symbol: &str) -> Markup {
    html! {
        svg class=(class) x=(percent(at)) y="15" overflow="visible" {
            use href={ "#m-" (symbol) } {}
        }
    }
}

/// What happens next, if it is known when.
pub(super) fn next(state: &Protected, kind: Kind) -> Option<(&'static str, SystemTime)> {
    if state.is_minting || kind == Kind::Quarantined {
        return None;
    }
    // The later of refresh and retry: a token delays a retry, and a back-off a refresh.
    let what = if state.failures > 0 {
        "retry"
    } else {
        "refresh"
    };
    state.due_at.map(|at| (what, at))
}

/// The same in words.
fn told(state: &Protected, kind: Kind, now: SystemTime) -> String {
    if let Some(quarantine) = &state.quarantine {
        return format!("Stopped {}.", when(quarantine.since.wall(), now));
    }
    let mut words = match &state.token {
        None => "No token.".to_owned(),
        Some(token) if token.served_until <= now => {
            format!("The last token ended {}.", when(token.served_until, now))
        }
        Some(token) => format!(
            "Token minted {}, handed out for another {}, expires {}.",
            when(token.requested_at, now),
            Span(until(token.served_until, now)),
            when(token.expires_at, now)
        ),
    };
    if state.is_minting {
        words.push_str(" Minting now.");
    }
    let next = match next(state, kind) {
        Some(("retry", at)) => format!(" Next try {}.", when(at, now)),
        Some((_, at)) if at > now => format!(" Refresh {}.", when(at, now)),
        _ => String::new(),
    };
    words + &next
}

fn percent(tenths: u16) -> String {
    match (tenths / 10, tenths % 10) {
        (whole, 0) => format!("{whole}%"),
        (whole, part) => format!("{whole}.{part}%"),
    }
}
