//! OAuth 2's token endpoint, for the client credentials grant (RFC 6749 §4.4).

use std::sync::Arc;

use axum::{
    extract::{Request, State},
    http::header::CONTENT_TYPE,
    response::Response,
};
use zeroize::Zeroizing;

use super::{
    Door, body, form,
    refusal::{Fault, Refusal},
    reply,
};
use crate::{broker::CallError, destination::DestinationId, metrics};

pub(super) const PATH: &str = "/oauth2/token";
/// How the metrics name this door.
const DOOR: metrics::Door = metrics::Door::OAuth2;
const FORM: &str = "application/x-www-form-urlencoded";
/// A resource must be an absolute URI (RFC 8707 §2): a destination's is its id or name
/// after this.
const RESOURCE: &str = "urn:tokenbroker:";
/// Stock clients send six. Each further one would be compared with all the others.
const MOST_PARAMETERS: usize = 32;

pub(super) async fn token(State(door): State<Arc<Door>>, request: Request) -> Response {
    let visit = door.visit(DOOR, PATH, &request);
    door.token(visit, wanted(request), |result| match result {
        Ok(token) => reply::oauth2(token),
        Err(refusal) => refusal.into_oauth2(),
    })
    .await
}

async fn wanted(request: Request) -> Result<DestinationId, Refusal> {
    let (head, body) = request.into_parts();
    let is_form = head.headers.get(CONTENT_TYPE).is_some_and(|said| {
        let said = said.as_bytes().split(|byte| *byte == b';').next();
        said.is_some_and(|said| said.trim_ascii().eq_ignore_ascii_case(FORM.as_bytes()))
    });
    if !is_form {
        return Err(Fault::ContentType.into());
    }
    let form = body::read(body).await?;
    destination(head.uri.query().unwrap_or_default().as_bytes(), &form)
}

/// The destination that a request names. In the query of the endpoint's own address
/// (RFC 6749 §3.2) it may be named too, for clients that cannot send a parameter of their
/// own. What proves a client elsewhere, and a scope, is looked at by nobody.
fn destination(query: &[u8], form: &[u8]) -> Result<DestinationId, Refusal> {
    let mut seen = Vec::<Zeroizing<String>>::new();
    let mut grant_type = None;
    let mut targets = Targets::default();
    for pair in form::pairs(form) {
        let form::Pair { name, value } = pair?;
        // A parameter without a value counts as omitted (RFC 6749 §3.2).
        if value.is_empty() || targets.take(&name, &value) {
            continue;
        }
        if seen.contains(&name) {
            return Err(Fault::Repeated.into());
        }
        if seen.len() == MOST_PARAMETERS {
            return Err(Fault::TooMany.into());
        }
        if *name == "grant_type" {
            grant_type = Some(value);
        }
        seen.push(name);
    }
    for pair in form::pairs(query) {
        let form::Pair { name, value } = pair?;
        if !value.is_empty() {
            targets.take(&name, &value);
        }
    }
    match grant_type.as_deref().map(String::as_str) {
        None => Err(Fault::GrantTypeMissing.into()),
        Some("client_credentials") => targets.one(),
        Some(_) => Err(Fault::GrantTypeUnsupported.into()),
    }
}

/// What a request wants tokens for.
#[derive(Default)]
struct Targets {
    audience: Named,
    resource: Named,
}

#[derive(Default)]
enum Named {
    #[default]
    Nothing,
    One(String),
    Several,
}

impl Targets {
    /// Takes a parameter, if it is one of those that name a destination.
    fn take(&mut self, name: &str, value: &str) -> bool {
        match name {
            "audience" => self.audience.add(value),
            "resource" => self.resource.add(plain(value)),
            _ => return false,
        }
        true
    }

    fn one(self) -> Result<DestinationId, Refusal> {
        let name = match (self.audience, self.resource) {
            (Named::Nothing, Named::Nothing) => return Err(Fault::DestinationMissing.into()),
            (Named::One(name), Named::Nothing) | (Named::Nothing, Named::One(name)) => name,
            (Named::One(audience), Named::One(resource)) if audience == resource => audience,
            _ => return Err(Fault::SeveralDestinations.into()),
        };
        DestinationId::parse(&name).map_err(|_| CallError::InvalidDestinationId.into())
    }
}

impl Named {
    fn add(&mut self, name: &str) {
        *self = match self {
            Self::Nothing => Self::One(name.to_owned()),
            _ => Self::Several,
        };
    }
}

/// A resource without what makes it a URI. Its first two parts are compared without case
/// (RFC 8141 §3.1).
fn plain(resource: &str) -> &str {
    match resource.split_at_checked(RESOURCE.len()) {
        Some((urn, name)) if urn.eq_ignore_ascii_case(RESOURCE) => name,
        _ => resource,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GRANT: &str = "grant_type=client_credentials";

    fn asked(query: &str, form: &str) -> Result<String, Refusal> {
        destination(query.as_bytes(), form.as_bytes()).map(|id| id.to_string())
    }

    #[test]
    fn a_destination_is_named_once_and_anywhere() {
        for (query, form) in [
            ("", "audience=orders"),
            ("", "resource=orders"),
            ("", "resource=urn%3Atokenbroker%3Aorders"),
            ("", "resource=URN:TokenBroker:orders"),
            ("", "audience=orders&resource=urn:tokenbroker:orders"),
            ("", "audience=&resource=orders&audience="),
            ("audience=orders", ""),
            (
                "resource=urn:tokenbroker:orders&api-version=7",
                "audience=orders",
            ),
            (
                "",
                "audience=orders&scope=a+b&client_id=x&client_secret=y&z=%26",
            ),
        ] {
            for form in [format!("{GRANT}&{form}"), format!("{form}&{GRANT}")] {
                assert_eq!(
                    asked(query, &form).as_deref(),
                    Ok("orders"),
                    "{query} {form}"
                );
            }
        }
    }

    #[test]
    fn every_fault_of_a_form_is_told_apart() {
        let many: Vec<_> = (0..40).map(|n| format!("p{n}=1")).collect();
        let many = many.join("&");
        let named = CallError::InvalidDestinationId;
        for (query, form, expected) in [
            ("", "audience=orders", Fault::GrantTypeMissing.into()),
            (
                "",
                "grant_type=&audience=orders",
                Fault::GrantTypeMissing.into(),
            ),
            (
                "grant_type=client_credentials",
                "audience=orders",
                Fault::GrantTypeMissing.into(),
            ),
            (
                "",
                "grant_type=password&audience=orders",
                Fault::GrantTypeUnsupported.into(),
            ),
            ("", GRANT, Fault::DestinationMissing.into()),
            (
                "",
                "grant_type=client_credentials&audience=",
                Fault::DestinationMissing.into(),
            ),
            (
                "",
                "grant_type=client_credentials&grant_type=client_credentials&audience=a",
                Fault::Repeated.into(),
            ),
            (
                "",
                "grant_type=client_credentials&audience=a&scope=x&scope=x",
                Fault::Repeated.into(),
            ),
            (
                "",
                "grant_type=client_credentials&audience=a&audience=b",
                Fault::SeveralDestinations.into(),
            ),
            (
                "",
                "grant_type=client_credentials&resource=a&resource=a",
                Fault::SeveralDestinations.into(),
            ),
            (
                "",
                "grant_type=client_credentials&audience=a&resource=b",
                Fault::SeveralDestinations.into(),
            ),
            (
                "audience=b",
                "grant_type=client_credentials&audience=a",
                Fault::SeveralDestinations.into(),
            ),
            (
                "",
                "grant_type=client_credentials&audience=a%2Fb",
                named.into(),
            ),
            (
                "",
                "grant_type=client_credentials&resource=https://api.example",
                named.into(),
            ),
            (
                "",
                "grant_type=client_credentials&resource=urn:tokenbroker:",
                named.into(),
            ),
            (
                "",
                "grant_type=client_credentials&audience=%zz",
                Fault::Malformed.into(),
            ),
            (
                "",
                "grant_type=client_credentials&audience=a&client_secret=%ff",
                Fault::Malformed.into(),
            ),
            (
                "x=%",
                "grant_type=client_credentials&audience=a",
                Fault::Malformed.into(),
            ),
            ("", &many, Fault::TooMany.into()),
        ] {
            assert_eq!(asked(query, form), Err(expected), "{query} {form}");
        }
    }
}
