//! Which destination a request goes to, by its host and path.

use std::collections::HashMap;

use super::path::canonical;
use crate::{destination::DestinationId, identity::is_dns_name};

/// The longest path prefix, in bytes: it bounds how many are tried for one request.
const MAX_PREFIX: usize = 1024;
/// The digits of a port.
const MAX_PORT_DIGITS: usize = 5;

/// A host, and the paths at it that are meant: those that begin with the same segments.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Route {
    host: String,
    /// As `/a/b`; empty for every path.
    prefix: String,
}

/// Why a route cannot be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RouteError {
    /// The host is no DNS name, or has a port.
    #[error("must be a host name without a port, such as \"global.occtoo.com\"")]
    Host,
    /// The prefix is no plain path.
    #[error(
        "must be a path of at most 1024 bytes such as \"/tenant/\", without \"..\", \"//\", \";\", \"\\\", \"?\" and their encodings"
    )]
    Prefix,
}

/// All routes. The longest one that matches decides.
#[derive(Debug, Default)]
pub struct Routes(HashMap<String, HashMap<String, DestinationId>>);

impl Route {
    /// A route to all paths at a host.
    ///
    /// # Errors
    /// [`RouteError::Host`].
    pub fn to_host(host: &str) -> Result<Self, RouteError> {
        let host = host.to_ascii_lowercase();
        let prefix = String::new();
        let well_formed = is_dns_name(&host);
        well_formed
            .then_some(Self { host, prefix })
            .ok_or(RouteError::Host)
    }

    /// The same host, but only the paths below this one, and itself.
    ///
    /// # Errors
    /// [`RouteError::Prefix`].
    pub fn below(self, prefix: &str) -> Result<Self, RouteError> {
        let prefix = canonical(prefix).filter(|prefix| prefix.len() <= MAX_PREFIX);
        let prefix = prefix.ok_or(RouteError::Prefix)?;
        Ok(Self { prefix, ..self })
    }
}

impl Routes {
    /// Adds a route. Routes are unique: the configuration sees to that.
    pub fn add(&mut self, route: Route, destination: DestinationId) {
        let host = self.0.entry(route.host).or_default();
        host.insert(route.prefix, destination);
    }

    /// Where a request goes, by its `Host` or `:authority` and its path with any query.
    ///
    /// `None` also for a host or path that is not plain: what could be read in two ways
    /// goes nowhere.
    pub fn find(&self, authority: &str, path: &str) -> Option<&DestinationId> {
        let prefixes = self.0.get(&host_of(authority)?)?;
        let path = path.split('?').next().unwrap_or_default();
        let path = canonical(path)?;
        let mut prefix = path.as_str();
        loop {
            let tried = (prefix.len() <= MAX_PREFIX).then(|| prefixes.get(prefix));
            if let Some(found) = tried.flatten() {
                return Some(found);
            }
            // The empty prefix is the last: it holds no slash.
            (prefix, _) = prefix.rsplit_once('/')?;
        }
    }
}

/// The host without its port, in lower case.
fn host_of(authority: &str) -> Option<String> {
    let host = match authority.split_once(':') {
        None => authority,
        Some((host, port)) => {
            let well_formed = (1..=MAX_PORT_DIGITS).contains(&port.len())
                && port.bytes().all(|b| b.is_ascii_digit());
            well_formed.then_some(host)?
        }
    };
    let host = host.to_ascii_lowercase();
    is_dns_name(&host).then_some(host)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn routes() -> Routes {
        let mut routes = Routes::default();
        for (host, prefix, destination) in [
            ("global.occtoo.com", "/", "global"),
            ("global.occtoo.com", "/tenant/", "tenant"),
            ("global.occtoo.com", "/tenant/secret", "secret"),
            ("Only.Example", "/api", "only"),
            ("10.0.0.7", "/", "address"),
        ] {
            let route = Route::to_host(host).unwrap().below(prefix).unwrap();
            routes.add(route, DestinationId::parse(destination).unwrap());
        }
        routes
    }

    #[test]
    fn the_longest_prefix_of_whole_segments_decides() {
        let routes = routes();
        for (host, path, expected) in [
            ("global.occtoo.com", "/", Some("global")),
            ("global.occtoo.com", "/tenant", Some("tenant")),
            ("global.occtoo.com", "/tenant/", Some("tenant")),
            ("global.occtoo.com", "/tenant?a=/../b//c", Some("tenant")),
            ("global.occtoo.com", "/tenant/x/y", Some("tenant")),
            ("global.occtoo.com", "/tenants", Some("global")),
            ("global.occtoo.com", "/tenant.", Some("global")),
            ("global.occtoo.com", "/tenant/secret", Some("secret")),
            ("global.occtoo.com", "/tenant/secret/a", Some("secret")),
            ("global.occtoo.com", "/tenant/secrets", Some("tenant")),
            ("global.occtoo.com", "/%74enant/secre%74/a", Some("secret")),
            ("GLOBAL.Occtoo.com:443", "/tenant/x", Some("tenant")),
            ("10.0.0.7:8080", "/x", Some("address")),
            ("only.example", "/api/x", Some("only")),
            ("only.example", "/", None),
            ("only.example", "/apix", None),
            ("example", "/api", None),
            ("x.only.example", "/api", None),
        ] {
            let found = routes.find(host, path).map(DestinationId::as_str);
            assert_eq!(found, expected, "{host} {path}");
        }
    }

    #[test]
    fn a_trick_leads_nowhere_and_not_to_a_more_lenient_route() {
        let routes = routes();
        for (host, path) in [
            ("global.occtoo.com", "/x/../tenant/secret"),
            ("global.occtoo.com", "/tenant/../x"),
            ("global.occtoo.com", "//tenant/secret"),
            ("global.occtoo.com", "/tenant//secret"),
            ("global.occtoo.com", "/x/%2e%2e/tenant"),
            ("global.occtoo.com", "/tenant%2fsecret"),
            ("global.occtoo.com", "/tenant%2Fsecret"),
            ("global.occtoo.com", "/tenant\\secret"),
            ("global.occtoo.com", "/tenant%5csecret"),
            ("global.occtoo.com", "/tenant;x/secret"),
            ("global.occtoo.com", "/%2574enant"),
            ("global.occtoo.com", "tenant"),
            ("global.occtoo.com", "*"),
            ("global.occtoo.com", ""),
            ("global.occtoo.com", "/tenant#/x"),
            ("global.occtoo.com", "https://global.occtoo.com/tenant"),
            ("global.occtoo.com.", "/tenant"),
            ("global.occtoo.com:", "/tenant"),
            ("global.occtoo.com:443:443", "/tenant"),
            ("global.occtoo.com:+443", "/tenant"),
            ("global.occtoo.com:443443", "/tenant"),
            ("user@global.occtoo.com", "/tenant"),
            (" global.occtoo.com", "/tenant"),
            ("global.occtoo.com,only.example", "/tenant"),
            ("[::1]:443", "/"),
            ("", "/"),
        ] {
            assert_eq!(routes.find(host, path), None, "{host} {path}");
        }
    }

    #[test]
    fn a_long_path_is_looked_up_in_bounded_time() {
        let routes = routes();
        let long = format!("/tenant{}", "/x".repeat(4000));
        assert_eq!(
            routes
                .find("global.occtoo.com", &long)
                .map(DestinationId::as_str),
            Some("tenant")
        );
        let route = || Route::to_host("a.example").unwrap();
        assert!(route().below(&"/x".repeat(512)).is_ok());
        assert_eq!(route().below(&"/x".repeat(513)), Err(RouteError::Prefix));
    }

    #[test]
    fn two_spellings_are_one_route() {
        let route = |host: &str, prefix| Route::to_host(host).unwrap().below(prefix).unwrap();
        assert_eq!(route("A.example", "/x"), route("a.EXAMPLE", "/x/"));
        assert_eq!(route("a.example", "/x:y"), route("a.example", "/x%3Ay"));
        assert_eq!(
            route("a.example", "/"),
            Route::to_host("a.example").unwrap()
        );
        for host in [
            "",
            "a.example:443",
            "*.example",
            "a_b.example",
            "[::1]",
            "a.example.",
        ] {
            assert_eq!(Route::to_host(host), Err(RouteError::Host), "{host}");
        }
    }
}
