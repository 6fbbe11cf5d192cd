//! How a person or a supervisor ends a command that runs until then.

use tokio::signal::unix::{Signal, SignalKind, signal};

/// Waits for SIGINT or SIGTERM.
pub(super) async fn stop_requested() {
    let (mut interrupt, mut terminate) = (
        signal(SignalKind::interrupt()).ok(),
        signal(SignalKind::terminate()).ok(),
    );
    tokio::select! {
        () = received(&mut interrupt) => {}
        () = received(&mut terminate) => {}
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
