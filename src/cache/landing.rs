//! What a landing changed, for those who look at the broker from outside.

use std::time::Duration;

use tracing::{debug, error, field::display, info, warn};

use crate::{
    clock::Instant,
    destination::TokenKey,
    slot::FailureReason,
    token::{Origin, TokenId},
    trace_context::TraceId,
    upstream::FetchError,
};

/// What a landing changed, for those who look at the broker from outside.
pub(super) struct Landing {
    /// It was launched before a quarantine.
    pub(super) ignored: bool,
    pub(super) origin: Option<Origin>,
    /// The token that it brought.
    pub(super) minted: Option<TokenId>,
    pub(super) failing_before: Option<FailureReason>,
    pub(super) failing: Option<FailureReason>,
    /// How late the token is, if it is the successor of one that was kept fresh.
    pub(super) lag: Option<Duration>,
    pub(super) runway: Duration,
    pub(super) due: Option<Instant>,
}

impl Landing {
    /// Says it loudly once for each change, and quietly otherwise.
    pub(super) fn log(
        &self,
        key: &TokenKey,
        error: Option<&FetchError>,
        now: Instant,
        trace_id: Option<TraceId>,
    ) {
        let trace_id = trace_id.map(display);
        let (destination, application) = (key.destination.as_str(), key.application.as_str());
        if self.ignored {
            debug!(
                destination,
                application, trace_id, "a flight from before a quarantine is ignored"
            );
            return;
        }
        let runway = self.runway.as_secs();
        let due_in = self
            .due
            .map(|due| due.saturating_duration_since(now).as_secs_f64());
        let Some(reason) = self.failing else {
            let token_id = self.minted.map(display);
            if self.failing_before.is_some() {
                info!(
                    destination,
                    application, token_id, due_in, trace_id, "minting works again"
                );
            } else if self.origin == Some(Origin::Elsewhere) {
                debug!(
                    destination,
                    application, token_id, due_in, trace_id, "took over a replica's token"
                );
            } else {
                debug!(
                    destination,
                    application, token_id, due_in, trace_id, "minted a token"
                );
            }
            return;
        };
        let error = error.map_or_else(
            || "the token was dead on arrival".to_owned(),
            ToString::to_string,
        );
        let code = reason.code();
        if self.failing_before == Some(reason) {
            debug!(
                destination,
                application,
                reason = code,
                error,
                runway,
                due_in,
                trace_id,
                "minting still fails"
            );
        } else if reason.needs_an_operator() {
            error!(
                destination,
                application,
                reason = code,
                error,
                runway,
                due_in,
                trace_id,
                "minting fails until an operator acts"
            );
        } else {
            warn!(
                destination,
                application,
                reason = code,
                error,
                runway,
                due_in,
                trace_id,
                "minting fails"
            );
        }
    }
}
