//! Where flights note when their slot is due next, and the schedule reads it.

use std::sync::Arc;

use tokio::sync::mpsc;

use crate::{clock::Instant, destination::TokenKey};

/// Where landings note when their slot is due next.
pub(super) struct Timetable(mpsc::UnboundedSender<Due>);

/// A slot and the moment when it is due.
pub(super) struct Due {
    pub(super) key: Arc<TokenKey>,
    pub(super) at: Instant,
}

/// A timetable, and what reads it. It needs no bound: each landing makes one entry, and
/// a slot has one flight at a time.
pub(super) fn timetable() -> (Timetable, mpsc::UnboundedReceiver<Due>) {
    let (sender, receiver) = mpsc::unbounded_channel();
    (Timetable(sender), receiver)
}

impl Timetable {
    pub(super) fn note(&self, key: Arc<TokenKey>, at: Instant) {
        // After the schedule has stopped nothing is due any more.
        let _ = self.0.send(Due { key, at });
    }
}
