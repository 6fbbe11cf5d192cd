//! What a server holds, for whoever has broken into it.

use std::collections::{BTreeMap, BTreeSet};

use crate::{fleet::until, server::Server};

/// All that a server holds, by its name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Vault(BTreeMap<String, Vec<u8>>);

/// How many digits the name of something has that is kept.
const NAME: usize = 32;

impl Vault {
    /// What is kept once nobody mints: callers have a token before the others are told.
    pub(crate) async fn of(server: &Server) -> Self {
        let is_turn = |name: &Vec<u8>| name.ends_with(b":turn");
        until("nobody mints", async || {
            let names = server.names();
            !names.iter().any(is_turn)
        })
        .await;
        let names = server.names().into_iter();
        let held = names.filter_map(|name| {
            let name = String::from_utf8(name).unwrap();
            let dumped: Option<Vec<u8>> = server.ask(&["DUMP", &name]);
            dumped.map(|dumped| (name, dumped))
        });
        Self(held.collect())
    }

    /// The keyed hashes in the names of all that it holds.
    pub(crate) fn hashes(&self) -> BTreeSet<String> {
        self.0.keys().filter_map(|name| hash(name)).collect()
    }

    /// What belongs to this keyed hash.
    pub(crate) fn only(&self, hash: &str) -> Self {
        let entries = self.0.iter().filter(|(name, _)| name.contains(hash));
        Self(
            entries
                .map(|(name, dumped)| (name.clone(), dumped.clone()))
                .collect(),
        )
    }

    /// The same under the names of another keyed hash.
    pub(crate) fn renamed(&self, from: &str, to: &str) -> Self {
        let entries = self.0.iter();
        Self(
            entries
                .map(|(name, dumped)| (name.replace(from, to), dumped.clone()))
                .collect(),
        )
    }

    /// Puts all of it into the server, for good.
    pub(crate) fn put_back(&self, server: &Server) {
        let mut connection = server.connect();
        for (name, dumped) in &self.0 {
            redis::cmd("RESTORE")
                .arg(name)
                .arg(0)
                .arg(dumped)
                .arg("REPLACE")
                .exec(&mut connection)
                .unwrap();
        }
    }

    /// Takes all of it out of the server.
    pub(crate) fn take_out(&self, server: &Server) {
        for name in self.0.keys() {
            server.tell(&["DEL", name]);
        }
    }
}

/// The keyed hash in a name.
fn hash(name: &str) -> Option<String> {
    let digits = |character: char| !matches!(character, '0'..='9' | 'a'..='f');
    let mut parts = name.split(digits);
    parts.find(|part| part.len() == NAME).map(str::to_owned)
}

/// Every value that a server holds, wherever it is: what it is in, and the value.
pub(crate) fn values(server: &Server) -> Vec<(Location, Vec<u8>)> {
    let mut values = Vec::new();
    for name in server.names() {
        let name = String::from_utf8(name).unwrap();
        let kind: String = server.ask(&["TYPE", &name]);
        match kind.as_str() {
            "string" => {
                let value = server.ask(&["GET", &name]);
                values.push((Location { name, field: None }, value));
            }
            "hash" => {
                let fields: Vec<(Vec<u8>, Vec<u8>)> = server.ask(&["HGETALL", &name]);
                values.extend(fields.into_iter().map(|(field, value)| {
                    let location = Location {
                        name: name.clone(),
                        field: Some(field),
                    };
                    (location, value)
                }));
            }
            "none" => {}
            other => panic!("{name} is a {other}"),
        }
    }
    values
}

/// Where a value is.
#[derive(Clone, Debug)]
pub(crate) struct Location {
    pub(crate) name: String,
    field: Option<Vec<u8>>,
}

impl Location {
    /// Puts another value there.
    pub(crate) fn set(&self, server: &Server, value: &[u8]) {
        let mut command = redis::Cmd::new();
        match &self.field {
            Some(field) => command.arg("HSET").arg(&self.name).arg(field).arg(value),
            None => command.arg("SET").arg(&self.name).arg(value).arg("KEEPTTL"),
        };
        command.exec(&mut server.connect()).unwrap();
    }
}
