//! Acts of operators, and the one place where they are recorded.

use tokio::time::timeout_at;
use tracing::{debug, field::display, info, warn};

use super::{ActError, Administrator, Operator};
use crate::{
    audit::{self, Audit, Event},
    broker::CallError,
    clock::Instant,
    destination::DestinationId,
    identity::CallerId,
    telemetry::Span,
    trace_context::TraceId,
};

/// Who asks for an act, and until when they wait.
pub struct Asked<'a> {
    /// Who asks.
    pub administrator: &'a Administrator,
    /// Names the request in records.
    pub request_id: &'a str,
    /// What is traced of the request.
    pub span: &'a Span,
    /// How long they wait for the answer.
    pub deadline: Instant,
}

/// Everything that a record says of an act, but for its outcome; and where it is recorded.
pub(super) struct Act<'a> {
    audit: &'a Audit,
    administrator: &'a CallerId,
    name: &'static str,
    destination: Option<String>,
    application: Option<&'a str>,
    comment: Option<&'a str>,
    request_id: &'a str,
    trace_id: Option<TraceId>,
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

impl Operator {
    /// Notes that somebody who is no administrator tried to act. The first attempt of a
    /// caller in a minute is recorded, and says how many came since the last one that was.
    pub async fn attempt(
        &self,
        caller: &CallerId,
        act: &'static str,
        request_id: &str,
        error: &ActError,
    ) {
        let reason = error.code();
        debug!(%caller, act, reason, request_id, "an attempt to act is refused");
        let Some(unrecorded) = self.attempts().count(caller, Instant::now()) else {
            return;
        };
        let comment = format!("attempts since the last one on record: {unrecorded}");
        let attempt = Event::Act(audit::Act {
            administrator: caller.as_str(),
            act,
            destination: None,
            application: None,
            comment: (unrecorded > 0).then_some(&*comment),
            outcome: reason,
            request_id,
        });
        // It is refused whether or not it can be recorded.
        let _ = self.broker.audit().record(&attempt).await;
    }

    /// An act that is about no destination.
    pub(super) fn act<'a>(&'a self, asked: &'a Asked<'_>, name: &'static str) -> Act<'a> {
        Act {
            audit: self.broker.audit(),
            administrator: asked.administrator.id(),
            name,
            destination: None,
            application: None,
            comment: None,
            request_id: asked.request_id,
            trace_id: asked.span.trace_id(),
        }
    }

    /// An act on a destination, or one of its applications. It is recorded by its id, as far
    /// as there is one, and else as it was written.
    pub(super) fn act_on<'a>(
        &'a self,
        asked: &'a Asked<'_>,
        name: &'static str,
        destination: &str,
        application: &'a str,
    ) -> Act<'a> {
        let catalogue = self.broker.catalogue.load();
        let id = DestinationId::parse(destination).ok();
        let listing = id.and_then(|id| catalogue.find(&id));
        let id = listing.map_or(destination, |listing| listing.id.as_str());
        Act {
            destination: Some(id.to_owned()),
            application: (!application.is_empty()).then_some(application),
            ..self.act(asked, name)
        }
    }
}

impl<'a> Act<'a> {
    /// An act with a reason.
    pub(super) fn because(self, comment: &'a str) -> Self {
        Self {
            comment: Some(comment),
            ..self
        }
    }

    /// Does what is not done if it cannot be recorded before. What is done is answered so,
    /// whether or not its outcome can be recorded.
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
        record_act(&self, ASKED).await?;
        let result = work.await;
        let outcome = result.as_ref().map_or_else(ActError::code, outcome);
        self.conclude(outcome).await;
        result
    }

    /// Does what must work all the same, such as stopping a destination whose tokens leak.
    /// It waits for no record before it is done.
    pub(super) async fn recorded_if_possible<T>(
        self,
        work: impl Future<Output = Result<T, ActError>>,
    ) -> Result<T, ActError> {
        // Should whoever asks hang up amid the work, there is this.
        self.audit.note(&self.event(ASKED));
        let result = work.await;
        let outcome = result.as_ref().map_or_else(ActError::code, |_| "ok");
        self.conclude(outcome).await;
        result
    }

    /// Records what came of it, which changes nothing of that.
    async fn conclude(&self, outcome: &str) {
        if let Err(error) = record_act(self, outcome).await {
            let Act {
                administrator,
                name: act,
                destination,
                request_id,
                ..
            } = self;
            warn!(%administrator, act, destination, outcome, request_id, %error, "what came of an act is not recorded");
        }
    }
}

impl Act<'_> {
    fn event<'a>(&'a self, outcome: &'a str) -> Event<'a> {
        Event::Act(audit::Act {
            administrator: self.administrator.as_str(),
            act: self.name,
            destination: self.destination.as_deref(),
            application: self.application,
            comment: self.comment,
            outcome,
            request_id: self.request_id,
        })
    }
}

/// Records an act of an operator, and what came of it, in the log and in the audit trail.
///
/// # Errors
/// [`CallError::AuditUnavailable`], and the act is refused with it.
async fn record_act(act: &Act<'_>, outcome: &str) -> Result<(), CallError> {
    let event = act.event(outcome);
    let recorded = act.audit.record(&event).await;
    let Act {
        administrator,
        name: act,
        destination,
        application,
        comment,
        request_id,
        trace_id,
        ..
    } = act;
    let trace_id = trace_id.map(display);
    if outcome == ASKED {
        debug!(%administrator, act, destination, application, comment, request_id, trace_id, "an operator asks");
    } else {
        info!(%administrator, act, destination, application, comment, outcome, request_id, trace_id, "an operator acted");
    }
    Ok(recorded?)
}
