//! `[[destination]]`: what callers ask for.

use std::sync::Arc;

use super::{
    application::{Application, Drafts},
    credentials::Resolve,
    endpoint::token_url,
    grant::Grant,
    kind::Kind,
    oauth2,
    reader::Section,
    route::{self, RoutesTaken},
    unique::Unique,
    upstream::{Draft, SharedEndpoint, Upstream},
    upstreams::Upstreams,
    values,
};
use crate::{
    credential::CredentialSet,
    destination::DestinationId,
    mesh::Route,
    texts::Texts,
    upstream::{Endpoint, Protocol},
};

/// A destination.
#[derive(Clone, Debug)]
pub struct Destination<C = CredentialSet> {
    /// Its id, which is unique among all ids and names.
    pub id: DestinationId,
    /// A second name, equally unique.
    pub name: Option<DestinationId>,
    /// Whether its tokens are minted before anybody asks.
    pub warm: bool,
    /// Whether it wants a token, and how one is minted.
    pub protection: Protection<C>,
    /// Who may have its tokens, in file order; the first that matches decides.
    pub grants: Box<[Grant]>,
    /// Which requests that pass a proxy go to it.
    pub routes: Box<[Route]>,
}

/// Whether a destination wants a token.
#[derive(Clone, Debug)]
pub enum Protection<C = CredentialSet> {
    /// It is public and has no credentials.
    Unprotected,
    /// It wants a token.
    Protected(Box<Protected<C>>),
}

/// How the tokens of a destination are minted.
#[derive(Clone, Debug)]
pub struct Protected<C = CredentialSet> {
    /// Its upstream, one of [`Config::upstreams`](super::Config::upstreams).
    pub upstream: Arc<Upstream>,
    /// How the endpoint is spoken to, and what it is asked for.
    pub protocol: Protocol,
    /// The base URL or the token endpoint, as the protocol has it.
    pub endpoint: Endpoint,
    /// The applications registered for it; at least one.
    pub applications: Box<[Application<C>]>,
}

impl<C> Destination<C> {
    /// Reads a destination; `None` only when a mistake was reported.
    pub(super) fn read<R: Resolve<Credential = C>>(
        section: Section<'_>,
        names: &mut Unique,
        routes: &mut RoutesTaken,
        upstreams: &mut Upstreams,
        credentials: &R,
    ) -> Option<Self> {
        let id = section.required(
            "id",
            "\"the id of the destination\"",
            values::destination_id,
        );
        let name = section.optional("name", values::destination_id);
        if let Some(id) = &id {
            names.take(id.as_str(), &section, "id");
        }
        // A name that repeats the destination's own id misleads nobody.
        if let Some(name) = name.as_ref().filter(|name| Some(*name) != id.as_ref()) {
            names.take(name.as_str(), &section, "name");
        }
        let warm = section.or("warm", false, values::boolean);
        let unprotected = section.or("unprotected", false, values::boolean);
        let applications = section.sections("application", "[[destination.application]]");
        let applications = Drafts::read(applications, credentials);
        let known = (!unprotected).then_some(&applications);
        let grants = section.sections("grant", "[[destination.grant]]");
        let grants = grants
            .into_iter()
            .map(|grant| Grant::read(grant, known))
            .collect();
        let written = section.sections("route", "[[destination.route]]");
        let routes = written
            .into_iter()
            .filter_map(|route| route::read(route, routes))
            .collect();
        let protection = if unprotected {
            report_protected_keys(&section, upstreams);
            Some(Protection::Unprotected)
        } else {
            let read = read_protected::<R>(&section, upstreams, id.as_ref(), applications);
            read.map(Box::new).map(Protection::Protected)
        };
        section.finish();
        Some(Self {
            id: id?,
            name,
            warm,
            protection: protection?,
            grants,
            routes,
        })
    }

    /// Has the names of its applications and callers in common with all who have the same.
    pub(super) fn keep_once(&mut self, texts: &mut Texts) {
        if let Protection::Protected(protected) = &mut self.protection {
            for application in &mut protected.applications {
                application.name.keep_once(texts);
            }
        }
        for grant in &mut self.grants {
            for callers in &mut grant.callers {
                callers.keep_once(texts);
            }
            if let Some(application) = &mut grant.application {
                application.keep_once(texts);
            }
        }
    }
}

/// An unprotected destination may name its upstream, and that is all.
fn report_protected_keys(section: &Section<'_>, upstreams: &mut Upstreams) {
    let name = section.optional("upstream", values::text);
    if let Some(Err(problem)) = name.map(|name| upstreams.resolve(name)) {
        section.report("upstream", &problem);
    }
    for key in ["warm", "application"].iter().chain(&oauth2::KEYS) {
        if section.has(key) {
            section.report(
                key,
                "must not be there, because the destination is unprotected and has no token",
            );
        }
    }
}

fn read_protected<R: Resolve>(
    section: &Section<'_>,
    upstreams: &mut Upstreams,
    id: Option<&DestinationId>,
    applications: Drafts<R::Credential>,
) -> Option<Protected<R::Credential>> {
    if section.lacks("application") {
        let message = "the destination has no application: write [[destination.application]] with name and credential, or unprotected = true";
        section
            .findings()
            .report_absence(&section.header(), message);
    }
    let oauth2 = oauth2::read(section);
    let own_endpoint = section.optional("endpoint", values::text);
    let draft = section.required("upstream", "\"occtoo\"", |value| {
        upstreams.resolve(values::text(value)?)
    })?;
    let kind = draft.kind?;
    let protocol = kind.protocol(oauth2);
    applications.check_proofs::<R>(section, &protocol);
    let endpoint = endpoint(section, own_endpoint, draft);
    if kind != Kind::OAuth2 {
        report_oauth2_keys(section, &protocol);
    }
    // As a segment of a URL's path these lead to another path.
    if kind == Kind::Occtoo && id.is_some_and(|id| matches!(id.as_str(), "." | "..")) {
        section.report(
            "id",
            "must be the id that Occtoo Studio shows, a dashed GUID",
        );
    }
    Some(Protected {
        upstream: Arc::clone(&draft.upstream),
        protocol,
        endpoint: endpoint?,
        applications: applications.finish(),
    })
}

/// The destination's own endpoint, or else that of its upstream.
fn endpoint(section: &Section<'_>, own: Option<&str>, draft: &Draft) -> Option<Endpoint> {
    if let Some(own) = own {
        let parsed = token_url(own, &draft.upstream.http);
        return parsed
            .map_err(|problem| section.report("endpoint", &problem))
            .ok();
    }
    if section.has("endpoint") {
        return None;
    }
    match &draft.endpoint {
        SharedEndpoint::Right(endpoint) => Some(endpoint.clone()),
        SharedEndpoint::Wrong => None,
        SharedEndpoint::None => {
            section.report_missing("endpoint", "\"https://...\", here or in its [[upstream]]");
            None
        }
    }
}

fn report_oauth2_keys(section: &Section<'_>, protocol: &Protocol) {
    for key in oauth2::KEYS {
        if section.has(key) {
            let problem = format!("is only for oauth2, not for {}: remove it", protocol.name());
            section.report(key, &problem);
        }
    }
}
