//! Stopping applications at destinations, and releasing them.

use std::{collections::BTreeMap, sync::Arc};

use tracing::{info, warn};

use super::{ActError, Asked, Operator, names};
use crate::{
    cache::Cache,
    destination::{ApplicationName, DestinationId},
    usage::{Quarantine, Stamp},
};

/// What was stopped or released.
#[derive(Debug, PartialEq, Eq)]
pub struct Applied {
    /// The applications.
    pub applications: Vec<ApplicationName>,
    /// Whether a restart will know of it.
    pub kept: bool,
}

/// Everything that operators stopped, also at destinations that are not configured now.
#[derive(Debug, Default)]
pub(super) struct Quarantines(BTreeMap<(DestinationId, ApplicationName), Quarantine>);

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
            warn!(%destination, %application, administrator, comment, "is stopped since before this start");
            cache.quarantine(destination, application);
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
        let name = (destination.clone(), application.clone());
        self.0.get(&name)
    }

    pub(super) fn to_vec(&self) -> Vec<Quarantine> {
        self.0.values().cloned().collect()
    }
}

impl Operator {
    /// Stops applications at a destination: their tokens are forgotten, whoever waits or
    /// watches is told, and nothing is minted until [`Operator::release`], over reloads and,
    /// with a state file, over restarts.
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
            let mut applications = Vec::new();
            {
                let mut quarantines = self.quarantines();
                for registration in &target.registrations {
                    let (destination, application) = names(registration);
                    self.broker.cache().quarantine(&destination, &application);
                    applications.push(application.clone());
                    // Who was first, and why, stays: a second stop changes nothing.
                    let name = (destination.clone(), application.clone());
                    quarantines.0.entry(name).or_insert_with(|| Quarantine {
                        destination,
                        application,
                        since: Stamp::now(),
                        administrator: asked.administrator.id().to_string(),
                        comment: in_one_line(comment),
                    });
                }
            }
            warn!(destination = %target.listing.id, ?applications, "stopped by an operator");
            let kept = self.keep().await;
            Ok(Applied { applications, kept })
        };
        act.recorded_if_possible(work).await
    }

    /// Ends such a stop; the next caller mints.
    ///
    /// # Errors
    /// [`ActError`] for what cannot be stopped in the first place.
    pub async fn release(
        self: &Arc<Self>,
        asked: &Asked<'_>,
        destination: &str,
        application: &str,
    ) -> Result<Applied, ActError> {
        let act = self.act_on(asked, "release", destination, application);
        act.recorded(async {
            let target = self.target(destination, application)?;
            let mut applications = Vec::new();
            {
                let mut quarantines = self.quarantines();
                for registration in &target.registrations {
                    let name = names(registration);
                    if quarantines.0.remove(&name).is_some() {
                        self.broker.cache().release(&name.0, &name.1);
                        applications.push(name.1);
                    }
                }
            }
            info!(destination = %target.listing.id, ?applications, "released by an operator");
            // Warm ones need nobody to ask.
            self.broker.warm();
            let kept = self.keep().await;
            Ok(Applied { applications, kept })
        })
        .await
    }
}

/// A comment is shown in tables and logs, where a line's end could pass for one of theirs.
fn in_one_line(comment: &str) -> String {
    let plain = |c: char| if c.is_control() { ' ' } else { c };
    comment.chars().map(plain).collect()
}
