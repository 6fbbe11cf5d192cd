//! Minting a successor now.

use std::sync::Arc;

use futures_util::future::join_all;

use super::{ActError, Asked, Operator};
use crate::{
    broker::{CallError, hand_out},
    cache::Registration,
    destination::ApplicationName,
    telemetry::Span,
    token::Token,
};

/// What came of refreshing the token of one application.
pub struct Refreshed {
    /// The application.
    pub application: ApplicationName,
    /// The new token, or why there is none.
    pub result: Result<Arc<Token>, CallError>,
}

impl Operator {
    /// Mints successors whatever the back-off says, and waits for them. The tokens at hand
    /// stay until they arrive.
    ///
    /// # Errors
    /// [`ActError`] for what cannot be refreshed at all; what failed for one application is
    /// in its result.
    pub async fn refresh(
        &self,
        asked: &Asked<'_>,
        destination: &str,
        application: &str,
    ) -> Result<Vec<Refreshed>, ActError> {
        let act = self.act_on(asked, "refresh", destination, application);
        let work = async {
            let target = self.target(destination, application)?;
            let flights = target.registrations.iter().map(async |registration| {
                let flight = asked
                    .in_time(self.successor(registration, asked.span))
                    .await;
                Refreshed {
                    application: registration.key.application.clone(),
                    result: flight.and_then(|result| result),
                }
            });
            Ok(join_all(flights).await)
        };
        act.recorded_as(work, outcome).await
    }

    async fn successor(
        &self,
        registration: &Arc<Registration>,
        call: &Span,
    ) -> Result<Arc<Token>, CallError> {
        let token = self.broker.cache().refresh(registration, call).await;
        hand_out(registration, token)
    }
}

/// The first thing that went wrong, if anything did.
#[expect(clippy::ptr_arg, reason = "it is the result of an act")]
fn outcome(refreshed: &Vec<Refreshed>) -> &'static str {
    let mut errors = refreshed.iter().filter_map(|one| one.result.as_ref().err());
    errors.next().map_or("ok", CallError::code)
}
