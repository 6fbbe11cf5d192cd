//! Taking in a changed configuration, certificate, key, authority, revocation list or
//! credential while the broker runs: all of it, or nothing.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use tokio::{
    sync::{Notify, mpsc, watch},
    task::spawn_blocking,
    time::sleep,
};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use super::{
    StartError,
    changes::{changes, faults, waiting},
    expiries::{self, Lapsed},
    wiring::{self, Kept},
};
use crate::{
    admission::Admission,
    broker::{Broker, Operator, Reload, Rules},
    config::{Config, Files, Reading},
    listener::Terms,
    mesh::LiveMesh,
    metrics::Metrics,
    shared_cache::SharedCache,
};

/// How often the files are looked at. A change is taken in when two looks have seen the
/// same, so that nothing half-written is.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// What a reload changes.
pub(super) struct Live {
    pub(super) file: PathBuf,
    pub(super) broker: Arc<Broker>,
    pub(super) operator: Arc<Operator>,
    pub(super) kept: Mutex<Kept>,
    pub(super) mesh: Arc<LiveMesh>,
    pub(super) terms: watch::Sender<Arc<Terms>>,
    pub(super) admission: Arc<Admission>,
    pub(super) metrics: Arc<Metrics>,
    /// Asks for a look at once, whether or not something has changed.
    pub(super) asked: Arc<Notify>,
    pub(super) shared: Arc<SharedCache>,
}

impl Live {
    /// Looks at the files until `stop` is cancelled. They are those of the last reading,
    /// good or bad: what a bad one lacked may come later. Operators who `wish` for a reload
    /// are told what came of it.
    pub(super) async fn keep_up(
        self,
        files: Files,
        mut config: Config,
        mut wishes: mpsc::Receiver<Reload>,
        stop: CancellationToken,
    ) {
        let live = Arc::new(self);
        let mut in_force = files.clone();
        let mut taken_in = files;
        let mut seen = taken_in.clone();
        let mut lapsed = Lapsed::default();
        loop {
            live.look_at_expiries(&mut lapsed);
            let mut wish = None;
            let asked = tokio::select! {
                () = stop.cancelled() => return,
                () = live.asked.notified() => true,
                Some(reload) = wishes.recv() => {
                    wish = Some(reload);
                    true
                }
                () = sleep(LOOK_EVERY) => false,
            };
            let last = seen.clone();
            // Files are read and keys are parsed: not on a thread that serves callers.
            let Ok(now) = spawn_blocking(move || last.again()).await else {
                continue;
            };
            let settled = now == seen && now != taken_in;
            seen = now;
            if !asked && !settled {
                continue;
            }
            let reloading = Arc::clone(&live);
            let Ok((files, reloaded)) = spawn_blocking(move || reloading.reload()).await else {
                error!("reading the configuration failed; the last good one stays in force");
                taken_in = seen.clone();
                continue;
            };
            seen = files;
            let outcome = match reloaded {
                Ok(new) => {
                    live.metrics.reloaded("ok");
                    for setting in waiting(&config, &new) {
                        warn!(setting, "this change takes effect at the next start");
                    }
                    info!(
                        destinations = new.destinations.len(),
                        "took in the configuration"
                    );
                    // Told to whoever asked; for a change that was noticed nobody did.
                    let asked = wish.is_some();
                    let touched = seen.other_than(&in_force);
                    let changes = asked.then(|| changes(&config, &new, &touched));
                    in_force = seen.clone();
                    config = new;
                    Ok(changes.unwrap_or_default())
                }
                Err(error) => {
                    live.metrics.reloaded("refused");
                    error!(%error, "refused the configuration; the last good one stays in force");
                    Err(faults(&error))
                }
            };
            taken_in = seen.clone();
            if let Some(Reload { answer }) = wish {
                // Who does not wait any more need not be told.
                let _ = answer.send(outcome);
            }
        }
    }

    /// Says what has run out, and hands on what soon will.
    fn look_at_expiries(&self, lapsed: &mut Lapsed) {
        let terms = self.terms.borrow();
        let (expiries, now) = (terms.tls.expiries(), SystemTime::now());
        lapsed.look(expiries, now);
        self.operator.expiring(expiries::near(expiries, now));
    }

    /// Reads everything anew and puts it in force, if there is no mistake in any of it.
    fn reload(&self) -> (Files, Result<Config, StartError>) {
        let reading = Reading::of(&self.file);
        let in_force = reading.config.map_err(StartError::from).and_then(|config| {
            let terms = Terms::of(&config.server)?;
            let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
            let in_force = self.broker.catalogue();
            let catalogue;
            (catalogue, *kept) = wiring::catalogue(&config, Some(&in_force), &kept, &self.metrics)?;
            drop(kept);
            // Nothing can fail any more.
            self.shared.replace(config.shared_cache.clone());
            self.broker.replace(catalogue);
            self.mesh.store(Arc::new(wiring::mesh(&config)));
            self.operator.replace(rules(&config));
            expiries::show(&self.metrics, &terms);
            self.admission.share(config.server.shares);
            self.terms.send_replace(Arc::new(terms));
            Ok(config)
        });
        (reading.files, in_force)
    }
}

/// What a configuration says about operating.
pub(super) fn rules(config: &Config) -> Rules {
    Rules::new(
        &config.admin.allow,
        config.server.connections.trust_domains.clone(),
        config.cache.runway_warning,
    )
}
