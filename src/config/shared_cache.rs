//! `[shared_cache]`: what replicas share, and through which servers.

use std::{
    cell::{Cell, RefCell},
    mem,
    ops::RangeInclusive,
    sync::Arc,
    time::Duration,
};

use toml::de::DeValue;
use zeroize::Zeroizing;

use super::{
    folder::{Folder, names},
    host_port::host_port,
    reader::Section,
    secret_file, values,
};
use crate::{
    pem_file::{self, PemError},
    secret::Secret,
    shared_cache::{HostPort, Login, Ring, Servers, Settings, Tls},
};

const DEFAULT_NAMESPACE: &str = "token-broker";
/// A server nearby answers in a fraction of it, and minting takes several times as long.
const DEFAULT_TIMEOUT: Duration = Duration::from_millis(50);

const TIMEOUTS: RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_secs(5);
/// Redis counts its databases in as many bits.
const DATABASES: RangeInclusive<usize> = 0..=u16::MAX as usize;
const MAX_NAMESPACE: usize = 64;
/// The key that seals, and during a rotation another one.
const MAX_KEYS: usize = 2;

const SERVER_PORT: u16 = 6379;
const SENTINEL_PORT: u16 = 26379;

/// The keys that say where the servers are; one of them is written.
const PLACES: [&str; 3] = ["server", "cluster", "sentinels"];

/// Reads the section, if it is written.
pub(super) fn read(root: &Section<'_>, folder: &Folder) -> Option<Settings> {
    let is_written = root.has("shared_cache");
    let section = root.section("shared_cache", "[shared_cache]");
    if !is_written {
        return None;
    }
    let servers = read_servers(&section, folder);
    let login = read_login(
        &section,
        folder,
        "username",
        ("password_file", "\"redis.password\""),
    );
    let database = read_database(&section);
    let tls = read_tls(&section, folder);
    let ring = read_ring(&section, folder);
    let namespace = section.or("namespace", DEFAULT_NAMESPACE.to_owned(), namespace);
    let timeout = section.or("timeout", DEFAULT_TIMEOUT, values::duration(TIMEOUTS));
    section.finish();
    Some(Settings {
        servers: servers?,
        login,
        tls,
        database,
        namespace,
        timeout,
        ring: ring?,
    })
}

fn read_servers(section: &Section<'_>, folder: &Folder) -> Option<Servers> {
    let mut written = PLACES.into_iter().filter(|key| section.has(key));
    match written.next() {
        None => section.report_missing(
            "server",
            "\"redis.example:6379\", or cluster or sentinels with an array of those",
        ),
        Some(first) => {
            for other in written {
                section.report(
                    other,
                    &format!("cannot stand beside {first:?}: write one of them"),
                );
            }
        }
    }
    let server = section.optional("server", host_port(SERVER_PORT));
    let nodes = |key, example, port| {
        let nodes = section
            .has(key)
            .then(|| section.required_list(key, example, each_once(port)));
        nodes.filter(|nodes| !nodes.is_empty())
    };
    let cluster = nodes("cluster", "[\"node-a.example:6379\"]", SERVER_PORT);
    let sentinels = nodes("sentinels", "[\"sentinel-a.example:26379\"]", SENTINEL_PORT);
    let master = section.optional("master", values::line);
    let login = read_login(
        section,
        folder,
        "sentinel_username",
        ("sentinel_password_file", "\"sentinel.password\""),
    );
    if section.has("sentinels") {
        if !section.has("master") {
            section.report_missing("master", "\"mymaster\"");
        }
    } else {
        for key in ["master", "sentinel_username", "sentinel_password_file"] {
            if section.has(key) {
                section.report(key, "is for sentinels: remove it, or write sentinels = [\"sentinel-a.example:26379\"]");
            }
        }
    }
    let by_sentinels = sentinels
        .zip(master)
        .map(|(sentinels, master)| Servers::Sentinel {
            sentinels,
            master: master.to_owned(),
            login,
        });
    let one = server.map(Servers::One);
    one.or(cluster.map(Servers::Cluster)).or(by_sentinels)
}

/// Servers, none of which is written twice: where two are meant, one of them is missing.
fn each_once(port: u16) -> impl Fn(&DeValue<'_>) -> Result<HostPort, String> {
    let (read, written) = (host_port(port), RefCell::new(Vec::new()));
    move |value| {
        let server = read(value)?;
        let mut written = written.borrow_mut();
        if written.contains(&server) {
            return Err(format!("names {server} twice: remove one of them"));
        }
        written.push(server.clone());
        Ok(server)
    }
}

fn read_login(
    section: &Section<'_>,
    folder: &Folder,
    username: &'static str,
    (password_file, example): (&'static str, &str),
) -> Login {
    let password = section.optional(password_file, |value| secret_file::password(folder, value));
    let login = Login {
        username: section.optional(username, values::line).map(str::to_owned),
        password: password.map(Arc::new),
    };
    if section.has(username) && !section.has(password_file) {
        section.report_missing(password_file, example);
    }
    login
}

fn read_database(section: &Section<'_>) -> u16 {
    let database = section.or("database", 0, values::number(DATABASES));
    if section.has("database") && section.has("cluster") {
        section.report(
            "database",
            "cannot stand beside \"cluster\": a cluster has database 0 only, so remove it",
        );
    }
    // Within the bounds of DATABASES.
    u16::try_from(database).unwrap_or_default()
}

fn read_tls(section: &Section<'_>, folder: &Folder) -> Option<Tls> {
    let on = section.optional("tls", values::boolean);
    let ca = section.optional("ca", |value| authorities(folder, value));
    let client = read_client(section, folder);
    // What is neither true nor false may have been meant to be true.
    let is_off = on == Some(false) || !section.has("tls");
    for key in ["ca", "cert", "key"] {
        if is_off && section.has(key) {
            section.report(key, "is for TLS: write tls = true, or remove it");
        }
    }
    (on == Some(true)).then_some(Tls { ca, client })
}

fn authorities(folder: &Folder, value: &DeValue<'_>) -> Result<Vec<u8>, String> {
    let path = folder.path(value)?;
    match pem_file::authorities(&path) {
        Ok(file) => Ok(file.bytes.to_vec()),
        Err(error) => Err(names(&path, error)),
    }
}

/// The broker's own certificate and its key, or neither.
fn read_client(section: &Section<'_>, folder: &Folder) -> Option<(Vec<u8>, Arc<Secret>)> {
    let cert = section.optional("cert", |value| {
        let path = folder.path(value)?;
        pem_file::certificates(&path).map_err(|error| names(&path, error))
    });
    let key = section.optional("key", |value| {
        let path = folder.path(value)?;
        let file = pem_file::private_key(&path).map_err(|error| names(&path, error))?;
        if let Some(cert) = &cert {
            pem_file::belong_together(&cert.content, &file.content)
                .map_err(|error| names(&path, error))?;
        }
        // What is read as a key in PEM is text, but for what stands around it.
        text(file.bytes).ok_or_else(|| names(&path, PemError::NoPrivateKey))
    });
    match (section.has("cert"), section.has("key")) {
        (true, false) => section.report_missing("key", "\"redis-key.pem\""),
        (false, true) => section.report_missing("cert", "\"redis.pem\""),
        _ => {}
    }
    Some((cert?.bytes.to_vec(), Arc::new(key?)))
}

fn text(mut bytes: Zeroizing<Vec<u8>>) -> Option<Secret> {
    match String::from_utf8(mem::take(&mut *bytes)) {
        Ok(text) => Some(Secret::new(text)),
        Err(error) => {
            drop(Zeroizing::new(error.into_bytes()));
            None
        }
    }
}

fn read_ring(section: &Section<'_>, folder: &Folder) -> Option<Arc<Ring>> {
    let written = Cell::new(0);
    let keys = section.required_list("sealing_keys", "[\"shared-cache.key\"]", |value| {
        written.set(written.get() + 1);
        if written.get() > MAX_KEYS {
            return Err("must be one key, or two during a rotation: remove this one".to_owned());
        }
        secret_file::sealing_key(folder, value)
    });
    let (current, others) = keys.split_first()?;
    let other = others.first().map(Secret::expose);
    // Both were looked at one by one already.
    let ring = |key| Ring::new(key, None).ok();
    if other.is_some_and(|other| ring(other) == ring(current.expose())) {
        section.report(
            "sealing_keys",
            "names the same key twice: remove one of them",
        );
    }
    Ring::new(current.expose(), other).ok().map(Arc::new)
}

fn namespace(value: &DeValue<'_>) -> Result<String, String> {
    let text = values::text(value)?;
    let known = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    let is_namespace = (1..=MAX_NAMESPACE).contains(&text.len()) && text.bytes().all(known);
    is_namespace.then(|| text.to_owned()).ok_or_else(|| {
        format!("must be 1 to {MAX_NAMESPACE} characters of A-Z a-z 0-9 . _ -, such as {DEFAULT_NAMESPACE:?}")
    })
}
