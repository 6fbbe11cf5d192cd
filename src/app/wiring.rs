//! From configured destinations to what mints their tokens.

use std::{collections::HashMap, sync::Arc, time::Duration};

use super::StartError;
use crate::{
    broker::{Catalogue, Listing, Opening},
    cache::{Edition, Host, MintTerms, Registration, Whereabouts},
    config::{Application, Config, Destination, Protected, Protection, Upstream},
    credential::{Credential, CredentialSet},
    destination::{ApplicationName, AskedFor, TokenKey},
    mesh::{Mesh, Routes},
    metrics::Metrics,
    policy::Grants,
    shared_cache::{Place, Ring},
    texts::Texts,
    upstream::{self, Endpoint, HttpClient, Minter, Protocol, Rotation, SetupError},
    usage::{GrantName, Ledger, OpenLedger, Stamp},
};

/// All destinations, ready to be asked for, and what goes on when the next configuration
/// comes. Of what is `in_force` and what the `last` one left, all that is in both goes on;
/// calls are counted in `metrics`.
pub(super) fn catalogue(
    config: &Config,
    in_force: Option<&Catalogue>,
    last: &Kept,
    metrics: &Metrics,
) -> Result<(Catalogue, Kept), StartError> {
    let edition = in_force.map(|catalogue| catalogue.edition().next());
    let edition = edition.unwrap_or_default();
    let mut wiring = Wiring {
        edition,
        expiry_margin: config.cache.expiry_margin,
        terms: HashMap::new(),
        clients: HashMap::new(),
        texts: Texts::default(),
        nothing: Arc::default(),
        kept: Kept::default(),
        ledger: last.ledger.next(Stamp::now()),
        in_force,
        last,
        ring: config.shared_cache.as_ref().map(|shared| &shared.ring),
    };
    // Also those that no destination uses: what is wrong with them is not for later.
    for upstream in &config.upstreams {
        wiring.client(upstream)?;
    }
    let mut catalogue = Catalogue::new(edition, Arc::default());
    catalogue.reserve(config.destinations.len());
    wiring.reserve(config);
    for destination in &config.destinations {
        let registrations = wiring.registrations(destination)?;
        catalogue.add(Listing {
            id: destination.id.clone(),
            name: destination.name.clone(),
            grants: wiring.grants(destination, &registrations),
            registrations,
            tally: metrics.tally(&destination.id),
        });
    }
    wiring.keep_credentials(config);
    let ledger = Arc::new(wiring.ledger.close());
    catalogue.keep(Arc::clone(&ledger));
    let kept = Kept {
        ledger,
        ..wiring.kept
    };
    Ok((catalogue, kept))
}

/// How requests of proxies are read.
pub(super) fn mesh(config: &Config) -> Mesh {
    let mut routes = Routes::default();
    for destination in &config.destinations {
        for route in &destination.routes {
            routes.add(route.clone(), destination.id.clone());
        }
    }
    Mesh {
        routes,
        trusted_proxies: config.ext_authz.trusted_proxies.clone(),
        trust_domains: config.server.connections.trust_domains.clone(),
    }
}

/// The registrations of one destination, in file order.
type Registrations = Vec<Arc<Registration>>;

/// What destinations share.
struct Wiring<'a> {
    edition: Edition,
    expiry_margin: Duration,
    /// For each upstream, by its name, and for so many exchanges in a flight.
    terms: HashMap<(&'a str, u32), Arc<MintTerms>>,
    /// One client for each upstream, by its name.
    clients: HashMap<&'a str, HttpClient>,
    /// Of endpoints.
    texts: Texts,
    /// What an endpoint is asked for that knows by the application.
    nothing: Arc<AskedFor>,
    kept: Kept,
    ledger: OpenLedger<'a>,
    /// Whose registrations have gone on so far.
    in_force: Option<&'a Catalogue>,
    last: &'a Kept,
    /// What replicas seal with, if they share anything.
    ring: Option<&'a Arc<Ring>>,
}

/// What goes on from one configuration to the next, if it is in both.
#[derive(Default)]
pub(super) struct Kept {
    /// One for each host and port, however many upstreams and destinations mean it, since a
    /// host limits rates without regard to our names for it.
    hosts: HashMap<String, Arc<Host>>,
    /// When everything was used last.
    ledger: Arc<Ledger>,
}

impl Kept {
    /// What goes on from the last process.
    pub(super) fn with(ledger: Ledger) -> Self {
        Self {
            ledger: Arc::new(ledger),
            ..Self::default()
        }
    }

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
        let mut registrations = Registrations::with_capacity(protected.applications.len());
        for application in &protected.applications {
            let endpoint = self.texts.once(protected.endpoint.as_str());
            let key = key(
                destination,
                protected,
                endpoint,
                self.asked(protected),
                application,
            );
            let last = self
                .in_force
                .and_then(|catalogue| catalogue.registration(&key));
            // The same key as before where it can be: two that are one are equal at a glance.
            let key = last.map_or_else(|| Arc::new(key), |last| Arc::clone(&last.key));
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
            let rotation = Rotation::new(minter(current)?, next.as_ref().map(minter).transpose()?);
            let rotation = match last {
                Some(last) => rotation.after(&last.rotation),
                None => rotation,
            };
            let place = self
                .ring
                .map(|ring| Arc::new(Place::new(ring, &key, &application.credential, host.name())));
            let registration = Registration {
                edition: self.edition,
                key,
                rotation: Arc::new(rotation),
                host: Arc::clone(&host),
                terms: self.terms(upstream, exchanges),
                warm: destination.warm,
                place,
                whereabouts: Whereabouts::default(),
            };
            registrations.push(Arc::new(registration));
        }
        Ok(registrations)
    }

    /// The grants of one destination, each with what it opens and where its use is noted.
    fn grants(
        &mut self,
        destination: &Destination,
        registrations: &Registrations,
    ) -> Grants<Opening> {
        let mut openings = Vec::new();
        for (grant, number) in destination.grants.iter().zip(1..) {
            let registration = grant.application.as_ref().and_then(|application| {
                let mut registrations = registrations.iter();
                registrations.find(|registration| registration.key.application == *application)
            });
            let credential = grant
                .application
                .as_ref()
                .and_then(|application| credential(destination, application));
            let id = destination.id.to_shared();
            let application = grant.application.as_ref().map(ApplicationName::to_shared);
            let name = application.clone().unwrap_or_default();
            let served = self.ledger.keep_callers(&id, name);
            for pattern in &grant.callers {
                let name = GrantName {
                    destination: Arc::clone(&id),
                    callers: pattern.to_shared(),
                    application: application.clone(),
                };
                let opening = Opening {
                    registration: registration.cloned(),
                    number,
                    served: Arc::clone(&served),
                    used: self.ledger.grant(name, credential),
                };
                openings.push((pattern.clone(), opening));
            }
        }
        Grants::new(openings)
    }

    /// Makes room for the books: whatever has to grow leaves holes in memory.
    fn reserve(&mut self, config: &Config) {
        let grants = config.destinations.iter().flat_map(|it| &it.grants);
        let patterns = grants.map(|grant| grant.callers.len()).sum();
        let applications = config.destinations.iter().map(applications);
        // What is public has callers of no application.
        let served = applications.map(|all| all.len().max(1)).sum();
        self.ledger.reserve(patterns, served);
    }

    /// Goes on with the books on every credential that there is.
    fn keep_credentials(&mut self, config: &Config) {
        let destinations = config.destinations.iter();
        let applications = destinations.flat_map(applications);
        let referred = applications.map(reference);
        let referred = referred.map(Arc::clone);
        let spare = config.spare_credentials.iter();
        let spare = spare.map(|name| Arc::from(name.as_str()));
        self.ledger.keep_credentials(referred.chain(spare));
    }

    fn asked(&self, protected: &Protected) -> Arc<AskedFor> {
        // How the broker authenticates is a part of the protocol's name.
        Arc::clone(match &protected.protocol {
            Protocol::OAuth2(settings) => &settings.asked,
            Protocol::Occtoo | Protocol::OcctooIngest => &self.nothing,
        })
    }

    fn terms(&mut self, upstream: &'a Upstream, exchanges: u32) -> Arc<MintTerms> {
        let terms = self.terms.entry((upstream.name.as_str(), exchanges));
        let terms = terms.or_insert_with(|| {
            Arc::new(MintTerms {
                lifetimes: upstream.lifetimes,
                expiry_margin: self.expiry_margin,
                timeout: upstream.http.total_timeout * exchanges,
            })
        });
        Arc::clone(terms)
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
fn key(
    destination: &Destination,
    protected: &Protected,
    endpoint: Arc<str>,
    asked: Arc<AskedFor>,
    application: &Application,
) -> TokenKey {
    TokenKey {
        protocol: protected.protocol.name(),
        endpoint,
        destination: destination.id.clone(),
        application: application.name.clone(),
        client_id: Arc::clone(application.credential.current.client_id()),
        generation: application.credential.generation(),
        asked,
    }
}

fn applications(destination: &Destination) -> &[Application] {
    match &destination.protection {
        Protection::Protected(protected) => &protected.applications,
        Protection::Unprotected => &[],
    }
}

/// The credential of an application, as the configuration refers to it.
fn credential<'a>(destination: &'a Destination, name: &ApplicationName) -> Option<&'a Arc<str>> {
    let mut applications = applications(destination).iter();
    let application = applications.find(|application| application.name == *name);
    application.map(reference)
}

fn reference(application: &Application) -> &Arc<str> {
    // Both secrets of a rotation are of the same credential.
    &application.credential.current.name.credential
}
