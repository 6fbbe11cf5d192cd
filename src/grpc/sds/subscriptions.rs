//! The names that one stream is subscribed to.

use std::sync::Arc;

use futures_util::{
    StreamExt as _,
    stream::{self, BoxStream},
};
use tokio_stream::StreamMap;

use super::refused::Refused;
use crate::{
    broker::{CallError, Watch},
    token::Token,
};

/// How many names a stream may be subscribed to.
pub(super) const MAX_NAMES: usize = 100;

/// A token, or why there is none.
pub(super) type Update = Result<Arc<Token>, CallError>;

/// The names, and what is to be told of each.
#[derive(Default)]
pub(super) struct Subscriptions(StreamMap<String, BoxStream<'static, Update>>);

impl Subscriptions {
    /// Watches a name from now on; what was told of it before is told again.
    pub(super) fn add(&mut self, name: String, watch: Watch) {
        let updates = stream::unfold(watch, |mut watch| async {
            let update = watch.next().await;
            Some((update, watch))
        });
        self.0.insert(name, updates.boxed());
    }

    /// Forgets all other names.
    pub(super) fn retain(&mut self, keep: impl Fn(&str) -> bool) {
        let names = self.0.keys().filter(|name| !keep(name));
        for name in names.cloned().collect::<Vec<_>>() {
            self.0.remove(&name);
        }
    }

    pub(super) fn contains(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Waits for something to tell. A name that is not granted any more is told once, and
    /// forgotten; where there is no token for now, or it cannot be recorded, there may be
    /// one again.
    pub(super) async fn next(&mut self) -> (String, Update) {
        let Some((name, update)) = self.0.next().await else {
            return std::future::pending().await;
        };
        let goes_on = matches!(
            update,
            Ok(_) | Err(CallError::Refused(_) | CallError::AuditUnavailable { .. })
        );
        if !goes_on {
            self.0.remove(&name);
        }
        (name, update)
    }
}

/// Refuses more names than one stream may have.
pub(super) fn check_count(names: usize) -> Result<(), Refused> {
    if names <= MAX_NAMES {
        return Ok(());
    }
    Err(Refused::invalid(
        "at most 100 names may be subscribed to at once",
    ))
}
