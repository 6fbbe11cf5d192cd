//! The names of keys, and of the channel.

use super::Name;

/// What all names begin with.
pub(super) struct Keys {
    namespace: String,
}

impl Keys {
    pub(super) fn new(namespace: &str) -> Self {
        Self {
            namespace: namespace.to_owned(),
        }
    }

    /// What is kept for a slot: a hash.
    pub(super) fn slot(&self, name: &Name) -> String {
        self.of(name, "slot")
    }

    /// Whose turn it is.
    pub(super) fn turn(&self, name: &Name) -> String {
        self.of(name, "turn")
    }

    /// The pause of a host.
    pub(super) fn pause(&self, name: &Name) -> String {
        self.of(name, "pause")
    }

    /// All quarantines: a hash.
    pub(super) fn quarantines(&self) -> String {
        format!("{}:quarantines", self.namespace)
    }

    /// What replicas tell of themselves: a hash.
    pub(super) fn replicas(&self) -> String {
        format!("{}:replicas", self.namespace)
    }

    /// The channel on which replicas tell each other what they have kept.
    pub(super) fn channel(&self) -> String {
        format!("{}:news", self.namespace)
    }

    /// The braces keep all that has the same name on one node of a cluster.
    fn of(&self, name: &Name, what: &str) -> String {
        format!("{}:{{{name}}}:{what}", self.namespace)
    }
}
