//! Who may have a token and by which rule, and what the cache would do now.

use std::time::Duration;

use jiff::SignedDuration;

use super::{ActError, Operator};
use crate::{
    broker::{CallError, Listing},
    cache::Foresight,
    clock::Instant,
    destination::{ApplicationName, DestinationId},
    identity::CallerId,
    slot::Refusal,
};

/// Why a caller may have a token, or not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation {
    /// Whether it may.
    pub granted: bool,
    /// The rule that decides, as it stands in the configuration.
    pub rule: String,
    /// The application whose credentials would be used.
    pub application: Option<ApplicationName>,
    /// What the cache would do now, in words that go on from "the broker".
    pub decision: String,
}

impl Operator {
    /// Explains what a caller would meet at a destination. It mints nothing, makes no slot
    /// and is no use of the grant.
    ///
    /// # Errors
    /// [`ActError`] for texts that name no caller or no destination.
    pub fn explain(&self, caller: &str, destination: &str) -> Result<Explanation, ActError> {
        let caller = CallerId::parse(caller).map_err(|_| ActError::InvalidCaller)?;
        let destination =
            DestinationId::parse(destination).map_err(|_| CallError::InvalidDestinationId)?;
        let catalogue = self.broker.catalogue.load();
        let listing = catalogue.find(&destination);
        let listing = listing.ok_or(ActError::NoSuchDestination)?;
        let shown = listing.name.as_ref().unwrap_or(&listing.id);
        if !caller.is_known_to(&self.rules.load().trust_domains) {
            return Ok(Explanation {
                granted: false,
                rule: "the trust domain is not one of [server] trust_domains".to_owned(),
                application: None,
                decision: "refuses with CALLER_UNIDENTIFIED and does not look at the cache"
                    .to_owned(),
            });
        }
        let Some(grant) = listing.grants.decide(&caller) else {
            return Ok(Explanation {
                granted: false,
                rule: no_rule(listing, shown),
                application: None,
                decision: "refuses with NOT_GRANTED and does not look at the cache".to_owned(),
            });
        };
        let opening = &grant.application;
        let rule = format!(
            "grant {} of {shown}: callers \"{}\"",
            opening.number, grant.callers
        );
        Ok(match &opening.registration {
            None => Explanation {
                granted: true,
                rule,
                application: None,
                decision:
                    "answers DESTINATION_UNPROTECTED: the destination is public and needs no token"
                        .to_owned(),
            },
            Some(registration) => {
                let application = registration.key.application.clone();
                Explanation {
                    granted: true,
                    rule: format!("{rule}, application \"{application}\""),
                    application: Some(application),
                    decision: in_words(self.broker.cache().foresee(registration)),
                }
            }
        })
    }
}

fn no_rule(listing: &Listing, shown: &DestinationId) -> String {
    match listing.grants.as_slice().len() {
        0 => format!("{shown} has no grant"),
        1 => format!("the one caller pattern of {shown} does not match"),
        count => format!("none of the {count} caller patterns of {shown} matches"),
    }
}

fn in_words(foresight: Foresight) -> String {
    match foresight {
        Foresight::Serve { runway } => format!(
            "hands out the token at hand, which it can do for another {}",
            shown(runway)
        ),
        Foresight::ServeAndRefresh { runway } => format!(
            "hands out the token at hand, which it can do for another {}, and mints its successor",
            shown(runway)
        ),
        Foresight::Wait => "lets the caller wait for the token that is being minted".to_owned(),
        Foresight::MintAndWait => "mints a token and lets the caller wait for it".to_owned(),
        Foresight::Refuse(refusal) => {
            let code = CallError::Refused(refusal).code();
            match refusal {
                Refusal::Failed { retry_at, .. } => {
                    let left = retry_at.saturating_duration_since(Instant::now());
                    let left = shown(left + Duration::from_millis(999));
                    format!("refuses with {code} and mints again in {left}")
                }
                Refusal::Quarantined | Refusal::ValidityUnattainable => {
                    format!("refuses with {code}")
                }
            }
        }
    }
}

/// A time as people write it, in whole seconds.
pub(super) fn shown(time: Duration) -> String {
    let seconds = i64::try_from(time.as_secs()).unwrap_or(i64::MAX);
    format!("{:#}", SignedDuration::from_secs(seconds))
}
