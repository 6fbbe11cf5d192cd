//! How a person or a supervisor ends a command that runs until then.

use tokio::signal::unix::{Signal, SignalKind, signal};

/// The signals that a command listens to, from when this is made: until then their
/// default action ends the process.
pub(super) struct Signals {
    interrupt: Option<Signal>,
    terminate: Option<Signal>,
    hangup: Option<Signal>,
}

impl Signals {
    pub(super) fn listen() -> Self {
        let listen = |kind| signal(kind).ok();
        Self {
            interrupt: listen(SignalKind::interrupt()),
            terminate: listen(SignalKind::terminate()),
            hangup: listen(SignalKind::hangup()),
        }
    }

    /// Waits for SIGINT or SIGTERM, and does what SIGHUP asks for meanwhile.
    pub(super) async fn stop_requested(mut self, on_hangup: impl Fn()) {
        loop {
            tokio::select! {
                () = received(&mut self.interrupt) => return,
                () = received(&mut self.terminate) => return,
                () = received(&mut self.hangup) => on_hangup(),
            }
        }
    }
}

/// Where a signal cannot be listened to, its default action ends the process.
async fn received(signal: &mut Option<Signal>) {
    match signal {
        Some(signal) => {
            signal.recv().await;
        }
        None => std::future::pending().await,
    }
}
