//! A replica, as it tells the others of itself.

use std::time::SystemTime;

/// One of the replicas that share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replica {
    /// What it is called: the name of its host, which Kubernetes gives each pod.
    pub name: String,
    /// The version that it runs.
    pub version: String,
    /// When it started.
    pub since: SystemTime,
    /// When it was heard of last.
    pub seen: SystemTime,
    /// Whether it is the one that was asked.
    pub is_this: bool,
}
