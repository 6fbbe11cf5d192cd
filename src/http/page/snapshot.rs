//! Everything that the page shows, as it is at one moment.

use std::{sync::Arc, time::SystemTime};

use crate::{
    broker::{Operator, Survey, Warning},
    clock,
    http::readiness::Readiness,
    listener::Expiry,
    shared_cache::Replica,
};

/// Everything that the page shows.
pub(super) struct Snapshot {
    pub(super) now: SystemTime,
    pub(super) readiness: Readiness,
    pub(super) started_at: SystemTime,
    pub(super) sharing: Sharing,
    pub(super) expiries: Vec<Expiry>,
    pub(super) surveys: Vec<Survey>,
    /// Those that are of no destination.
    pub(super) warnings: Vec<Warning>,
}

/// What replicas share, and who they are.
pub(super) enum Sharing {
    /// Nothing is shared.
    Off,
    /// The shared cache answers. This replica is the first.
    Answers(Vec<Replica>),
    /// It does not, for this reason.
    Trouble(&'static str, Vec<Replica>),
}

impl Snapshot {
    pub(super) fn take(
        operator: &Arc<Operator>,
        readiness: Readiness,
        expiries: Vec<Expiry>,
    ) -> Self {
        let (surveys, warnings) = operator.survey();
        let shared = operator.shared();
        let replicas = shared.replicas();
        let sharing = match shared.trouble() {
            // Where something is shared, there is this one at least.
            _ if replicas.is_empty() => Sharing::Off,
            None => Sharing::Answers(replicas),
            Some(trouble) => Sharing::Trouble(trouble.code(), replicas),
        };
        Self {
            now: clock::wall(),
            readiness,
            started_at: operator.started_at(),
            sharing,
            expiries,
            surveys,
            warnings,
        }
    }
}
