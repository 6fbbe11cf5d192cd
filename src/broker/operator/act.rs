//! Acts of operators, and the one place where they are recorded.

use tokio::time::timeout_at;
use tracing::{debug, info, warn};

use super::{ActError, Administrator};
use crate::{broker::CallError, clock::Instant, identity::CallerId};

/// Who asks for an act, and until when they wait.
pub struct Asked<'a> {
    /// Who asks.
    pub administrator: &'a Administrator,
    /// Names the request in records.
    pub request_id: &'a str,
    /// How long they wait for the answer.
    pub deadline: Instant,
}

/// Everything that a record says of an act, but for its outcome.
pub(super) struct Act<'a> {
    administrator: &'a CallerId,
    name: &'static str,
    destination: &'a str,
    application: &'a str,
    comment: &'a str,
    request_id: &'a str,
}

/// Not yet done: nothing is done that nobody has recorded.
const ASKED: &str = "asked";

impl Asked<'_> {
    /// Waits no longer than whoever asks.
    pub(super) async fn in_time<T>(&self, work: impl Future<Output = T>) -> Result<T, CallError> {
        timeout_at(self.deadline, work)
            .await
            .map_err(|_| CallError::DeadlineExceeded)
    }
}

impl<'a> Act<'a> {
    pub(super) fn new(asked: &'a Asked<'_>, act: &'static str) -> Self {
        Self {
            administrator: asked.administrator.id(),
            name: act,
            destination: "",
            application: "",
            comment: "",
            request_id: asked.request_id,
        }
    }

    /// An act on a destination, or one of its applications.
    pub(super) fn on(self, destination: &'a str, application: &'a str) -> Self {
        Self {
            destination,
            application,
            ..self
        }
    }

    /// An act with a reason.
    pub(super) fn because(self, comment: &'a str) -> Self {
        Self { comment, ..self }
    }

    /// Does what nobody need know of before it is done: it is recorded before and after, and
    /// not done if it cannot be.
    pub(super) async fn recorded<T>(
        self,
        work: impl Future<Output = Result<T, ActError>>,
    ) -> Result<T, ActError> {
        self.recorded_as(work, |_| "ok").await
    }

    /// The same for an act that may succeed in part.
    pub(super) async fn recorded_as<T>(
        self,
        work: impl Future<Output = Result<T, ActError>>,
        outcome: impl Fn(&T) -> &'static str,
    ) -> Result<T, ActError> {
        record_act(&self, ASKED)?;
        let result = work.await;
        let outcome = result.as_ref().map_or_else(ActError::code, outcome);
        record_act(&self, outcome)?;
        result
    }

    /// Does what must work all the same, such as stopping a destination whose tokens leak.
    pub(super) async fn recorded_if_possible<T>(
        self,
        work: impl Future<Output = Result<T, ActError>>,
    ) -> Result<T, ActError> {
        let before = record_act(&self, ASKED);
        let result = work.await;
        let outcome = result.as_ref().map_or_else(ActError::code, |_| "ok");
        for record in [before, record_act(&self, outcome)] {
            if let Err(error) = record {
                let act = self.name;
                warn!(act, %error, "an act is done that is not recorded");
            }
        }
        result
    }
}

/// Records that somebody who is no administrator tried to act.
pub fn record_attempt(caller: &CallerId, act: &'static str, request_id: &str, error: &ActError) {
    let attempt = Act {
        administrator: caller,
        name: act,
        destination: "",
        application: "",
        comment: "",
        request_id,
    };
    // It is refused whether or not it can be recorded.
    let _ = record_act(&attempt, error.code());
}

/// Records an act of an operator, refused or not.
///
/// # Errors
/// What keeps it from being recorded; the act is refused with it.
#[expect(
    clippy::unnecessary_wraps,
    reason = "a log takes every record, and other places for them may not"
)]
fn record_act(act: &Act<'_>, outcome: &str) -> Result<(), CallError> {
    let Act {
        administrator,
        name: act,
        destination,
        application,
        comment,
        request_id,
    } = act;
    if outcome == ASKED {
        debug!(%administrator, act, destination, application, comment, request_id, "an operator asks");
    } else {
        info!(%administrator, act, destination, application, comment, outcome, request_id, "an operator acted");
    }
    Ok(())
}
