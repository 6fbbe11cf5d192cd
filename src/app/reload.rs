//! Taking in a changed configuration, certificate, key, authority, revocation list or
//! credential while the broker runs: all of it, or nothing.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use tokio::{
    sync::{Notify, watch},
    task::spawn_blocking,
    time::sleep,
};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use super::{
    StartError,
    expiries::{self, Lapsed},
    wiring::{self, Kept},
};
use crate::{
    admission::Admission,
    broker::Broker,
    config::{Config, Files, Reading},
    listener::Terms,
    metrics::Metrics,
};

/// How often the files are looked at. A change is taken in when two looks have seen the
/// same, so that nothing half-written is.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// What a reload changes.
pub(super) struct Live {
    pub(super) file: PathBuf,
    pub(super) broker: Arc<Broker>,
    pub(super) kept: Mutex<Kept>,
    pub(super) terms: watch::Sender<Arc<Terms>>,
    pub(super) admission: Arc<Admission>,
    pub(super) metrics: Arc<Metrics>,
    /// Asks for a look at once, whether or not something has changed.
    pub(super) asked: Arc<Notify>,
}

impl Live {
    /// Looks at the files until `stop` is cancelled. They are those of the last reading,
    /// good or bad: what a bad one lacked may come later.
    pub(super) async fn keep_up(self, files: Files, mut config: Config, stop: CancellationToken) {
        let live = Arc::new(self);
        let mut taken_in = files;
        let mut seen = taken_in.clone();
        let mut lapsed = Lapsed::default();
        loop {
            lapsed.look(live.terms.borrow().tls.expiries(), SystemTime::now());
            let asked = tokio::select! {
                () = stop.cancelled() => return,
                () = live.asked.notified() => true,
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
            taken_in = seen.clone();
            match reloaded {
                Ok(new) => {
                    live.metrics.reloaded("ok");
                    warn_about_restarts(&config, &new);
                    info!(
                        destinations = new.destinations.len(),
                        "took in the configuration"
                    );
                    config = new;
                }
                Err(error) => {
                    live.metrics.reloaded("refused");
                    error!(%error, "refused the configuration; the last good one stays in force");
                }
            }
        }
    }

    /// Reads everything anew and puts it in force, if there is no mistake in any of it.
    fn reload(&self) -> (Files, Result<Config, StartError>) {
        let reading = Reading::of(&self.file);
        let in_force = reading.config.map_err(StartError::from).and_then(|config| {
            let terms = Terms::of(&config.server)?;
            let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
            let catalogue;
            (catalogue, *kept) = wiring::catalogue(&config, self.broker.edition().next(), &kept)?;
            drop(kept);
            // Nothing can fail any more.
            self.broker.replace(catalogue);
            expiries::show(&self.metrics, &terms.tls);
            self.admission.share(config.server.shares);
            self.terms.send_replace(Arc::new(terms));
            Ok(config)
        });
        (reading.files, in_force)
    }
}

/// Says which changed settings wait for a restart.
fn warn_about_restarts(old: &Config, new: &Config) {
    let changed = [
        ("[server] listen", old.server.listen != new.server.listen),
        ("[http]", old.http != new.http),
        ("[audit]", old.audit != new.audit),
        ("[telemetry]", old.telemetry != new.telemetry),
    ];
    for (setting, _) in changed.into_iter().filter(|(_, changed)| *changed) {
        warn!(setting, "this change takes effect at the next start");
    }
}
