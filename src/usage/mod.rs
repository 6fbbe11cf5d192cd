//! What the broker remembers of its own use: when grants and credentials were used last,
//! who was served, and what is stopped. Usage and stops outlive the process in one file.

mod callers;
mod ledger;
mod quarantine;
mod register;
mod stamp;
mod state;

pub use self::{
    callers::{Callers, MOST_CALLERS},
    ledger::{GrantName, Ledger, Mark, OpenLedger},
    quarantine::{Quarantine, SharedQuarantine, millis, of_millis},
    stamp::Stamp,
    state::{State, StateError, StateFile},
};
