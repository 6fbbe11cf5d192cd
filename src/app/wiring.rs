//! From configured destinations to what mints their tokens.

use std::{collections::HashMap, sync::Arc, time::Duration};

use super::StartError;
use crate::{
    broker::{Catalogue, Listing},
    cache::{Edition, Host, Registration},
    config::{Application, Config, Destination, Grant, Protected, Protection, Upstream},
    credential::{Credential, CredentialSet},
    destination::{ApplicationName, TokenKey},
    policy::Grants,
    upstream::{
        self, Endpoint, HttpClient, Minter, OAuth2Settings, Protocol, Rotation, SetupError, Trial,
    },
};

/// All destinations, ready to be asked for, and what goes on when the next configuration
/// comes. Of what the `last` one left, all that is in both goes on.
pub(super) fn catalogue(
    config: &Config,
    edition: Edition,
    last: &Kept,
) -> Result<(Catalogue, Kept), StartError> {
    let mut wiring = Wiring {
        edition,
        expiry_margin: config.cache.expiry_margin,
        clients: HashMap::new(),
        kept: Kept::default(),
        last,
    };
    // Also those that no destination uses: what is wrong with them is not for later.
    for upstream in &config.upstreams {
        wiring.client(upstream)?;
    }
    let mut catalogue = Catalogue::new(edition);
    for destination in &config.destinations {
        let registrations = wiring.registrations(destination)?;
        let listing = Listing {
            id: destination.id.clone(),
            grants: grants(&destination.grants, &registrations),
        };
        catalogue.add(
            listing,
            destination.name.clone(),
            registrations.into_values(),
        );
    }
    Ok((catalogue, wiring.kept))
}

/// The registrations of one destination, by application.
type Registrations = HashMap<ApplicationName, Arc<Registration>>;

/// What destinations share.
struct Wiring<'a> {
    edition: Edition,
    expiry_margin: Duration,
    /// One client for each upstream, by its name.
    clients: HashMap<&'a str, HttpClient>,
    kept: Kept,
    last: &'a Kept,
}

/// What goes on from one configuration to the next, if it is in both.
#[derive(Default)]
pub(super) struct Kept {
    /// One for each host and port, however many upstreams and destinations mean it, since a
    /// host limits rates without regard to our names for it.
    hosts: HashMap<String, Arc<Host>>,
    /// Whose next secrets have been tried.
    rotations: HashMap<Arc<TokenKey>, Arc<Rotation>>,
}

impl Kept {
    /// The host of an endpoint. It is taken over from the `last` configuration if it may,
    /// so that a reload ends no pause.
    fn host(&mut self, last: &Self, endpoint: &Endpoint, concurrency: usize) -> Arc<Host> {
        let name = endpoint.host();
        let host = self.hosts.entry(name).or_insert_with_key(|name| {
            last.hosts
                .get(name)
                .filter(|host| host.concurrency() == concurrency)
                .map_or_else(
                    || Arc::new(Host::new(name.clone(), concurrency)),
                    Arc::clone,
                )
        });
        Arc::clone(host)
    }

    /// How the next secret of a registration has done so far.
    fn trial(&self, key: &TokenKey) -> Trial {
        let rotation = self.rotations.get(key);
        rotation
            .and_then(|rotation| rotation.trial())
            .unwrap_or_default()
    }
}

impl<'a> Wiring<'a> {
    /// What mints a destination's tokens; nothing where it is unprotected.
    fn registrations(&mut self, destination: &'a Destination) -> Result<Registrations, StartError> {
        let Protection::Protected(protected) = &destination.protection else {
            return Ok(Registrations::new());
        };
        let upstream = &protected.upstream;
        let client = self.client(upstream)?;
        let host = self
            .kept
            .host(self.last, &protected.endpoint, upstream.concurrency);
        let mut registrations = Registrations::new();
        for application in &protected.applications {
            let key = Arc::new(key(destination, protected, application));
            let minter = |credential: &Arc<Credential>| {
                minter(destination, protected, &client, credential).map_err(|source| {
                    StartError::Destination {
                        destination: destination.id.to_string(),
                        application: application.name.to_string(),
                        source,
                    }
                })
            };
            let CredentialSet { current, next } = &application.credential;
            // A flight asks with both when the first is rejected, and each may take its time.
            let exchanges = if next.is_some() { 2 } else { 1 };
            let rotation = Rotation::new(
                minter(current)?,
                next.as_ref().map(minter).transpose()?,
                self.last.trial(&key),
            );
            let rotation = Arc::new(rotation);
            self.kept
                .rotations
                .insert(Arc::clone(&key), Arc::clone(&rotation));
            let registration = Registration {
                edition: self.edition,
                key,
                rotation,
                host: Arc::clone(&host),
                lifetimes: upstream.lifetimes,
                expiry_margin: self.expiry_margin,
                timeout: upstream.http.total_timeout * exchanges,
                warm: destination.warm,
            };
            registrations.insert(application.name.clone(), Arc::new(registration));
        }
        Ok(registrations)
    }

    fn client(&mut self, upstream: &'a Upstream) -> Result<HttpClient, StartError> {
        if let Some(client) = self.clients.get(upstream.name.as_str()) {
            return Ok(client.clone());
        }
        let client = HttpClient::new(&upstream.http).map_err(|source| StartError::Upstream {
            name: upstream.name.clone(),
            source,
        })?;
        self.clients.insert(&upstream.name, client.clone());
        Ok(client)
    }
}

/// What asks the token endpoint with one credential.
fn minter(
    destination: &Destination,
    protected: &Protected,
    client: &HttpClient,
    credential: &Arc<Credential>,
) -> Result<Minter, SetupError> {
    let Protected {
        protocol, endpoint, ..
    } = protected;
    let id = &destination.id;
    Ok(Minter {
        source: upstream::source(protocol, client, endpoint, id, Arc::clone(credential))?,
        secret: Arc::clone(&credential.name),
    })
}

/// Everything that shapes the tokens of one application.
fn key(destination: &Destination, protected: &Protected, application: &Application) -> TokenKey {
    let OAuth2Settings {
        client_authentication: _, // a part of the protocol's name
        scope,
        audience,
        resource,
        parameters,
    } = match &protected.protocol {
        Protocol::OAuth2(settings) => settings.clone(),
        Protocol::Occtoo | Protocol::OcctooIngest => OAuth2Settings::default(),
    };
    TokenKey {
        protocol: protected.protocol.name(),
        endpoint: protected.endpoint.as_str().to_owned(),
        destination: destination.id.clone(),
        application: application.name.clone(),
        client_id: application.credential.current.client_id.clone(),
        generation: application.credential.generation(),
        scope,
        audience,
        resource,
        parameters,
    }
}

/// The grants of one destination, each with the registration it opens.
fn grants(
    configured: &[Grant],
    registrations: &Registrations,
) -> Grants<Option<Arc<Registration>>> {
    Grants::new(configured.iter().flat_map(|grant| {
        let registration = grant
            .application
            .as_ref()
            .and_then(|application| registrations.get(application));
        grant
            .callers
            .iter()
            .map(move |pattern| (pattern.clone(), registration.cloned()))
    }))
}
