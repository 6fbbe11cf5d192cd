//! What the process tells its operator: log events, nothing of a panic's payload, and traces.
//!
//! | file | holds |
//! |---|---|
//! | `logs` | where log events go, and panics without their payload |
//! | `calls` | a call from when a door takes it in until it is answered: counted, logged, traced |
//! | `traces` | whether spans are recorded, and how they begin |
//! | `span` | a span, as far as there is one |
//! | `export` | the queue of ended spans, and the way to the collector |
//! | `collector` | who gets them |

mod calls;
mod collector;
mod export;
#[cfg(test)]
pub(crate) mod lines;
mod logs;
mod span;
mod traces;

pub use self::{
    calls::{Call, Calls, Operation},
    collector::{Collector, InvalidCollector},
    export::Export,
    logs::{AlreadyStarted, hide_panic_payloads, start},
    span::{End, Span},
    traces::{Launch, Traces},
};
