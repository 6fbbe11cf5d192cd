//! Stopping applications at destinations, and releasing them.

use std::{collections::BTreeMap, sync::Arc};

use tracing::{info, warn};

use super::{ActError, Asked, Operator, Target};
use crate::{
    broker::CallError,
    cache::Cache,
    destination::{ApplicationName, DestinationId},
    usage::{Quarantine, Stamp},
};

/// What was stopped or released.
#[derive(Debug, PartialEq, Eq)]
pub struct Applied {
    /// The applications, as far as they have a name now.
    pub applications: Vec<ApplicationName>,
    /// Whether that was all of them, those to come included.
    pub all: bool,
    /// Whether a restart will know of it.
    pub kept: Kept,
}

/// Whether a restart will know of something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kept {
    /// It is in the state file.
    Yes,
    /// No state file is configured, so a restart knows of nothing.
    NoStateFile,
    /// The state file could not be written, and says what it said before.
    Unwritten,
}

/// Everything that operators stopped, also at destinations that are not configured now.
#[derive(Debug, Default)]
pub(super) struct Quarantines(BTreeMap<Stopped, Quarantine>);

/// A destination and one of its applications, or all of them, those to come included.
type Stopped = (DestinationId, Option<ApplicationName>);

impl Quarantines {
    /// Puts those of the last process in force again.
    pub(super) fn restore(quarantines: Vec<Quarantine>, cache: &Cache) -> Self {
        let mut restored = Self::default();
        for quarantine in quarantines {
            let Quarantine {
                destination,
                application,
                administrator,
                comment,
                ..
            } = &quarantine;
            let shown = application.as_ref().map(ApplicationName::as_str);
            warn!(%destination, application = shown, administrator, comment, "is stopped since before this start");
            cache.quarantine(destination, application.as_ref());
            let name = (destination.clone(), application.clone());
            restored.0.insert(name, quarantine);
        }
        restored
    }

    pub(super) fn find(
        &self,
        destination: &DestinationId,
        application: &ApplicationName,
    ) -> Option<&Quarantine> {
        let one = self
            .0
            .get(&(destination.clone(), Some(application.clone())));
        one.or_else(|| self.0.get(&(destination.clone(), None)))
    }

    /// Takes out one application of a destination, or everything there; what that was.
    fn release(
        &mut self,
        destination: &DestinationId,
        application: Option<&ApplicationName>,
    ) -> Result<Vec<Option<ApplicationName>>, ActError> {
        // What would be left of it are the applications of today, and not those to come.
        if application.is_some() && self.0.contains_key(&(destination.clone(), None)) {
            return Err(ActError::StoppedAsOne);
        }
        let mut released = Vec::new();
        self.0.retain(|(stopped, which), _| {
            let ends =
                stopped == destination && (application.is_none() || which.as_ref() == application);
            if ends {
                released.push(which.clone());
            }
            !ends
        });
        Ok(released)
    }

    pub(super) fn to_vec(&self) -> Vec<Quarantine> {
        self.0.values().cloned().collect()
    }
}

impl Operator {
    /// Stops applications at a destination: their tokens are forgotten, whoever waits or
    /// watches is told, and nothing is minted until [`Operator::release`], over reloads and,
    /// with a state file, over restarts. Without an application it counts for those that a
    /// reload brings as well.
    ///
    /// # Errors
    /// [`ActError`] for what cannot be stopped.
    pub async fn quarantine(
        self: &Arc<Self>,
        asked: &Asked<'_>,
        destination: &str,
        application: &str,
        comment: &str,
    ) -> Result<Applied, ActError> {
        let act = self
            .act_on(asked, "quarantine", destination, application)
            .because(comment);
        let work = async {
            let target = self.target(destination, application)?;
            let applications: Vec<_> = target.applications().collect();
            let all = application.is_empty();
            let one = applications.first().filter(|_| !all).cloned();
            let destination = target.listing.id.clone();
            {
                let mut quarantines = self.quarantines();
                let cache = self.broker.cache();
                cache.quarantine(&destination, one.as_ref());
                // Who was first, and why, stays: a second stop changes nothing.
                let name = (destination.clone(), one.clone());
                quarantines.0.entry(name).or_insert_with(|| Quarantine {
                    destination,
                    application: one,
                    since: Stamp::now(),
                    administrator: asked.administrator.id().to_string(),
                    comment: in_one_line(comment),
                });
            }
            warn!(destination = %target.listing.id, ?applications, "stopped by an operator");
            let kept = self.keep().await;
            Ok(Applied {
                applications,
                all,
                kept,
            })
        };
        act.recorded_if_possible(work).await
    }

    /// Ends such a stop, or without an application all of them at a destination, also at one
    /// that is not configured any more; the next caller mints.
    ///
    /// # Errors
    /// [`ActError`] for what cannot be stopped in the first place, and
    /// [`ActError::StoppedAsOne`] for one application where all of them are stopped.
    pub async fn release(
        self: &Arc<Self>,
        asked: &Asked<'_>,
        destination: &str,
        application: &str,
    ) -> Result<Applied, ActError> {
        let act = self.act_on(asked, "release", destination, application);
        act.recorded(async {
            let target = self.target(destination, application);
            let id = match &target {
                Ok(target) => target.listing.id.clone(),
                // What is stopped may not be configured any more.
                Err(_) => DestinationId::parse(destination)
                    .map_err(|_| CallError::InvalidDestinationId)?,
            };
            let one = (!application.is_empty())
                .then(|| ApplicationName::parse(application))
                .transpose()
                .map_err(|_| ActError::NoSuchApplication);
            let released = match &one {
                Ok(one) => {
                    let mut quarantines = self.quarantines();
                    let released = quarantines.release(&id, one.as_ref())?;
                    if !released.is_empty() {
                        self.broker.cache().release(&id, one.as_ref());
                    }
                    released
                }
                Err(_) => Vec::new(),
            };
            if released.is_empty() {
                target.as_ref().map_err(Clone::clone)?;
            }
            let all = released.contains(&None);
            let configured = target.iter().flat_map(Target::applications);
            let mut applications: Vec<_> = configured
                .filter(|name| all || released.iter().flatten().any(|one| one == name))
                .collect();
            for name in released.into_iter().flatten() {
                if !applications.contains(&name) {
                    applications.push(name);
                }
            }
            info!(destination = %id, ?applications, all, "released by an operator");
            // Warm ones need nobody to ask.
            self.broker.warm();
            let kept = self.keep().await;
            Ok(Applied {
                applications,
                all,
                kept,
            })
        })
        .await
    }
}

/// A comment is shown in tables and logs, where a line's end could pass for one of theirs.
fn in_one_line(comment: &str) -> String {
    let plain = |c: char| if c.is_control() { ' ' } else { c };
    comment.chars().map(plain).collect()
}
