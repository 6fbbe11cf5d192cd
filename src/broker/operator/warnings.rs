//! What an operator should see to before it is felt.

use std::{
    collections::BTreeMap,
    sync::{Arc, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use tracing::{info, warn};

use super::{Operator, explain::shown};
use crate::{
    cache::{Condition, Registration, Standing},
    clock::Instant,
    metrics::{Metrics, Registered},
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
    /// What replicas share cannot be reached, or does not work.
    SharedCacheUnavailable,
}

/// A destination and an application; both empty for the broker as a whole.
type Subject = (String, String);

/// Everything that is warned of, as it was at the last look.
#[derive(Default)]
pub(super) struct Warnings {
    current: BTreeMap<(Subject, Trouble), Warning>,
    /// What of the listener's runs out.
    expiring: BTreeMap<Trouble, String>,
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
            Self::SharedCacheUnavailable => "shared_cache_unavailable",
        }
    }
}

impl Operator {
    /// Looks at everything, and says what has become wrong and what has not been any more
    /// since the last look. What other replicas did and were not told is looked up and told
    /// again when it is time.
    pub fn look(self: &Arc<Self>) {
        self.rejoin_if_due();
        let runway_warning = self.rules.load().runway_warning;
        let now = Instant::now();
        // Held from here, so that of two looks the later one has the last word.
        let mut warnings = self.warnings();
        let standings = self.broker.cache().standings();
        let catalogue = self.broker.catalogue.load();
        let mut found = BTreeMap::new();
        for (trouble, message) in &warnings.expiring {
            let nobody = Subject::default();
            found.insert((nobody, *trouble), message.clone());
        }
        if let Some(trouble) = self.shared.trouble() {
            let name = (Subject::default(), Trouble::SharedCacheUnavailable);
            let message = format!(
                "the shared cache is of no use ({}): this broker mints for itself, and neither hears nor tells of quarantines",
                trouble.code()
            );
            found.insert(name, message);
        }
        let shown = catalogue.registrations().map(|registration| {
            let standing = standings.of(registration);
            let standing = standing.as_ref();
            let key = &registration.key;
            for (trouble, message) in troubles(registration, standing, runway_warning, now) {
                let subject = (key.destination.to_string(), key.application.to_string());
                found.insert((subject, trouble), message);
            }
            self.show(registration, standing)
        });
        self.metrics.show(shown);
        warnings.take_in(found, &self.metrics);
    }

    /// What the metrics show of a registration.
    fn show<'a>(
        &self,
        registration: &'a Registration,
        standing: Option<&Standing>,
    ) -> Registered<'a> {
        let (key, cache) = (&registration.key, self.broker.cache());
        let condition = match standing {
            Some(standing) => standing.condition,
            None if cache.is_quarantined(&key.destination, &key.application) => {
                Condition::Quarantined
            }
            None => Condition::Cold,
        };
        let token = standing.and_then(|standing| standing.token.as_ref());
        Registered {
            key,
            host: registration.host.name(),
            state: condition.label(),
            runway: standing.map(|standing| standing.runway),
            expires_at: token.map(|token| token.expires_at().wall),
        }
    }

    /// What of the listener's is about to run out, until the next call.
    pub fn expiring(&self, expiring: impl IntoIterator<Item = (Trouble, String)>) {
        self.warnings().expiring = expiring.into_iter().collect();
    }

    pub(super) fn warnings_of(&self, destination: &str, application: &str) -> Vec<Warning> {
        let subject = (destination.to_owned(), application.to_owned());
        let warnings = self.warnings();
        // The first of all kinds, so that none of the subject's is before it.
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
    let life = life.unwrap_or(registration.terms.lifetimes.default);
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use futures_util::future::{BoxFuture, FutureExt as _};

    use super::*;
    use crate::telemetry::Span;
    use crate::{
        clock::Moment,
        destination::TokenKey,
        secret::Secret,
        token::{Minted, Origin, SecretName, Token, TokenId},
        upstream::{FetchError, Minter, Rotation, TokenSource},
    };

    struct Nobody;

    impl TokenSource for Nobody {
        fn mint<'a>(&'a self, _flight: &'a Span) -> BoxFuture<'a, Result<Minted, FetchError>> {
            std::future::pending().boxed()
        }
    }

    fn registration(trial: Option<Trial>) -> Registration {
        let minter = || Minter {
            source: Arc::new(Nobody),
            secret: SecretName::sample(),
        };
        let next = trial.map(|_| minter());
        let rotation = Rotation::on_trial(minter(), next, trial.unwrap_or_default());
        Registration::sample("d", Arc::new(rotation))
    }

    fn standing(condition: Condition, runway: u64, reason: Option<FailureReason>) -> Standing {
        let token = Token {
            key: Arc::new(TokenKey::sample("d")),
            access_token: Arc::new(Secret::new("token".to_owned())),
            id: TokenId::random(),
            requested_at: Moment::now(),
            origin: Origin::Here,
            lifetime: Duration::from_secs(1000),
            secret: SecretName::sample(),
        };
        Standing {
            condition,
            token: (runway > 0).then(|| Arc::new(token)),
            served_until: None,
            refresh_at: None,
            due: None,
            is_minting: false,
            failures: u32::from(reason.is_some()),
            retry_at: None,
            runway: Duration::from_secs(runway),
            last_success: None,
            last_failure: reason.map(|reason| (reason, Moment::now())),
            last_used: None,
        }
    }

    #[tokio::test]
    async fn what_is_wrong_is_told_and_nothing_else_is() {
        use Condition::{Cold, Failing, Fresh, Pending, Quarantined, RefreshFailing};
        use FailureReason::{CredentialRejected as Rejected, Throttled};
        use Trouble::{CredentialRejected, RotationRolledBack, RunwayShort};
        let rolled_back = Some(Trial::RolledBack {
            again_at: Instant::now(),
        });
        let minute = Duration::from_secs(60);
        for (trial, standing, warning, expected) in [
            (None, None, minute, &[][..]),
            (rolled_back, None, minute, &[RotationRolledBack]),
            (Some(Trial::Pending), None, minute, &[]),
            (Some(Trial::Promoted), None, minute, &[]),
            // Nobody refreshes what nobody uses: that its token ends is no trouble.
            (None, Some(standing(Fresh, 1, Some(Rejected))), minute, &[]),
            (None, Some(standing(Cold, 0, Some(Rejected))), minute, &[]),
            (None, Some(standing(Pending, 0, None)), minute, &[]),
            (
                None,
                Some(standing(Quarantined, 0, Some(Rejected))),
                minute,
                &[],
            ),
            (
                None,
                Some(standing(RefreshFailing, 60, Some(Throttled))),
                minute,
                &[],
            ),
            (
                None,
                Some(standing(RefreshFailing, 59, Some(Throttled))),
                minute,
                &[RunwayShort],
            ),
            // A quarter of its life.
            (
                None,
                Some(standing(RefreshFailing, 250, Some(Throttled))),
                minute * 60,
                &[],
            ),
            (
                None,
                Some(standing(RefreshFailing, 249, Some(Throttled))),
                minute * 60,
                &[RunwayShort],
            ),
            (
                None,
                Some(standing(Failing, 0, Some(Throttled))),
                Duration::ZERO,
                &[],
            ),
            (
                None,
                Some(standing(RefreshFailing, 600, Some(Rejected))),
                minute,
                &[CredentialRejected],
            ),
            (
                rolled_back,
                Some(standing(Failing, 0, Some(Rejected))),
                minute,
                &[RotationRolledBack, CredentialRejected, RunwayShort],
            ),
        ] {
            let registration = registration(trial);
            let found = troubles(&registration, standing.as_ref(), warning, Instant::now());
            let found: Vec<_> = found.into_iter().map(|(trouble, _)| trouble).collect();
            assert_eq!(found, expected, "{trial:?} {standing:?}");
        }
    }

    #[test]
    fn a_warning_has_one_beginning_and_its_series_ends_with_it() {
        let (mut warnings, metrics) = (Warnings::default(), Metrics::new());
        let name = (("d".to_owned(), "app".to_owned()), Trouble::RunwayShort);
        let series =
            r#"token_broker_warnings{destination="d",application="app",warning="runway_short"} 1"#;
        let mut since = None;
        for (message, lasts) in [
            (Some("5m"), true),
            (Some("4m"), true),
            (None, false),
            (None, false),
        ] {
            let found = message.map(|message| (name.clone(), message.to_owned()));
            warnings.take_in(found.into_iter().collect(), &metrics);
            assert_eq!(metrics.exposition().unwrap().contains(series), lasts);
            let known = warnings.current.get(&name);
            assert_eq!(known.map(|warning| warning.message.as_str()), message);
            if let Some(known) = known {
                assert_eq!(*since.get_or_insert(known.since), known.since);
            }
        }
    }
}
