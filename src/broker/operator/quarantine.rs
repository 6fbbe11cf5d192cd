//! Stopping applications at destinations, and releasing them.

use std::sync::Arc;

use tokio::time::timeout;
use tracing::{info, warn};

use super::{ActError, Asked, Operator, Target, Told, replicas::PATIENCE, stops::Stops};
use crate::{
    broker::CallError,
    cache::Cache,
    destination::{ApplicationName, DestinationId},
    usage::{Quarantine, SharedQuarantine, Stamp},
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
    /// Whether other replicas know of it.
    pub told: Told,
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

/// Puts the stops and releases of the last process in force again.
pub(super) fn restore(stops: &Stops, cache: &Cache) {
    for (destination, application, at) in stops.releases() {
        cache.end(destination, application, &[], at);
    }
    for stop in stops.in_force() {
        let Quarantine {
            destination,
            application,
            administrator,
            comment,
            ..
        } = stop;
        let shown = application.as_ref().map(ApplicationName::as_str);
        warn!(%destination, application = shown, administrator, comment, "is stopped since before this start");
        cache.quarantine(destination, application.as_ref());
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
            let registrations = self.registrations(&destination, one.as_ref());
            let act = {
                let mut stops = self.stops();
                let cache = self.broker.cache();
                cache.quarantine(&destination, one.as_ref());
                stops.stop(Quarantine {
                    destination,
                    application: one,
                    since: Stamp::now(),
                    administrator: asked.administrator.id().to_string(),
                    comment: in_one_line(comment),
                })
            };
            warn!(destination = %target.listing.id, ?applications, "stopped by an operator");
            let (kept, told) = self.spread(vec![act], registrations).await;
            Ok(Applied {
                applications,
                all,
                kept,
                told,
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
            let (released, acts) = match &one {
                Ok(one) => self.end(&id, one.as_ref(), target.is_ok()).await?,
                Err(_) => (Vec::new(), Vec::new()),
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
            let (kept, told) = self.spread(acts, Vec::new()).await;
            Ok(Applied {
                applications,
                all,
                kept,
                told,
            })
        })
        .await
    }

    /// Releases an application, or everything at a destination: what was stopped here, and
    /// what to tell the others. What is not stopped here may be at other replicas, so it is
    /// told all the same where it is `configured`.
    async fn end(
        &self,
        id: &DestinationId,
        one: Option<&ApplicationName>,
        configured: bool,
    ) -> Result<(Vec<Option<ApplicationName>>, Vec<SharedQuarantine>), ActError> {
        if !self.stops().ended(id, one)?.is_empty() {
            // A replica may have kept a token before it knew of the stop. A store that does not
            // say that it is forgotten keeps nobody from releasing.
            let _ = timeout(PATIENCE, self.forget(self.registrations(id, one))).await;
        }
        let mut stops = self.stops();
        let ended = stops.ended(id, one)?;
        if ended.is_empty() && !(configured && self.shared.is_on()) {
            return Ok((ended, Vec::new()));
        }
        let at = stops.next_moment(id);
        let acts = stops.release(id, one, &ended, at);
        let cache = self.broker.cache();
        if self.shared.is_on() {
            // This replica may have missed the stop as well.
            cache.end(id, one, &ended, at);
        } else {
            cache.release(id, one);
        }
        Ok((ended, acts))
    }
}

/// A comment is shown in tables and logs, where a line's end could pass for one of theirs.
fn in_one_line(comment: &str) -> String {
    let plain = |c: char| if c.is_control() { ' ' } else { c };
    comment.chars().map(plain).collect()
}
