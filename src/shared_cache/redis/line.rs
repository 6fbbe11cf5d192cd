//! One connection, and what is asked over it.

use std::{future::Future, pin::pin, sync::Arc, time::Duration};

use ::redis::Value;
use tokio::{
    sync::Notify,
    time::{Instant, timeout},
};

use super::{
    Beginning, Entry, Head, Kept, Name, Sealed, Trouble, Turn,
    keys::Keys,
    news::{self, Listener},
    reply,
    scripts::{
        BEAT_STEP, BEGIN_STEP, FINISH_STEP, FORGET_STEP, KEEP_PAUSE_STEP, KEEP_QUARANTINE_STEP,
        LOOK_STEP, PAUSE_STEP, QUARANTINES_STEP, Step,
    },
    trouble::trouble,
    wire::Wire,
};
use crate::{
    metrics::Metrics,
    shared_cache::{record::Kind, store::MOST_REPLICAS},
};

/// Nothing is kept for longer than thirty years, and no server could count it.
const MAX_MILLIS: u64 = 1_000_000_000_000;

/// A connection that is in use.
pub(super) struct Line {
    pub(super) wire: Wire,
    /// Where it leads to, as the log says it.
    pub(super) servers: String,
    pub(super) keys: Keys,
    /// How long one answer may take.
    pub(super) timeout: Duration,
    pub(super) listener: Arc<Listener>,
    pub(super) metrics: Arc<Metrics>,
    /// The server is no longer in charge.
    pub(super) stale: Notify,
}

impl Line {
    /// Waits for an answer, within the time that it may take, and has the connection looked
    /// at if there is none.
    pub(super) async fn bounded<T>(
        &self,
        answer: impl Future<Output = Result<T, Trouble>>,
    ) -> Result<T, Trouble> {
        let answer = patiently(self.timeout, answer).await;
        let answer = answer.unwrap_or(Err(Trouble::Slow));
        match &answer {
            Err(
                Trouble::Slow
                | Trouble::Unreachable
                | Trouble::Garbage
                | Trouble::Denied
                | Trouble::Loading,
            ) => self.listener.doubt.notify_one(),
            Err(Trouble::ReadOnly) => self.stale.notify_one(),
            Ok(_) | Err(Trouble::Full | Trouble::Unsafe | Trouble::Moved) => {}
        }
        answer
    }

    pub(super) async fn look(&self, name: &Name) -> Result<Vec<Entry>, Trouble> {
        let answer = self.step(&LOOK_STEP, &[self.keys.slot(name)], &[]).await?;
        reply::entries(answer)
    }

    pub(super) async fn begin(
        &self,
        name: &Name,
        owner: u128,
        seen: &[Head],
        life: Duration,
    ) -> Result<Beginning, Trouble> {
        let (id, life) = (written(owner), millis(life));
        let mut arguments = vec![id.as_bytes(), life.as_bytes()];
        arguments.extend(seen.iter().map(Head::as_bytes));
        let answer = self
            .step(&BEGIN_STEP, &self.slot_keys(name), &arguments)
            .await?;
        reply::beginning(answer, owner)
    }

    pub(super) async fn finish(
        &self,
        name: &Name,
        turn: Option<&Turn>,
        outcome: Option<Kept>,
    ) -> Result<bool, Trouble> {
        let owner = turn.map(|turn| written(turn.owner)).unwrap_or_default();
        let fence = turn.map(|turn| turn.fence.to_string()).unwrap_or_default();
        let (message, lasts) = match outcome {
            Some(Kept { entry, lasts }) => {
                (news::encode(entry.kind, name, &entry.sealed), millis(lasts))
            }
            None => (Vec::new(), String::new()),
        };
        let channel = self.keys.channel();
        let arguments: [&[u8]; 5] = [
            channel.as_bytes(),
            owner.as_bytes(),
            fence.as_bytes(),
            &message,
            lasts.as_bytes(),
        ];
        let keys = self.slot_keys(name);
        let answer = self.step(&FINISH_STEP, &keys, &arguments).await?;
        reply::lasted(&answer)
    }

    pub(super) async fn forget(&self, name: &Name) -> Result<(), Trouble> {
        let keys = self.slot_keys(name);
        let answer = self.step(&FORGET_STEP, &keys, &[]).await?;
        reply::done(&answer)
    }

    pub(super) async fn pause(&self, name: &Name) -> Result<Option<Sealed>, Trouble> {
        let keys = [self.keys.pause(name)];
        reply::value(self.step(&PAUSE_STEP, &keys, &[]).await?)
    }

    pub(super) async fn keep_pause(
        &self,
        name: &Name,
        sealed: Sealed,
        lasts: Duration,
    ) -> Result<(), Trouble> {
        let message = news::encode(Kind::Pause, name, &sealed);
        let (channel, lasts) = (self.keys.channel(), millis(lasts));
        let arguments: [&[u8]; 3] = [channel.as_bytes(), &message, lasts.as_bytes()];
        let keys = [self.keys.pause(name)];
        let answer = self.step(&KEEP_PAUSE_STEP, &keys, &arguments).await?;
        reply::done(&answer)
    }

    pub(super) async fn quarantines(&self) -> Result<Vec<(Name, Sealed)>, Trouble> {
        let keys = [self.keys.quarantines()];
        let answer = self.step(&QUARANTINES_STEP, &keys, &[]).await?;
        let odd = || self.metrics.shared_cache("quarantines", "garbage");
        reply::named(answer, odd)
    }

    pub(super) async fn keep_quarantine(
        &self,
        names: &[Name],
        sealed: Sealed,
    ) -> Result<(), Trouble> {
        let Some(name) = names.first() else {
            return Ok(());
        };
        let message = news::encode(Kind::Quarantine, name, &sealed);
        let channel = self.keys.channel();
        let fields: Vec<_> = names.iter().map(Name::to_string).collect();
        let mut arguments: Vec<&[u8]> = vec![channel.as_bytes(), &message];
        arguments.extend(fields.iter().map(String::as_bytes));
        let keys = [self.keys.quarantines()];
        let answer = self.step(&KEEP_QUARANTINE_STEP, &keys, &arguments).await?;
        reply::done(&answer)
    }

    pub(super) async fn beat(
        &self,
        names: &[Name],
        told: Option<Sealed>,
        lasts: Duration,
    ) -> Result<Vec<(Name, Sealed)>, Trouble> {
        let (told, lasts) = (told.unwrap_or(Sealed(Vec::new())), millis(lasts));
        let fields: Vec<_> = names.iter().map(Name::to_string).collect();
        let mut arguments: Vec<&[u8]> = vec![&told.0, lasts.as_bytes()];
        arguments.extend(fields.iter().map(String::as_bytes));
        let keys = [self.keys.replicas()];
        let answer = self.step(&BEAT_STEP, &keys, &arguments).await?;
        let odd = || self.metrics.shared_cache("beat", "garbage");
        let mut others = reply::named(answer, odd)?;
        others.truncate(MOST_REPLICAS);
        Ok(others)
    }

    fn slot_keys(&self, name: &Name) -> [String; 2] {
        [self.keys.slot(name), self.keys.turn(name)]
    }

    async fn step(
        &self,
        step: &Step,
        keys: &[String],
        arguments: &[&[u8]],
    ) -> Result<Value, Trouble> {
        let answer = step.run(&self.wire, keys, arguments).await;
        answer.map_err(|error| trouble(&error))
    }
}

/// Waits for an answer; `None` if there is none in time.
///
/// A process with too much to do is late itself, and does not take its own delay for the
/// server's: then the answer may be there already, and only waits to be looked at.
async fn patiently<T>(time: Duration, answer: impl Future<Output = T>) -> Option<T> {
    const LATE: Duration = Duration::from_millis(5);
    const ROUNDS: u32 = 5;
    let mut answer = pin!(answer);
    for _ in 0..ROUNDS {
        let begun = Instant::now();
        if let Ok(answer) = timeout(time, &mut answer).await {
            return Some(answer);
        }
        if begun.elapsed() < time + LATE {
            break;
        }
    }
    None
}

/// An owner, as the servers have it.
fn written(owner: u128) -> String {
    format!("{owner:032x}")
}

/// At least one, since a server takes none for a mistake.
fn millis(lasts: Duration) -> String {
    let millis = u64::try_from(lasts.as_millis()).unwrap_or(MAX_MILLIS);
    millis.clamp(1, MAX_MILLIS).to_string()
}
