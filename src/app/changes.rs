//! What a reload changed, one line each, for whoever asked for it.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    path::Path,
    sync::Arc,
};

use crate::{
    broker::Fault,
    config::{Application, Config, Destination, Grant, Protected, Protection, Server},
    destination::DestinationId,
    upstream::{Endpoint, Protocol},
};

use super::StartError;

/// What differs between two configurations, and which of their files are others now.
pub(super) fn changes(old: &Config, new: &Config, touched: &[&Path]) -> Vec<String> {
    let waits = |setting| format!("{setting} has changed: it waits for the next start");
    let (of_server, of_others): (Vec<_>, Vec<_>) =
        waiting(old, new).partition(|setting| setting.starts_with("[server]"));
    let mut changes: Vec<_> = of_server.into_iter().map(waits).collect();
    changes.extend(server(&old.server, &new.server, touched));
    changes.extend(of_others.into_iter().map(waits));
    if old.admin.allow != new.admin.allow {
        changes.push("[admin] allow has changed".to_owned());
    }
    if old.cache != new.cache {
        changes.push("[cache] has changed".to_owned());
    }
    if old.shared_cache != new.shared_cache {
        changes.push("[shared_cache] has changed".to_owned());
    }
    upstreams(old, new, &mut changes);
    destinations(old, new, &mut changes);
    changes
}

/// Which settings have changed that count only from the next start on.
pub(super) fn waiting(old: &Config, new: &Config) -> impl Iterator<Item = &'static str> {
    let settings = [
        ("[server] listen", old.server.listen != new.server.listen),
        ("[http]", old.http != new.http),
        ("[audit]", old.audit != new.audit),
        ("[telemetry]", old.telemetry != new.telemetry),
        (
            "[admin] state_file",
            old.admin.state_file != new.admin.state_file,
        ),
    ];
    let changed = settings.into_iter().filter(|(_, changed)| *changed);
    changed.map(|(setting, _)| setting)
}

/// What keeps a configuration from being taken in, one by one.
pub(super) fn faults(error: &StartError) -> Vec<Fault> {
    let StartError::Config(mistakes) = error else {
        return vec![Fault {
            place: String::new(),
            message: error.to_string(),
        }];
    };
    let file = mistakes.file().display();
    let faults = mistakes.as_slice().iter().map(|mistake| Fault {
        place: match mistake.at {
            Some(at) => format!("{file}:{at}"),
            None => file.to_string(),
        },
        message: mistake.message.clone(),
    });
    faults.collect()
}

fn server(old: &Server, new: &Server, touched: &[&Path]) -> Vec<String> {
    let mut changes = Vec::new();
    let is_touched = |file: &Path| touched.contains(&file);
    let (before, now) = (&old.tls, &new.tls);
    for (key, changed) in [
        ("cert", before.cert != now.cert || is_touched(&now.cert)),
        ("key", before.key != now.key || is_touched(&now.key)),
        (
            "client_ca",
            before.client_ca != now.client_ca || is_touched(&now.client_ca),
        ),
        (
            "crl",
            before.crl != now.crl || now.crl.iter().any(|file| is_touched(file)),
        ),
        ("crl_lenient", before.crl_lenient != now.crl_lenient),
        ("min_tls_version", before.min_version != now.min_version),
    ] {
        if changed {
            changes.push(format!("[server] {key} has changed"));
        }
    }
    if old.connections != new.connections || old.shares != new.shares {
        changes.push("[server] limits have changed".to_owned());
    }
    changes
}

fn upstreams(old: &Config, new: &Config, changes: &mut Vec<String>) {
    let by_name = |config: &Config| -> BTreeMap<_, _> {
        let upstreams = config.upstreams.iter();
        upstreams
            .map(|upstream| (upstream.name.clone(), Arc::clone(upstream)))
            .collect()
    };
    compare(&by_name(old), &by_name(new), changes, |name| {
        format!("upstream \"{name}\"")
    });
}

fn destinations(old: &Config, new: &Config, changes: &mut Vec<String>) {
    compare(&by_id(old), &by_id(new), changes, |id| {
        format!("destination \"{id}\"")
    });
    let old: HashMap<_, _> = old
        .destinations
        .iter()
        .map(|destination| (&destination.id, destination))
        .collect();
    for after in &new.destinations {
        if let Some(before) = old.get(&after.id) {
            let id = &after.id;
            grants(id, &grants_of(before), &grants_of(after), changes);
            compare(
                &applications(before),
                &applications(after),
                changes,
                |name| format!("destination \"{id}\": the credential of \"{name}\""),
            );
        }
    }
}

/// Says what is new, gone or other.
fn compare<V: PartialEq>(
    old: &BTreeMap<String, V>,
    new: &BTreeMap<String, V>,
    changes: &mut Vec<String>,
    shown: impl Fn(&str) -> String,
) {
    for (name, value) in new {
        match old.get(name) {
            None => changes.push(format!("{} is new", shown(name))),
            Some(before) if before != value => {
                changes.push(format!("{} has changed", shown(name)));
            }
            Some(_) => {}
        }
    }
    for name in old.keys().filter(|name| !new.contains_key(*name)) {
        changes.push(format!("{} is gone", shown(name)));
    }
}

/// What a destination has beside grants and credentials.
#[derive(PartialEq)]
struct Settings<'a> {
    name: Option<&'a str>,
    warm: bool,
    /// Nothing where it is unprotected.
    token: Option<(&'a str, &'a Protocol, &'a Endpoint)>,
}

impl<'a> From<&'a Destination> for Settings<'a> {
    fn from(destination: &'a Destination) -> Self {
        let token = match &destination.protection {
            Protection::Unprotected => None,
            Protection::Protected(protected) => {
                let Protected {
                    upstream,
                    protocol,
                    endpoint,
                    applications: _, // compared by themselves
                } = &**protected;
                Some((upstream.name.as_str(), protocol, endpoint))
            }
        };
        Self {
            name: destination.name.as_ref().map(DestinationId::as_str),
            warm: destination.warm,
            token,
        }
    }
}

fn by_id(config: &Config) -> BTreeMap<String, Settings<'_>> {
    let destinations = config.destinations.iter();
    destinations
        .map(|destination| (destination.id.to_string(), destination.into()))
        .collect()
}

/// Says which grants are new or gone, and whether those that stay are in another order,
/// which decides when several match.
fn grants(id: &DestinationId, old: &[String], new: &[String], changes: &mut Vec<String>) {
    let [was, is]: [BTreeSet<_>; 2] = [old, new].map(|grants| grants.iter().collect());
    for grant in is.difference(&was) {
        changes.push(format!("destination \"{id}\": the grant of {grant} is new"));
    }
    for grant in was.difference(&is) {
        changes.push(format!(
            "destination \"{id}\": the grant of {grant} is gone"
        ));
    }
    let stayed = old.iter().filter(|grant| is.contains(grant));
    let stays = new.iter().filter(|grant| was.contains(grant));
    if !stayed.eq(stays) {
        changes.push(format!(
            "destination \"{id}\": the order of its grants has changed"
        ));
    }
}

/// The grants in their order; of two that say the same the first one counts.
fn grants_of(destination: &Destination) -> Vec<String> {
    let mut known = BTreeSet::new();
    let mut grants = Vec::new();
    for Grant {
        callers,
        application,
    } in &destination.grants
    {
        for pattern in callers {
            let name = match application {
                Some(application) => format!("\"{application}\" to \"{pattern}\""),
                None => format!("nothing to \"{pattern}\""),
            };
            if known.insert(name.clone()) {
                grants.push(name);
            }
        }
    }
    grants
}

/// The state of each application's credential, which tells nothing of it.
fn applications(destination: &Destination) -> BTreeMap<String, (String, u64)> {
    let Protection::Protected(protected) = &destination.protection else {
        return BTreeMap::new();
    };
    let applications = protected.applications.iter();
    applications
        .map(|Application { name, credential }| {
            let reference = credential.current.name.credential.to_string();
            (name.to_string(), (reference, credential.generation().0))
        })
        .collect()
}
