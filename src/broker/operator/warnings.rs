//! What an operator should see to before it is felt.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use tracing::{info, warn};

use super::{Operator, explain::shown};
use crate::{
    cache::{Condition, Registration, Standing},
    clock::Instant,
    metrics::Metrics,
    slot::FailureReason,
    upstream::Trial,
};

/// A runway is short at most when this part of the token's life is left.
const SHARE_OF_LIFE: u32 = 4;

/// Something that an operator should see to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    /// What it is.
    pub trouble: Trouble,
    /// What it means here.
    pub message: String,
    /// Since when it is so.
    pub since: SystemTime,
}

/// The kinds of warnings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Trouble {
    /// The token endpoint rejects a credential.
    CredentialRejected,
    /// A next secret was rejected, and the current one went on.
    RotationRolledBack,
    /// Minting fails, and callers will soon notice.
    RunwayShort,
    /// The server's certificate runs out.
    ServerExpires,
    /// An authority of clients runs out.
    ClientCaExpires,
    /// A revocation list runs out.
    CrlExpires,
}

/// A destination and an application; both empty for the broker as a whole.
type Subject = (String, String);

/// Everything that is warned of, as it was at the last look.
#[derive(Default)]
pub(super) struct Warnings {
    current: BTreeMap<(Subject, Trouble), Warning>,
    /// What of the listener's runs out.
    expiring: BTreeMap<Trouble, String>,
    /// For which the metrics show a runway.
    runways: BTreeSet<Subject>,
}

impl Trouble {
    /// The word for it in logs, metrics and answers.
    pub fn label(self) -> &'static str {
        match self {
            Self::CredentialRejected => "credential_rejected",
            Self::RotationRolledBack => "rotation_rolled_back",
            Self::RunwayShort => "runway_short",
            Self::ServerExpires => "server_expires",
            Self::ClientCaExpires => "client_ca_expires",
            Self::CrlExpires => "crl_expires",
        }
    }
}

impl Operator {
    /// Looks at everything, and says what has become wrong and what has not been any more
    /// since the last look.
    pub fn look(&self) {
        let runway_warning = self.rules.load().runway_warning;
        let now = Instant::now();
        // Held from here, so that of two looks the later one has the last word.
        let mut warnings = self.warnings();
        let standings = self.broker.cache().standings();
        let catalogue = self.broker.catalogue.load();
        let mut found = BTreeMap::new();
        let mut runways = BTreeMap::new();
        for (trouble, message) in &warnings.expiring {
            let nobody = Subject::default();
            found.insert((nobody, *trouble), message.clone());
        }
        for registration in catalogue.registrations() {
            let standing = standings.get(&registration.key);
            let key = &registration.key;
            let subject = (key.destination.to_string(), key.application.to_string());
            if let Some(standing) = standing {
                runways.insert(subject.clone(), standing.runway);
            }
            for (trouble, message) in troubles(registration, standing, runway_warning, now) {
                found.insert((subject.clone(), trouble), message);
            }
        }
        warnings.show_runways(runways, &self.metrics);
        warnings.take_in(found, &self.metrics);
    }

    /// What of the listener's is about to run out, until the next call.
    pub fn expiring(&self, expiring: impl IntoIterator<Item = (Trouble, String)>) {
        self.warnings().expiring = expiring.into_iter().collect();
    }

    pub(super) fn warnings_of(&self, destination: &str, application: &str) -> Vec<Warning> {
        let subject = (destination.to_owned(), application.to_owned());
        let warnings = self.warnings();
        let from = (subject.clone(), Trouble::CredentialRejected);
        let after = warnings.current.range(from..);
        let of_subject = after.take_while(|((of, _), _)| *of == subject);
        of_subject.map(|(_, warning)| warning.clone()).collect()
    }

    fn warnings(&self) -> MutexGuard<'_, Warnings> {
        self.warnings.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Warnings {
    fn take_in(&mut self, found: BTreeMap<(Subject, Trouble), String>, metrics: &Metrics) {
        self.current.retain(|name, _| {
            let goes_on = found.contains_key(name);
            if !goes_on {
                let ((destination, application), trouble) = name;
                let warning = trouble.label();
                info!(destination, application, warning, "this warning is over");
                metrics.warn(destination, application, warning, false);
            }
            goes_on
        });
        for (name, message) in found {
            if let Some(known) = self.current.get_mut(&name) {
                known.message = message;
                continue;
            }
            let ((destination, application), trouble) = &name;
            let warning = trouble.label();
            warn!(destination, application, warning, "{message}");
            metrics.warn(destination, application, warning, true);
            let warning = Warning {
                trouble: *trouble,
                message,
                since: SystemTime::now(),
            };
            self.current.insert(name, warning);
        }
    }

    fn show_runways(&mut self, runways: BTreeMap<Subject, Duration>, metrics: &Metrics) {
        for (destination, application) in &self.runways {
            if !runways.contains_key(&(destination.clone(), application.clone())) {
                metrics.runway(destination, application, None);
            }
        }
        for ((destination, application), runway) in &runways {
            metrics.runway(destination, application, Some(*runway));
        }
        self.runways = runways.into_keys().collect();
    }
}

/// What is wrong with one registration.
fn troubles(
    registration: &Registration,
    standing: Option<&Standing>,
    runway_warning: Duration,
    now: Instant,
) -> Vec<(Trouble, String)> {
    let mut troubles = Vec::new();
    let secret = registration.rotation.minting(now);
    if let Some(Trial::RolledBack { .. }) = registration.rotation.trial() {
        let message = format!(
            "the next secret of {} was rejected, and the current one goes on minting",
            secret.credential
        );
        troubles.push((Trouble::RotationRolledBack, message));
    }
    let failing = standing.filter(|standing| {
        matches!(
            standing.condition,
            Condition::Failing | Condition::RefreshFailing
        )
    });
    let Some(standing) = failing else {
        return troubles;
    };
    if let Some((FailureReason::CredentialRejected, _)) = standing.last_failure {
        let message = format!("the token endpoint rejects {}", secret.credential);
        troubles.push((Trouble::CredentialRejected, message));
    }
    let life = standing.token.as_ref().map(|token| token.lifetime);
    let life = life.unwrap_or(registration.lifetimes.default);
    if standing.runway < runway_warning.min(life / SHARE_OF_LIFE) {
        let message = if standing.runway.is_zero() {
            "minting fails, and there is no token for callers".to_owned()
        } else {
            let left = shown(standing.runway);
            format!("minting fails, and callers will notice in {left}")
        };
        troubles.push((Trouble::RunwayShort, message));
    }
    troubles
}
