//! What every store does: the one in memory, which other tests rely on, and the servers.

use std::{
    slice,
    sync::{Arc, Mutex},
    time::Duration,
};

use futures_util::future::{BoxFuture, FutureExt as _};
use tokio::sync::mpsc;

use super::{
    super::{Beginning, Name, News, Sealed, Store, Turn},
    fixture::{Replica, kept, name, sealed, settings},
    server::{PATIENCE, Server, until},
};
use crate::shared_cache::{
    record::Kind::{self, Failure, Pause, Quarantine, Token},
    sealed::Head,
    shelf::Shelf,
};

const LONG: Duration = Duration::from_secs(60);
const SHORT: Duration = Duration::from_millis(150);

/// Two replicas, and what the second one hears.
struct Fleet {
    one: Arc<dyn Store>,
    other: Arc<dyn Store>,
    news: mpsc::Receiver<News>,
}

type Scenario = for<'a> fn(&'a mut Fleet) -> BoxFuture<'a, ()>;

const SCENARIOS: [(&str, Scenario); 18] = [
    ("a turn is one replica's", |f| f.one_turn().boxed()),
    ("a turn that outlasted its life is another's", |f| {
        f.taken_over().boxed()
    }),
    ("a token is found, and no longer once it is seen", |f| {
        f.found().boxed()
    }),
    ("a token clears a failure", |f| {
        f.token_after_failure().boxed()
    }),
    ("a failure leaves a token alone", |f| {
        f.failure_after_token().boxed()
    }),
    ("each is found for its own time", |f| f.times().boxed()),
    ("a failure's time does not shorten the token's", |f| {
        f.failure_passes().boxed()
    }),
    ("an older turn keeps nothing over a later one", |f| {
        f.late_holder().boxed()
    }),
    (
        "a turn that was lost still keeps what nobody replaced",
        |f| f.lost_but_first().boxed(),
    ),
    ("a turn ends without an outcome", |f| f.nothing().boxed()),
    ("an abandoned turn is given back", |f| f.abandoned().boxed()),
    ("what is kept without a turn counts", |f| {
        f.without_a_turn().boxed()
    }),
    ("who was forgotten keeps nothing", |f| f.forgotten().boxed()),
    ("the longer pause counts", |f| f.pauses().boxed()),
    ("the last quarantine counts", |f| f.quarantines().boxed()),
    ("replicas are told of each other while they last", |f| {
        f.replicas().boxed()
    }),
    ("a replica has one name at a time", |f| f.renamed().boxed()),
    ("the others hear what is kept", |f| f.heard().boxed()),
];

#[tokio::test(start_paused = true)]
async fn a_shelf_does_what_every_store_does() {
    for (what, scenario) in SCENARIOS {
        let shelf = Arc::new(Shelf::default());
        let (sender, news) = mpsc::channel(64);
        shelf.tell(sender);
        println!("{what}");
        let (one, other) = (Arc::clone(&shelf), shelf);
        scenario(&mut Fleet { one, other, news }).await;
    }
}

#[tokio::test]
#[ignore = "needs redis-server"]
async fn a_server_does_what_every_store_does() {
    let server = Server::start("");
    let one = Replica::connected(settings(server.port)).await;
    run_all(&one, settings(server.port)).await;
}

/// Runs all scenarios with a replica, and a second one that has these settings.
pub(super) async fn run_all(one: &Replica, other: crate::shared_cache::Settings) {
    for (what, scenario) in SCENARIOS {
        let mut other = Replica::connected(other.clone()).await;
        while other.news.try_recv().is_ok() {}
        println!("{what}");
        let mut fleet = Fleet {
            one: Arc::clone(&one.store),
            other: Arc::clone(&other.store),
            news: other.news,
        };
        scenario(&mut fleet).await;
    }
}

impl Fleet {
    async fn one_turn(&mut self) {
        let name = name();
        let turn = granted(&*self.one, &name, &[], LONG).await;
        let left = held(&*self.other, &name).await;
        assert!(left <= LONG && left > LONG / 2, "{left:?}");
        assert_eq!(self.one.finish(&name, Some(&turn), None).await, Ok(true));
        let next = granted(&*self.other, &name, &[], LONG).await;
        assert_eq!(next.fence, turn.fence + 1);
        assert_ne!(next.owner, turn.owner);
    }

    async fn taken_over(&mut self) {
        let name = name();
        let lost = granted(&*self.one, &name, &[], SHORT).await;
        let turn = self.take_over(&name).await;
        assert_eq!(turn.fence, lost.fence + 1);
        assert_eq!(self.one.finish(&name, Some(&lost), None).await, Ok(false));
        held(&*self.one, &name).await;
    }

    async fn found(&mut self) {
        let (name, token) = (name(), sealed());
        let turn = granted(&*self.one, &name, &[], LONG).await;
        self.keep(&name, &turn, Token, &token, LONG).await;
        self.assert_kept(&name, &[(Token, &token)]).await;
        self.assert_found(&name, &[(Token, &token)], &[sealed().head()])
            .await;
        granted(&*self.other, &name, &[sealed().head(), token.head()], LONG).await;
    }

    async fn token_after_failure(&mut self) {
        let (name, failure, token) = (name(), sealed(), sealed());
        let turn = granted(&*self.one, &name, &[], LONG).await;
        self.keep(&name, &turn, Failure, &failure, LONG).await;
        self.assert_found(&name, &[(Failure, &failure)], &[]).await;
        let turn = granted(&*self.one, &name, &[failure.head()], LONG).await;
        self.keep(&name, &turn, Token, &token, LONG).await;
        self.assert_kept(&name, &[(Token, &token)]).await;
    }

    async fn failure_after_token(&mut self) {
        let (name, failure, token) = (name(), sealed(), sealed());
        let turn = granted(&*self.one, &name, &[], LONG).await;
        self.keep(&name, &turn, Token, &token, LONG).await;
        let turn = granted(&*self.one, &name, &[token.head()], LONG).await;
        self.keep(&name, &turn, Failure, &failure, LONG).await;
        let both = [(Token, &token), (Failure, &failure)];
        self.assert_kept(&name, &both).await;
        // What is not seen shows all that there is.
        self.assert_found(&name, &both, &[token.head()]).await;
        granted(&*self.one, &name, &[token.head(), failure.head()], LONG).await;
    }

    async fn times(&mut self) {
        let (name, token) = (name(), sealed());
        let turn = granted(&*self.one, &name, &[], LONG).await;
        self.keep(&name, &turn, Token, &token, SHORT).await;
        self.assert_kept(&name, &[(Token, &token)]).await;
        until("the token's time has passed", async || {
            self.one.look(&name).await.unwrap().is_empty()
        })
        .await;
        let next = granted(&*self.other, &name, &[], LONG).await;
        assert_eq!(next.fence, turn.fence + 1);
    }

    async fn failure_passes(&mut self) {
        let (name, failure, token) = (name(), sealed(), sealed());
        let turn = granted(&*self.one, &name, &[], LONG).await;
        self.keep(&name, &turn, Token, &token, LONG).await;
        let turn = granted(&*self.one, &name, &[token.head()], LONG).await;
        self.keep(&name, &turn, Failure, &failure, SHORT).await;
        until("the failure's time has passed", async || {
            self.one.look(&name).await.unwrap().len() == 1
        })
        .await;
        self.assert_kept(&name, &[(Token, &token)]).await;
    }

    async fn late_holder(&mut self) {
        let (name, token, late) = (name(), sealed(), sealed());
        let lost = granted(&*self.one, &name, &[], SHORT).await;
        let turn = self.take_over(&name).await;
        self.keep(&name, &turn, Token, &token, LONG).await;
        let outcome = Some(kept(Token, &late, LONG));
        assert_eq!(
            self.one.finish(&name, Some(&lost), outcome).await,
            Ok(false)
        );
        self.assert_kept(&name, &[(Token, &token)]).await;
        self.assert_told_but_once(&name, token).await;
    }

    async fn lost_but_first(&mut self) {
        let (name, late, token) = (name(), sealed(), sealed());
        let lost = granted(&*self.one, &name, &[], SHORT).await;
        let turn = self.take_over(&name).await;
        let outcome = Some(kept(Token, &late, LONG));
        assert_eq!(
            self.one.finish(&name, Some(&lost), outcome).await,
            Ok(false)
        );
        self.assert_kept(&name, &[(Token, &late)]).await;
        self.keep(&name, &turn, Token, &token, LONG).await;
        self.assert_kept(&name, &[(Token, &token)]).await;
    }

    async fn nothing(&mut self) {
        let name = name();
        let turn = granted(&*self.one, &name, &[], LONG).await;
        assert_eq!(self.one.finish(&name, Some(&turn), None).await, Ok(true));
        self.assert_kept(&name, &[]).await;
        assert_eq!(self.one.finish(&name, Some(&turn), None).await, Ok(false));
    }

    async fn abandoned(&mut self) {
        let name = name();
        let turn = granted(&*self.one, &name, &[], LONG).await;
        let foreign = Turn {
            owner: turn.owner ^ 1,
            ..turn
        };
        self.one.abandon(&name, &foreign);
        held(&*self.other, &name).await;
        self.one.abandon(&name, &turn);
        until("the turn is given back", async || {
            let began = self.other.begin(&name, &[], LONG).await.unwrap();
            matches!(began, Beginning::Granted(_))
        })
        .await;
    }

    async fn without_a_turn(&mut self) {
        let (name, token, late) = (name(), sealed(), sealed());
        let turn = granted(&*self.one, &name, &[], LONG).await;
        let outcome = Some(kept(Token, &token, LONG));
        assert_eq!(self.other.finish(&name, None, outcome).await, Ok(true));
        self.assert_kept(&name, &[(Token, &token)]).await;
        // It came after the turn began, so that one is the older of the two.
        self.keep(&name, &turn, Token, &late, LONG).await;
        self.assert_kept(&name, &[(Token, &token)]).await;
        let next = granted(&*self.one, &name, &[token.head()], LONG).await;
        assert_eq!(next.fence, turn.fence + 2);
    }

    async fn forgotten(&mut self) {
        let (name, token, late) = (name(), sealed(), sealed());
        assert_eq!(self.one.forget(&name).await, Ok(()));
        let turn = granted(&*self.one, &name, &[], LONG).await;
        self.keep(&name, &turn, Token, &token, LONG).await;
        let turn = granted(&*self.one, &name, &[token.head()], LONG).await;
        assert_eq!(self.other.forget(&name).await, Ok(()));
        self.assert_kept(&name, &[]).await;
        let outcome = Some(kept(Token, &late, LONG));
        assert_eq!(
            self.one.finish(&name, Some(&turn), outcome).await,
            Ok(false)
        );
        self.assert_kept(&name, &[]).await;
        granted(&*self.other, &name, &[], LONG).await;
    }

    async fn pauses(&mut self) {
        let (name, long, short) = (name(), sealed(), sealed());
        assert_eq!(self.other.pause(&name).await, Ok(None));
        self.one
            .keep_pause(&name, short.clone(), SHORT)
            .await
            .unwrap();
        self.one
            .keep_pause(&name, long.clone(), LONG)
            .await
            .unwrap();
        assert_eq!(self.other.pause(&name).await, Ok(Some(long.clone())));
        self.one
            .keep_pause(&name, short.clone(), SHORT)
            .await
            .unwrap();
        assert_eq!(self.other.pause(&name).await, Ok(Some(long.clone())));
        assert_eq!(self.told(&name).await, (Pause, short));
        assert_eq!(self.told(&name).await, (Pause, long));
        let passing = super::fixture::name();
        self.one
            .keep_pause(&passing, sealed(), SHORT)
            .await
            .unwrap();
        until("the pause has passed", async || {
            self.other.pause(&passing).await == Ok(None)
        })
        .await;
    }

    async fn quarantines(&mut self) {
        let (name, first, last) = (name(), sealed(), sealed());
        self.one
            .keep_quarantine(&[name], first.clone())
            .await
            .unwrap();
        self.one
            .keep_quarantine(&[name], last.clone())
            .await
            .unwrap();
        let mut kept = self.other.quarantines().await.unwrap();
        kept.retain(|(other, _)| *other == name);
        assert_eq!(kept, [(name, last.clone())]);
        assert_eq!(self.told(&name).await, (Quarantine, first));
        assert_eq!(self.told(&name).await, (Quarantine, last));
    }

    async fn replicas(&mut self) {
        let names = [name(), name(), name()];
        let told = [sealed(), sealed(), sealed()];
        let [first, passing, leaving] = [0, 1, 2].map(|at| (names[at], told[at].clone()));
        let (one, other) = (Arc::clone(&self.one), Arc::clone(&self.other));
        // Of those of this scenario.
        let beat = async |store: &Arc<dyn Store>, told: &(Name, Sealed), lasts| {
            let others = store.beat(&[told.0], Some(told.1.clone()), lasts).await;
            let mut others = others.unwrap();
            others.retain(|(name, _)| names.contains(name));
            others
        };
        assert_eq!(beat(&one, &first, LONG).await, []);
        assert_eq!(beat(&other, &passing, SHORT).await, slice::from_ref(&first));
        let both = beat(&one, &leaving, LONG).await;
        assert!(both.contains(&first) && both.contains(&passing) && both.len() == 2);
        until("one that tells no more has passed", async || {
            beat(&one, &leaving, LONG).await == [first.clone()]
        })
        .await;
        // What it tells now counts.
        let again = (first.0, sealed());
        assert_eq!(beat(&one, &again, LONG).await, slice::from_ref(&leaving));
        assert_eq!(beat(&other, &leaving, LONG).await, slice::from_ref(&again));
        let others = other.beat(&[leaving.0], None, LONG).await.unwrap();
        assert!(others.contains(&again));
        assert_eq!(beat(&one, &first, LONG).await, []);
        // Who has left may leave again.
        assert!(other.beat(&[leaving.0], None, LONG).await.is_ok());
        assert!(one.beat(&[first.0], None, LONG).await.is_ok());
    }

    async fn renamed(&mut self) {
        let (old, new, listener) = (name(), name(), name());
        let told = [sealed(), sealed()];
        let listen = async || {
            let others = self.other.beat(&[listener], Some(sealed()), LONG).await;
            let mut others = others.unwrap();
            others.retain(|(name, _)| [old, new].contains(name));
            others
        };
        for (names, told) in [([old, new], &told[0]), ([new, old], &told[1])] {
            let others = self.one.beat(&names, Some(told.clone()), LONG).await;
            let others = others.unwrap();
            assert!(others.iter().all(|(name, _)| !names.contains(name)));
            assert_eq!(listen().await, [(names[0], told.clone())]);
        }
        assert!(self.one.beat(&[old, new], None, LONG).await.is_ok());
        assert_eq!(listen().await, []);
        assert!(self.other.beat(&[listener], None, LONG).await.is_ok());
    }

    async fn heard(&mut self) {
        let (name, token, failure) = (name(), sealed(), sealed());
        let turn = granted(&*self.one, &name, &[], LONG).await;
        self.keep(&name, &turn, Token, &token, LONG).await;
        let turn = granted(&*self.one, &name, &[token.head()], LONG).await;
        self.keep(&name, &turn, Failure, &failure, LONG).await;
        assert_eq!(self.told(&name).await, (Token, token));
        assert_eq!(self.told(&name).await, (Failure, failure));
    }

    /// The turn of somebody whose time has passed.
    async fn take_over(&self, name: &Name) -> Turn {
        let taken = Mutex::new(None);
        until("the turn's life has passed", async || {
            let began = self.other.begin(name, &[], LONG).await.unwrap();
            let turn = match began {
                Beginning::Granted(turn) => Some(turn),
                _ => None,
            };
            *taken.lock().unwrap() = turn;
            turn.is_some()
        })
        .await;
        taken.into_inner().unwrap().unwrap()
    }

    async fn keep(&self, name: &Name, turn: &Turn, kind: Kind, value: &Sealed, lasts: Duration) {
        let outcome = Some(kept(kind, value, lasts));
        assert_eq!(self.one.finish(name, Some(turn), outcome).await, Ok(true));
    }

    async fn assert_kept(&self, name: &Name, expected: &[(Kind, &Sealed)]) {
        let entries = self.other.look(name).await.unwrap();
        let kinds: Vec<_> = entries.iter().map(|entry| entry.kind).collect();
        for (kind, value) in expected {
            let same = |entry: &&super::super::Entry| entry.kind == *kind;
            let entry = entries.iter().find(same).unwrap();
            assert_eq!(entry.sealed, **value);
        }
        assert_eq!(entries.len(), expected.len(), "{kinds:?}");
    }

    async fn assert_found(&self, name: &Name, expected: &[(Kind, &Sealed)], seen: &[Head]) {
        match self.other.begin(name, seen, LONG).await {
            Ok(Beginning::Found(entries)) => {
                assert_eq!(entries.len(), expected.len());
                for (kind, value) in expected {
                    let same = |entry: &super::super::Entry| {
                        entry.kind == *kind && entry.sealed == **value
                    };
                    assert!(entries.iter().any(same));
                }
            }
            other => panic!("{other:?}"),
        }
    }

    /// What is told of this name next. News of other names come over other nodes of a cluster,
    /// and may be late.
    async fn told(&mut self, name: &Name) -> (Kind, Sealed) {
        loop {
            let news = tokio::time::timeout(PATIENCE, self.news.recv()).await;
            match news.unwrap().unwrap() {
                News::Told(message) if message.name == *name => {
                    return (message.kind, message.sealed);
                }
                News::Told(_) | News::Connected => {}
            }
        }
    }

    /// Nothing was told of this name but one value: a message that follows shows that nothing is
    /// on its way.
    async fn assert_told_but_once(&mut self, name: &Name, value: Sealed) {
        let last = sealed();
        let kept = self.one.keep_pause(name, last.clone(), LONG).await;
        assert_eq!(kept, Ok(()));
        assert_eq!(self.told(name).await, (Token, value));
        assert_eq!(self.told(name).await, (Pause, last));
    }
}

async fn granted(store: &dyn Store, name: &Name, seen: &[Head], life: Duration) -> Turn {
    match store.begin(name, seen, life).await {
        Ok(Beginning::Granted(turn)) => turn,
        other => panic!("{other:?}"),
    }
}

async fn held(store: &dyn Store, name: &Name) -> Duration {
    match store.begin(name, &[], LONG).await {
        Ok(Beginning::Held(left)) => left,
        other => panic!("{other:?}"),
    }
}
