//! The configuration: one TOML file, read into plain structs.
//!
//! Reading goes on after a mistake, so that all of them are reported at once, each with
//! its line and what to write instead. Everything that the file refers to is looked at
//! too: certificates, keys and credentials.

mod admin;
mod application;
mod audit;
mod cache;
mod credentials;
mod destination;
mod document;
mod endpoint;
mod ext_authz;
mod files;
mod findings;
mod folder;
mod grant;
mod host_port;
mod http;
mod kind;
mod mistakes;
mod oauth2;
mod outline;
mod reader;
mod route;
mod secret_file;
mod server;
mod shared_cache;
mod suggestion;
mod telemetry;
mod unique;
mod upstream;
mod upstreams;
mod values;

use std::{path::Path, sync::Arc};

use self::{
    credentials::{Credentials, Resolve},
    document::{Document, NotInPieces},
    findings::{Findings, Span},
    folder::Folder,
    reader::Section,
    route::RoutesTaken,
    unique::Unique,
    upstreams::Upstreams,
};
use crate::{
    audit::Settings as AuditSettings, credential::Environment,
    shared_cache::Settings as SharedCacheSettings, small_file, texts::Texts,
};

pub use admin::Admin;
pub use application::Application;
pub use cache::CacheSettings;
pub use credentials::{Places, SealedPlace};
pub use destination::{Destination, Protected, Protection};
pub use ext_authz::ExtAuthz;
pub use files::Files;
pub use grant::Grant;
pub use http::Http;
pub use mistakes::{Mistake, Mistakes, Position};
pub use outline::Outline;
pub use server::{ConnectionLimits, Server, TlsFiles, TlsVersion};
pub use telemetry::{LogFormat, Telemetry};
pub use upstream::Upstream;

/// A commented configuration that shows every key.
pub const EXAMPLE: &str = include_str!("../../deploy/token-broker.toml");

/// The largest configuration, in bytes: some ten thousand destinations.
const MAX_FILE: u64 = 4 * 1024 * 1024;

/// A whole configuration without a mistake in it.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where and how callers are answered.
    pub server: Server,
    /// Health and metrics; `None` when turned off.
    pub http: Option<Http>,
    /// Which proxies are believed.
    pub ext_authz: ExtAuthz,
    /// Who may operate the broker.
    pub admin: Admin,
    /// How tokens are kept.
    pub cache: CacheSettings,
    /// What is recorded where.
    pub audit: AuditSettings,
    /// What replicas share, if they do.
    pub shared_cache: Option<SharedCacheSettings>,
    /// What an operator sees.
    pub telemetry: Telemetry,
    /// The upstreams that are written, whether or not a destination uses them, and those
    /// built-in ones that destinations use.
    pub upstreams: Vec<Arc<Upstream>>,
    /// The destinations, in file order.
    pub destinations: Vec<Destination>,
    /// Credentials that are kept although no destination refers to them.
    pub spare_credentials: Vec<String>,
}

impl Config {
    /// Reads a configuration file, and the certificates, keys and credentials that it
    /// names. Relative paths start from the folder of the file.
    ///
    /// # Errors
    /// Every mistake in it.
    pub fn load(file: &Path) -> Result<Self, Mistakes> {
        Reading::of(file).config
    }

    /// Reads a configuration file with another environment than that of the process.
    ///
    /// # Errors
    /// Every mistake in it.
    pub fn load_with(file: &Path, environment: &Environment) -> Result<Self, Mistakes> {
        Reading::with(file, environment).config
    }

    fn read(text: &str, folder: &Folder, environment: &Environment) -> Result<Self, Vec<Mistake>> {
        document::read(text, |document, findings| {
            read_root(document, findings, folder, environment)
        })
    }
}

/// A configuration that was read, and what it was read from.
pub struct Reading {
    /// Every file that was looked at; another reading is due when one has changed.
    pub files: Files,
    /// The configuration, or every mistake in it.
    pub config: Result<Config, Mistakes>,
}

impl Reading {
    /// Reads a configuration file, and the files that it names.
    pub fn of(file: &Path) -> Self {
        Self::with(file, &Environment::of_process())
    }

    fn with(file: &Path, environment: &Environment) -> Self {
        let folder = Folder::of(file);
        let config = read_file(file, |text| Config::read(text, &folder, environment));
        Self {
            config,
            files: folder.into_files(),
        }
    }
}

/// Reads the text of a file, or reports why there is none.
fn read_file<T>(
    file: &Path,
    read: impl FnOnce(&str) -> Result<T, Vec<Mistake>>,
) -> Result<T, Mistakes> {
    let read = match small_file::read(file, MAX_FILE) {
        Ok(bytes) => decode(&bytes).and_then(read),
        Err(error) => Err(vec![Mistake {
            at: None,
            message: format!("the file {error}"),
        }]),
    };
    read.map_err(|found| Mistakes::new(file, found))
}

fn decode(bytes: &[u8]) -> Result<&str, Vec<Mistake>> {
    // The mark that some editors put first would count as a column.
    let bytes = bytes.strip_prefix("\u{feff}".as_bytes()).unwrap_or(bytes);
    std::str::from_utf8(bytes).map_err(|error| {
        let (valid, _) = bytes.split_at(error.valid_up_to());
        let valid = String::from_utf8_lossy(valid);
        vec![Mistake {
            at: Some(Findings::new(&valid).position(valid.len())),
            message: "not UTF-8: save the file as UTF-8 text".to_owned(),
        }]
    })
}

fn read_root(
    document: &Document<'_>,
    findings: &Findings<'_>,
    folder: &Folder,
    environment: &Environment,
) -> Result<Option<Config>, NotInPieces> {
    let root = document.root(findings);
    let server = Server::read(root.section("server", "[server]"), folder);
    let listen = server.as_ref().map(|server| server.listen);
    let http = Http::read(root.section("http", "[http]"), listen);
    let ext_authz = ExtAuthz::read(root.section("ext_authz", "[ext_authz]"));
    let admin = Admin::read(root.section("admin", "[admin]"), folder);
    let credentials = root.section("credentials", "[credentials]");
    let credentials = Credentials::read(credentials, folder, environment);
    let cache = CacheSettings::read(root.section("cache", "[cache]"));
    let audit = audit::read(root.section("audit", "[audit]"), folder);
    let shared_cache = shared_cache::read(&root, folder);
    let telemetry = Telemetry::read(root.section("telemetry", "[telemetry]"), folder);
    let mut upstreams = Upstreams::read(root.sections("upstream", "[[upstream]]"), folder);
    let mut policy = Policy::new(&root);
    let look = |destination: &Section<'_>| policy.look(destination);
    let destinations = read_destinations(document, &root, &mut upstreams, &credentials, look)?;
    policy.report(&root);
    root.finish();
    let Some(server) = server else {
        return Ok(None);
    };
    Ok(Some(Config {
        server,
        http,
        ext_authz,
        admin,
        cache,
        audit,
        shared_cache,
        telemetry,
        upstreams: upstreams.finish(),
        spare_credentials: credentials.spare(&destinations),
        destinations,
    }))
}

fn read_destinations<R: Resolve>(
    document: &Document<'_>,
    root: &Section<'_>,
    upstreams: &mut Upstreams,
    credentials: &R,
    mut look: impl FnMut(&Section<'_>),
) -> Result<Vec<Destination<R::Credential>>, NotInPieces> {
    let mut names = Unique::default();
    let mut routes = RoutesTaken::default();
    let mut texts = Texts::default();
    let mut destinations = Vec::new();
    document.destinations(root, |section| {
        look(&section);
        let read = Destination::read(section, &mut names, &mut routes, upstreams, credentials);
        if let Some(mut destination) = read {
            destination.keep_once(&mut texts);
            destinations.push(destination);
        }
    })?;
    // They stay, and there may be ten thousand of them.
    destinations.shrink_to_fit();
    Ok(destinations)
}

/// Whether anybody may have a token.
struct Policy {
    /// So many mistakes come first in the file.
    mistakes: usize,
    /// Where the first destination begins.
    first: Option<Span>,
    has_grant: bool,
}

impl Policy {
    fn new(root: &Section<'_>) -> Self {
        Self {
            mistakes: root.findings().count(),
            first: None,
            has_grant: false,
        }
    }

    fn look(&mut self, destination: &Section<'_>) {
        let begins = || destination.findings().whole_span(&destination.header());
        self.first.get_or_insert_with(begins);
        self.has_grant |= !destination.lacks("grant");
    }

    /// A broker that may give nobody a token is a mistake that nobody else would see.
    fn report(self, root: &Section<'_>) {
        let (at, message) = match self.first {
            None if root.lacks("destination") => (
                root.header(),
                "no destination is configured: write [[destination]] with id, upstream, an application and a grant",
            ),
            Some(first) if !self.has_grant => (
                first,
                "no destination has a grant, so nobody could have a token: write [[destination.grant]] with callers",
            ),
            _ => return,
        };
        let findings = root.findings();
        findings.report_absence_before(self.mistakes, &at, message);
    }
}

#[cfg(test)]
mod tests;
