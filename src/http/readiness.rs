//! Whether the broker can hand out tokens, in the words of probes and of the page.

use tokio_util::sync::CancellationToken;

use crate::broker::Broker;

/// Whether the broker can hand out tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Readiness {
    /// It can.
    Ready,
    /// It stops.
    Stopping,
    /// It cannot yet, or not now.
    Unready,
}

impl Readiness {
    pub(super) fn of(broker: &Broker, stopping: &CancellationToken) -> Self {
        if stopping.is_cancelled() {
            Self::Stopping
        } else if broker.is_ready() {
            Self::Ready
        } else {
            Self::Unready
        }
    }

    pub(super) fn words(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::Stopping => "not ready: stopping",
            Self::Unready => {
                "not ready: minting has only just begun, or fails for every destination"
            }
        }
    }
}
