//! How a person or a supervisor ends a command that runs until then.

use tokio::signal::unix::{Signal, SignalKind, signal};

/// Waits for SIGINT or SIGTERM, and does what SIGHUP asks for meanwhile.
pub(super) async fn stop_requested(on_hangup: impl Fn()) {
    let [mut interrupt, mut terminate, mut hangup] = [
        SignalKind::interrupt(),
        SignalKind::terminate(),
        SignalKind::hangup(),
    ]
    .map(|kind| signal(kind).ok());
    loop {
        tokio::select! {
            () = received(&mut interrupt) => return,
            () = received(&mut terminate) => return,
            () = received(&mut hangup) => on_hangup(),
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
