//! The replicas that share with the broker that was asked, in a list of destinations.

use serde::Serialize;

use crate::{api::admin::v1::Replica, cli::operator::text};

/// As many are named in a line for people.
const NAMED: usize = 10;

#[derive(Serialize)]
pub(super) struct ReplicaJson<'a> {
    name: &'a str,
    version: &'a str,
    started_at: Option<String>,
    last_heard_at: Option<String>,
    is_this: bool,
}

/// One line on who shares; nothing where nobody does.
pub(super) fn line(replicas: &[Replica]) -> Option<String> {
    let count = replicas.len();
    let noun = match count {
        0 => return None,
        1 => "replica",
        _ => "replicas",
    };
    // Of the one that was asked the version is known otherwise.
    let usual = replicas.first().map(|first| &first.version);
    let names = replicas.iter().take(NAMED).map(|replica| {
        let Replica { name, version, .. } = replica;
        let other = usual.filter(|usual| *usual != version).map(|_| version);
        match (replica.is_this, other) {
            (true, _) => format!("{name} (this one)"),
            (false, Some(version)) => format!("{name} ({version})"),
            (false, None) => name.clone(),
        }
    });
    let names = names.collect::<Vec<_>>().join(", ");
    // Whatever answers may have said anything.
    let names = names.replace(char::is_control, " ");
    Some(match count.checked_sub(NAMED) {
        None | Some(0) => format!("{count} {noun}: {names}"),
        Some(more) => format!("{count} {noun}: {names} and {more} more"),
    })
}

/// The same without what merely passes: a replica is heard of all the time.
pub(super) fn lasting(replicas: &[Replica]) -> Vec<Replica> {
    let replicas = replicas.iter().map(|replica| Replica {
        last_heard_at: None,
        ..replica.clone()
    });
    replicas.collect()
}

impl<'a> From<&'a Replica> for ReplicaJson<'a> {
    fn from(replica: &'a Replica) -> Self {
        Self {
            name: &replica.name,
            version: &replica.version,
            started_at: text(replica.started_at.as_ref()),
            last_heard_at: text(replica.last_heard_at.as_ref()),
            is_this: replica.is_this,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn replica(name: &str, version: &str) -> Replica {
        Replica {
            name: name.to_owned(),
            version: version.to_owned(),
            is_this: name == "a",
            ..Replica::default()
        }
    }

    #[test]
    fn a_line_tells_who_shares_and_who_runs_another_version() {
        let (a, b) = (replica("a", "1"), replica("b", "1"));
        let newer = replica("c\u{1b}", "2");
        for (replicas, expected) in [
            (vec![], None),
            (vec![a.clone()], Some("1 replica: a (this one)")),
            (
                vec![a.clone(), b.clone()],
                Some("2 replicas: a (this one), b"),
            ),
            (
                vec![a.clone(), b.clone(), newer],
                Some("3 replicas: a (this one), b, c  (2)"),
            ),
            (
                [vec![a], vec![b; 12]].concat(),
                Some("13 replicas: a (this one), b, b, b, b, b, b, b, b, b and 3 more"),
            ),
        ] {
            assert_eq!(line(&replicas).as_deref(), expected);
        }
    }
}
