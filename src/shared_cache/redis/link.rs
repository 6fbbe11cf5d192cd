//! Keeps a line to the servers.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{
    sync::{mpsc, watch},
    time::{self, MissedTickBehavior},
};
use tokio_util::sync::CancellationToken;

use super::{
    Name, News, Settings, Trouble, Turn,
    connect::connect,
    keys::Keys,
    line::Line,
    news::Listener,
    state::{Shared, State},
};
use crate::backoff::Backoff;

/// A line is looked at so often although nobody complains: without news nobody would notice
/// that it is dead.
const HEARTBEAT: Duration = Duration::from_secs(1);
/// So many probes in a row fail before the line is given up.
const STRIKES: u32 = 3;
/// A line that lasted for so long was a good one: the next attempt does not wait longer for
/// those that failed before.
const GOOD: Duration = Duration::from_secs(10);

/// What reaches the servers, for as long as it is run.
pub struct Link {
    shared: Arc<Shared>,
    settings: watch::Receiver<Option<Settings>>,
    news: mpsc::Sender<News>,
    abandoned: mpsc::Receiver<(Name, Turn)>,
    /// Why nobody answers, if that was said.
    last: Option<Trouble>,
}

/// Why a line is no longer used.
enum End {
    Broken(Trouble),
    Replaced(Line),
}

/// How often a line to whoever is in charge was looked for lately, whether one was found or not:
/// a server may say that it is in charge, and take no writes.
struct Renewals {
    tried: u32,
    next: time::Instant,
}

impl Link {
    pub(super) fn new(
        shared: Arc<Shared>,
        settings: watch::Receiver<Option<Settings>>,
        news: mpsc::Sender<News>,
        abandoned: mpsc::Receiver<(Name, Turn)>,
    ) -> Self {
        Self {
            shared,
            settings,
            news,
            abandoned,
            last: None,
        }
    }

    /// Keeps up the connection until `stop` is cancelled.
    pub async fn run(self, stop: CancellationToken) {
        let shared = Arc::clone(&self.shared);
        stop.run_until_cancelled_owned(self.keep_up()).await;
        // Whoever asks later is told at once that nobody answers.
        shared.set(State::Down(Trouble::Unreachable));
    }

    /// Serves one configuration after the other.
    async fn keep_up(mut self) {
        let mut configured = self.settings.clone();
        loop {
            let settings = configured.borrow_and_update().clone();
            let serve = async {
                match &settings {
                    Some(settings) => self.serve(settings).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = serve => {}
                changed = configured.changed() => {
                    if changed.is_err() {
                        return;
                    }
                }
            }
            self.go_down(Trouble::Unreachable);
        }
    }

    /// Has one line after the other, and never returns.
    async fn serve(&mut self, settings: &Settings) {
        let servers = settings.servers.to_string();
        let mut failures = 0;
        loop {
            let trouble = match self.connect(settings).await {
                Ok(line) => {
                    if self.last.take().is_some() {
                        tracing::info!(%servers, "the shared cache answers again");
                    }
                    let since = Instant::now();
                    let trouble = self.hold(settings, line).await;
                    if since.elapsed() > GOOD {
                        failures = 0;
                    }
                    trouble
                }
                Err(trouble) => trouble,
            };
            self.go_down(trouble);
            let code = trouble.code();
            match self.last.replace(trouble) {
                None => {
                    tracing::warn!(%servers, code, "the shared cache does not answer: this replica is on its own");
                }
                Some(before) if before != trouble => {
                    tracing::debug!(%servers, code, "the shared cache does not answer for another reason");
                }
                Some(_) => {}
            }
            failures += 1;
            time::sleep(Backoff::RECONNECT.delay(failures, rand::random())).await;
        }
    }

    /// There is no line any more. Turns that wait to be given back end by themselves, and most of
    /// them before there is another.
    fn go_down(&mut self, trouble: Trouble) {
        self.shared.set(State::Down(trouble));
        while self.abandoned.try_recv().is_ok() {}
    }

    async fn connect(&self, settings: &Settings) -> Result<Line, Trouble> {
        let metrics = &self.shared.metrics;
        let channel = Keys::new(&settings.namespace).channel();
        let listener = Listener::new(channel, self.news.clone(), Arc::clone(metrics));
        let line = connect(settings, Arc::new(listener), Arc::clone(metrics)).await;
        let outcome = line.as_ref().err().map_or("ok", |trouble| trouble.code());
        metrics.shared_cache("connect", outcome);
        line
    }

    /// Uses a line, and those that replace it, until one breaks.
    async fn hold(&mut self, settings: &Settings, line: Line) -> Trouble {
        let mut line = Arc::new(line);
        // Kept from one line to the next: one that is no better is not replaced at once.
        let mut renewals = Renewals::new();
        loop {
            self.shared.set(State::Up(Arc::clone(&line)));
            line.listener.open();
            match self.watch(settings, &line, &mut renewals).await {
                End::Broken(trouble) => return trouble,
                End::Replaced(other) => line = Arc::new(other),
            }
        }
    }

    async fn watch(&mut self, settings: &Settings, line: &Line, renewals: &mut Renewals) -> End {
        let mut heartbeat = time::interval(HEARTBEAT);
        heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut strikes = 0;
        // A cluster finds out by itself who is in charge.
        let may_renew = !line.wire.is_cluster();
        loop {
            tokio::select! {
                _ = heartbeat.tick() => {}
                () = line.listener.doubt.notified() => {}
                Some((name, turn)) = self.abandoned.recv() => {
                    // One that could not be given back ends by itself.
                    let _ = line.bounded(line.finish(&name, Some(&turn), None)).await;
                    continue;
                }
                () = line.stale.notified(), if may_renew && renewals.are_due() => {
                    let other = self.renew(settings).await;
                    renewals.tried();
                    if let Some(other) = other {
                        return End::Replaced(other);
                    }
                    continue;
                }
            }
            line.listener.catch_up();
            match self.probe(line).await {
                Ok(()) => {
                    strikes = 0;
                    Self::listen_again(line).await;
                }
                Err(trouble) => {
                    strikes += 1;
                    // A node of a cluster may be gone and leave the others to ask.
                    let may_recover = trouble == Trouble::Slow || line.wire.is_cluster();
                    if !may_recover || strikes >= STRIKES {
                        return End::Broken(trouble);
                    }
                    time::sleep(line.timeout).await;
                    line.listener.doubt.notify_one();
                }
            }
        }
    }

    async fn probe(&self, line: &Line) -> Result<(), Trouble> {
        let probe = time::timeout(line.timeout, line.wire.probe()).await;
        let probe = probe.unwrap_or(Err(Trouble::Slow));
        let outcome = probe.err().map_or("ok", Trouble::code);
        self.shared.metrics.shared_cache("probe", outcome);
        probe
    }

    /// The library makes connections to the nodes of a cluster anew, but may forget what was
    /// subscribed to on the one before.
    async fn listen_again(line: &Line) {
        if line.wire.is_cluster() && line.listener.take_deaf() {
            let channel = line.keys.channel();
            let subscribed = time::timeout(line.timeout, line.wire.subscribe(&channel)).await;
            if !matches!(subscribed, Ok(Ok(()))) {
                line.listener.deafen();
            }
        }
    }

    /// A line to whoever is in charge by now. The old one still serves those who only read.
    async fn renew(&self, settings: &Settings) -> Option<Line> {
        let line = self.connect(settings).await.ok()?;
        let is_master = time::timeout(line.timeout, line.wire.is_master()).await;
        matches!(is_master, Ok(Ok(true))).then_some(line)
    }
}

impl Renewals {
    fn new() -> Self {
        Self {
            tried: 0,
            next: time::Instant::now(),
        }
    }

    fn are_due(&self) -> bool {
        self.next <= time::Instant::now()
    }

    /// Puts off the next one. Whoever did without one for long enough begins anew.
    fn tried(&mut self) {
        let now = time::Instant::now();
        if now.saturating_duration_since(self.next) > GOOD {
            self.tried = 0;
        }
        self.tried += 1;
        self.next = now + Backoff::RECONNECT.delay(self.tried, rand::random());
    }
}
