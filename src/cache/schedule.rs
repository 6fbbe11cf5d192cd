//! The refresh schedule: every slot's next due moment, whether or not somebody asks.

use std::sync::Arc;

use futures_util::StreamExt as _;
use tokio::sync::mpsc;
use tokio_util::{sync::CancellationToken, time::DelayQueue};

use super::{Slots, flight::Flights};
use crate::{clock::Instant, destination::TokenKey};

/// Where landings note when their slot is due next.
pub(super) struct Timetable(mpsc::UnboundedSender<Due>);

/// A slot and the moment when it is due.
pub(super) struct Due {
    key: Arc<TokenKey>,
    at: Instant,
}

/// Tends the slots when they are due.
pub struct Schedule {
    noted: mpsc::UnboundedReceiver<Due>,
    slots: Slots,
    flights: Arc<Flights>,
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

impl Schedule {
    pub(super) fn new(
        noted: mpsc::UnboundedReceiver<Due>,
        slots: Slots,
        flights: Arc<Flights>,
    ) -> Self {
        Self {
            noted,
            slots,
            flights,
        }
    }

    /// Keeps used and warm keys fresh until `stop` is cancelled.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut queue = DelayQueue::new();
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                note = self.noted.recv() => match note {
                    Some(Due { key, at }) => { queue.insert_at(key, at); }
                    None => return,
                },
                Some(due) = queue.next() => {
                    // Looking a slot up also tells moka that it is in use.
                    if let Some(entry) = self.slots.get(due.get_ref()) {
                        self.flights.tend(&entry, Instant::now());
                    }
                }
            }
        }
    }
}
