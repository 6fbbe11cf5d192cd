//! The refresh schedule: every slot's next due moment, whether or not somebody asks.

use std::sync::Arc;

use futures_util::StreamExt as _;
use tokio::sync::mpsc;
use tokio_util::{sync::CancellationToken, time::DelayQueue};

use super::{Slots, flight::Flights, timetable::Due};
use crate::clock::Instant;

/// Tends the slots when they are due.
pub struct Schedule {
    noted: mpsc::UnboundedReceiver<Due>,
    slots: Slots,
    flights: Arc<Flights>,
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
