//! From configured destinations to what mints their tokens.

use std::{collections::HashMap, sync::Arc};

use super::StartError;
use crate::{
    broker::{Catalogue, Listing},
    cache::{Host, Registration},
    config::{self, Config, Kind, Protection},
    destination::{ApplicationName, TokenKey},
    policy::Grants,
    upstream::{
        self, AddressRule, Endpoint, HttpClient, HttpSettings, OAuth2Settings, Protocol, SetupError,
    },
};

/// All destinations, ready to be asked for.
pub(super) fn catalogue(config: &Config) -> Result<Catalogue, StartError> {
    let upstreams = config
        .upstreams
        .iter()
        .map(|settings| Upstream::new(settings, config))
        .collect::<Result<Vec<_>, _>>()?;
    let mut hosts = Hosts::default();
    let mut catalogue = Catalogue::default();
    for destination in &config.destinations {
        let registrations = match &destination.protection {
            Protection::Unprotected => HashMap::new(),
            Protection::Protected {
                upstream,
                endpoint,
                oauth2,
                applications,
            } => {
                let minting = Minting {
                    upstream: &upstreams[*upstream],
                    endpoint,
                    oauth2: oauth2.clone(),
                };
                applications
                    .iter()
                    .map(|application| {
                        let registration = minting
                            .registration(destination, application, &mut hosts)
                            .map_err(|source| StartError::Destination {
                                destination: destination.id.to_string(),
                                application: application.name.to_string(),
                                source,
                            })?;
                        Ok((application.name.clone(), Arc::new(registration)))
                    })
                    .collect::<Result<_, StartError>>()?
            }
        };
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
    Ok(catalogue)
}

/// An upstream with its client.
struct Upstream<'a> {
    settings: &'a config::Upstream,
    expiry_margin: std::time::Duration,
    client: HttpClient,
}

impl<'a> Upstream<'a> {
    fn new(settings: &'a config::Upstream, config: &Config) -> Result<Self, StartError> {
        let client = HttpClient::new(&HttpSettings {
            plain_http: settings.plain_http,
            addresses: AddressRule {
                loopback: settings.allow_loopback,
                private: settings.allow_private,
            },
            ca_pem: settings.ca.clone(),
            connect_timeout: settings.connect_timeout,
            total_timeout: settings.timeout,
        })
        .map_err(|source| StartError::Upstream {
            name: settings.name.clone(),
            source,
        })?;
        Ok(Self {
            settings,
            expiry_margin: config.cache.expiry_margin,
            client,
        })
    }
}

/// The hosts that are asked: one for each host and port, however many upstreams and
/// destinations mean it, since a host limits rates without regard to our names for it.
#[derive(Default)]
struct Hosts(HashMap<String, Arc<Host>>);

impl Hosts {
    fn host(&mut self, endpoint: &Endpoint, concurrency: usize) -> Arc<Host> {
        let name = endpoint.host();
        let host = self
            .0
            .entry(name.clone())
            .or_insert_with(|| Arc::new(Host::new(name, concurrency)));
        Arc::clone(host)
    }
}

/// How the tokens of one destination are minted.
struct Minting<'a> {
    upstream: &'a Upstream<'a>,
    endpoint: &'a str,
    oauth2: Option<OAuth2Settings>,
}

impl Minting<'_> {
    fn registration(
        &self,
        destination: &config::Destination,
        application: &config::Application,
        hosts: &mut Hosts,
    ) -> Result<Registration, SetupError> {
        let settings = self.upstream.settings;
        let protocol = match settings.kind {
            Kind::Occtoo => Protocol::Occtoo,
            Kind::OcctooIngest => Protocol::OcctooIngest,
            Kind::OAuth2 => Protocol::OAuth2(self.oauth2.clone().unwrap_or_default()),
        };
        let endpoint = Endpoint::parse(self.endpoint)?;
        let source = upstream::source(
            &protocol,
            &self.upstream.client,
            &endpoint,
            &destination.id,
            Arc::clone(&application.credential),
        )?;
        let oauth2 = self.oauth2.clone().unwrap_or_default();
        Ok(Registration {
            key: Arc::new(TokenKey {
                protocol: protocol.name(),
                endpoint: endpoint.as_str().to_owned(),
                destination: destination.id.clone(),
                application: application.name.clone(),
                generation: application.credential.generation,
                scope: oauth2.scope,
                audience: oauth2.audience,
                resource: oauth2.resource,
                parameters: oauth2.parameters,
            }),
            source,
            host: hosts.host(&endpoint, settings.concurrency),
            lifetimes: settings.lifetimes,
            expiry_margin: self.upstream.expiry_margin,
            timeout: settings.timeout,
            warm: destination.warm,
        })
    }
}

/// The grants of one destination, each with the registration it opens.
fn grants(
    configured: &[config::Grant],
    registrations: &HashMap<ApplicationName, Arc<Registration>>,
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
