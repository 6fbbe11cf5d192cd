//! The store behind a Redis server, a Redis Cluster or Redis Sentinel. No other room names redis.
//!
//! | file | holds |
//! |---|---|
//! | `link` | keeps a line to the servers, for as long as it is run |
//! | `state` | whether there is a line, as all operations see it |
//! | `line` | one connection, and what is asked over it |
//! | `connect` | how a connection is made, to each kind of servers |
//! | `sentinel` | where the master is |
//! | `wire` | a connection to one server, or to the nodes of a cluster |
//! | `keys` | the names of keys and of the channel |
//! | `scripts` | the steps that are atomic, in Lua |
//! | `reply` | what the scripts answer |
//! | `news` | what other replicas tell |
//! | `trouble` | what an error means |

mod connect;
mod keys;
mod line;
mod link;
mod news;
mod reply;
mod scripts;
mod sentinel;
mod state;
#[cfg(test)]
mod tests;
mod trouble;
mod wire;

use std::{sync::Arc, time::Duration};

use futures_util::future::{BoxFuture, FutureExt as _};
use tokio::sync::{mpsc, watch};

pub use self::link::Link;
use self::state::Shared;
use super::{
    News, Settings,
    sealed::{Head, Sealed},
    store::{Beginning, Entry, Kept, Name, Store, Trouble, Turn},
};
use crate::metrics::Metrics;

/// So many turns wait to be given back. Any other ends by itself.
const ABANDONED: usize = 1024;

/// The store that is reached by these settings, which may change, and the link that reaches it.
pub(super) fn link(
    settings: watch::Receiver<Option<Settings>>,
    metrics: Arc<Metrics>,
    news: mpsc::Sender<News>,
) -> (Arc<dyn Store>, Link) {
    let is_configured = settings.borrow().is_some();
    let shared = Arc::new(Shared::new(is_configured, metrics));
    let (abandoned, abandonments) = mpsc::channel(ABANDONED);
    let link = Link::new(Arc::clone(&shared), settings, news, abandonments);
    (Arc::new(Redis { shared, abandoned }), link)
}

/// The store, as everybody sees it.
struct Redis {
    shared: Arc<Shared>,
    abandoned: mpsc::Sender<(Name, Turn)>,
}

impl Store for Redis {
    fn settled(&self) -> BoxFuture<'_, ()> {
        self.shared.settled().boxed()
    }

    fn trouble(&self) -> Option<Trouble> {
        self.shared.trouble()
    }

    fn look<'a>(&'a self, name: &'a Name) -> BoxFuture<'a, Result<Vec<Entry>, Trouble>> {
        async move {
            let line = self.shared.line()?;
            line.bounded(line.look(name)).await
        }
        .boxed()
    }

    fn begin<'a>(
        &'a self,
        name: &'a Name,
        seen: &'a [Head],
        life: Duration,
    ) -> BoxFuture<'a, Result<Beginning, Trouble>> {
        async move {
            let server = self.shared.line()?;
            let mut asked = Asked::by(self, name);
            let began = server.begin(name, asked.turn.owner, seen, life);
            let began = server.bounded(began).await;
            asked.is_answered = !matches!(began, Err(Trouble::Slow | Trouble::Unreachable));
            self.shared.wrote(&server.servers, began)
        }
        .boxed()
    }

    fn finish<'a>(
        &'a self,
        name: &'a Name,
        turn: Option<&'a Turn>,
        outcome: Option<Kept>,
    ) -> BoxFuture<'a, Result<bool, Trouble>> {
        async move {
            let line = self.shared.line()?;
            let finished = line.bounded(line.finish(name, turn, outcome)).await;
            self.shared.gave_back(&line.servers, finished)
        }
        .boxed()
    }

    fn abandon(&self, name: &Name, turn: &Turn) {
        // One that finds no line or no place ends by itself, a little later.
        if self.shared.line().is_ok() {
            let _ = self.abandoned.try_send((*name, *turn));
        }
    }

    fn forget<'a>(&'a self, name: &'a Name) -> BoxFuture<'a, Result<(), Trouble>> {
        async move {
            let line = self.shared.line()?;
            let forgot = line.bounded(line.forget(name)).await;
            self.shared.gave_back(&line.servers, forgot)
        }
        .boxed()
    }

    fn pause<'a>(&'a self, name: &'a Name) -> BoxFuture<'a, Result<Option<Sealed>, Trouble>> {
        async move {
            let line = self.shared.line()?;
            line.bounded(line.pause(name)).await
        }
        .boxed()
    }

    fn keep_pause<'a>(
        &'a self,
        name: &'a Name,
        sealed: Sealed,
        lasts: Duration,
    ) -> BoxFuture<'a, Result<(), Trouble>> {
        async move {
            let line = self.shared.line()?;
            let kept = line.bounded(line.keep_pause(name, sealed, lasts)).await;
            self.shared.wrote(&line.servers, kept)
        }
        .boxed()
    }

    fn quarantines(&self) -> BoxFuture<'_, Result<Vec<(Name, Sealed)>, Trouble>> {
        async move {
            let line = self.shared.line()?;
            line.bounded(line.quarantines()).await
        }
        .boxed()
    }

    fn keep_quarantine<'a>(
        &'a self,
        names: &'a [Name],
        sealed: Sealed,
    ) -> BoxFuture<'a, Result<(), Trouble>> {
        async move {
            let line = self.shared.line()?;
            let kept = line.bounded(line.keep_quarantine(names, sealed)).await;
            self.shared.wrote(&line.servers, kept)
        }
        .boxed()
    }

    fn beat<'a>(
        &'a self,
        names: &'a [Name],
        told: Option<Sealed>,
        lasts: Duration,
    ) -> BoxFuture<'a, Result<Vec<(Name, Sealed)>, Trouble>> {
        async move {
            let line = self.shared.line()?;
            // Whoever takes itself out does so at a full server as well.
            let is_kept = told.is_some();
            let beat = line.bounded(line.beat(names, told, lasts)).await;
            if is_kept {
                self.shared.wrote(&line.servers, beat)
            } else {
                self.shared.gave_back(&line.servers, beat)
            }
        }
        .boxed()
    }
}

/// A turn that was asked for. If nobody hears the answer, it is given back all the same: the
/// server may still grant it, and would hold it for its whole life.
struct Asked<'a> {
    store: &'a Redis,
    name: &'a Name,
    turn: Turn,
    is_answered: bool,
}

impl<'a> Asked<'a> {
    fn by(store: &'a Redis, name: &'a Name) -> Self {
        // Whose it is decides alone whether it is given back.
        let (owner, fence) = (rand::random(), 0);
        Self {
            store,
            name,
            turn: Turn { owner, fence },
            is_answered: false,
        }
    }
}

impl Drop for Asked<'_> {
    fn drop(&mut self) {
        if !self.is_answered {
            self.store.abandon(self.name, &self.turn);
        }
    }
}
