//! Who uses a credential.

use std::fmt;

use super::CommandError;
use crate::{
    config::{Application, Destination, Outline, Protected, Protection},
    credential::CredentialRef,
    destination::DestinationId,
};

/// An application of a destination, with the reference to its credential.
#[derive(Clone, Copy)]
pub(super) struct User<'a> {
    pub(super) target: Target<'a>,
    pub(super) application: &'a Application<CredentialRef>,
}

/// A destination whose tokens can be asked for.
#[derive(Clone, Copy)]
pub(super) struct Target<'a> {
    pub(super) destination: &'a Destination<CredentialRef>,
    pub(super) protected: &'a Protected<CredentialRef>,
}

/// All applications, in file order.
pub(super) fn users(outline: &Outline) -> impl Iterator<Item = User<'_>> {
    let targets = outline.destinations.iter().filter_map(Target::of);
    targets.flat_map(|target| {
        let applications = target.protected.applications.iter();
        applications.map(move |application| User {
            target,
            application,
        })
    })
}

/// Those that use this credential.
pub(super) fn users_of<'a>(
    outline: &'a Outline,
    reference: &CredentialRef,
) -> impl Iterator<Item = User<'a>> {
    users(outline).filter(move |user| user.application.credential == *reference)
}

/// Where a credential is verified: at the destination that was `chosen` by its id or name, or
/// at the first one that uses it; `None` if there is none.
pub(super) fn target<'a>(
    outline: &'a Outline,
    reference: &CredentialRef,
    chosen: Option<&str>,
) -> Result<Option<Target<'a>>, CommandError> {
    let Some(chosen) = chosen else {
        let first = users_of(outline, reference).next();
        return Ok(first.map(|user| user.target));
    };
    let is_chosen = |id: &DestinationId| id.as_str() == chosen;
    let destination = outline.destinations.iter().find(|destination| {
        is_chosen(&destination.id) || destination.name.as_ref().is_some_and(is_chosen)
    });
    let unverifiable = |what: &str| CommandError::Unverifiable(format!("--destination {what}"));
    let destination =
        destination.ok_or_else(|| unverifiable("names none of the configured destinations"))?;
    let target = Target::of(destination);
    target
        .map(Some)
        .ok_or_else(|| unverifiable("names one that needs no token"))
}

impl<'a> Target<'a> {
    fn of(destination: &'a Destination<CredentialRef>) -> Option<Self> {
        match &destination.protection {
            Protection::Protected(protected) => Some(Self {
                destination,
                protected,
            }),
            Protection::Unprotected => None,
        }
    }
}

impl fmt::Display for Target<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Destination { id, name, .. } = self.destination;
        f.write_str(name.as_ref().unwrap_or(id).as_str())
    }
}

impl fmt::Display for User<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.target, self.application.name)
    }
}
