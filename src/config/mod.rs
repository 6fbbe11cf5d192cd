//! The configuration: one TOML file, read into plain structs.

mod cache;
mod destination;
mod http;
mod server;
mod telemetry;
mod upstream;

pub use cache::CacheSettings;
pub use destination::{Application, ClientAuthentication, Destination, Grant, OAuth2, Protection};
pub use http::Http;
pub use server::Server;
pub use telemetry::{LogFormat, Telemetry};
pub use upstream::{Kind, Upstream};

/// A whole configuration without a mistake in it.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where and how callers are answered.
    pub server: Server,
    /// Health and metrics; `None` when turned off.
    pub http: Option<Http>,
    /// How tokens are kept.
    pub cache: CacheSettings,
    /// What an operator sees.
    pub telemetry: Telemetry,
    /// The upstreams that destinations use.
    pub upstreams: Vec<Upstream>,
    /// The destinations, in file order.
    pub destinations: Vec<Destination>,
}
