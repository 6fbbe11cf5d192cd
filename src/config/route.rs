//! `[[destination.route]]`: which requests that pass a proxy go to a destination.

use std::collections::HashMap;

use super::{reader::Section, values};
use crate::mesh::Route;

/// The routes taken so far, and the line of each.
#[derive(Default)]
pub(super) struct RoutesTaken(HashMap<Route, usize>);

/// Reads a route; `None` only when a mistake was reported.
pub(super) fn read(section: Section<'_>, taken: &mut RoutesTaken) -> Option<Route> {
    let host = section.required("host", "\"global.occtoo.com\"", |value| {
        Route::to_host(values::text(value)?).map_err(|error| error.to_string())
    });
    // Read against any host, so that a mistake in the prefix shows beside one in the host.
    let below = |value| {
        let prefix = values::text(value)?;
        let anywhere = Route::to_host("localhost").and_then(|host| host.below(prefix));
        anywhere.map(|_| prefix).map_err(|error| error.to_string())
    };
    let prefix = section.or("path_prefix", "/", below);
    let route = host.and_then(|host| host.below(prefix).ok());
    if let Some(route) = &route {
        let line = section.findings().line(section.header().start);
        if let Some(taken) = taken.0.get(route) {
            let problem = format!(
                "and path are those of the route on line {taken}: write another path_prefix, or remove one of them"
            );
            section.report("host", &problem);
        } else {
            taken.0.insert(route.clone(), line);
        }
    }
    section.finish();
    route
}
