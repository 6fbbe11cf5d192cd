//! Grants and credentials that nobody used for a while.

use std::time::Duration;

use super::Operator;
use crate::usage::{GrantName, Mark, Stamp};

/// A grant or a credential that nobody used for a while.
#[derive(Debug, PartialEq, Eq)]
pub struct Unused {
    /// What it is.
    pub what: Idle,
    /// Since when it is known.
    pub known_since: Stamp,
    /// When it was used last.
    pub last_used: Option<Stamp>,
}

/// What nobody used.
#[derive(Debug, PartialEq, Eq)]
pub enum Idle {
    /// A grant.
    Grant(GrantName),
    /// A credential, as the configuration refers to it.
    Credential(String),
}

impl Operator {
    /// What was idle for at least that long; the grants first. Nothing counts as idle before
    /// it was known.
    pub fn unused(&self, idle_for: Duration) -> Vec<Unused> {
        let now = Stamp::now();
        let idle = |what, mark: &Mark| {
            (mark.idle_since().until(now) >= idle_for).then(|| Unused {
                what,
                known_since: mark.known_since(),
                last_used: mark.last_used(),
            })
        };
        let catalogue = self.broker.catalogue.load();
        let ledger = catalogue.ledger();
        let grants = ledger.grants();
        let grants = grants.filter_map(|(name, mark)| idle(Idle::Grant(name.clone()), mark));
        let credentials = ledger.credentials();
        let credentials =
            credentials.filter_map(|(name, mark)| idle(Idle::Credential(name.to_owned()), &mark));
        grants.chain(credentials).collect()
    }
}
