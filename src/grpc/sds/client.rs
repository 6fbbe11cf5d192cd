//! What a proxy wants of a stream, and what there is to tell it.

use std::{collections::BTreeSet, sync::Arc};

use envoy_types::pb::envoy::service::discovery::v3::{DeltaDiscoveryRequest, DiscoveryRequest};
use futures_util::StreamExt as _;
use tokio::time::sleep_until;
use tonic::{Status, Streaming};
use tracing::{field::display, warn};

use super::{
    Sds,
    refused::Refused,
    resource::check_type,
    subscriptions::{Subscriptions, Update, check_count},
    wanted::Wanted,
};
use crate::{
    admission::Connected,
    broker::CallError,
    clock::Instant,
    grpc::status::note_code,
    telemetry::{Call, End},
};

/// The other end of a stream.
pub(super) struct Client {
    sds: Sds,
    call: Call,
    connected: Arc<Connected>,
    subscriptions: Subscriptions,
    deadline: Option<Instant>,
    /// Whether its first request has come, which was counted as a call.
    begun: bool,
    /// Whether it has rejected a secret, which is logged once.
    rejected: bool,
}

/// What a stream waits for.
pub(super) enum Happened<T> {
    /// The client said something.
    Asked(T),
    /// There is something to tell it of a name.
    Updated(String, Update),
    /// The client has gone, or the stream must end with this.
    Ended(Option<Status>),
}

impl Client {
    /// A client that has not asked for anything yet.
    pub(super) fn new(
        sds: Sds,
        call: Call,
        connected: Arc<Connected>,
        deadline: Option<Instant>,
    ) -> Self {
        Self {
            sds,
            call,
            connected,
            subscriptions: Subscriptions::default(),
            deadline,
            begun: false,
            rejected: false,
        }
    }

    /// Waits for the next of these.
    pub(super) async fn next<T>(&mut self, requests: &mut Streaming<T>) -> Happened<T> {
        let too_late = async {
            match self.deadline {
                Some(deadline) => sleep_until(deadline).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = too_late => Happened::Ended(Some(self.ends(CallError::DeadlineExceeded))),
            request = requests.next() => match request {
                Some(Ok(request)) => match self.admit() {
                    Ok(()) => Happened::Asked(request),
                    Err(error) => {
                        let refused = self.counted(error.into());
                        Happened::Ended(Some(self.ends(refused)))
                    }
                },
                Some(Err(status)) => Happened::Ended(Some(status)),
                None => Happened::Ended(None),
            },
            (name, update) = self.subscriptions.next() => Happened::Updated(name, update),
        }
    }

    /// The stream ends with this, and its span says so.
    pub(super) fn ends(&self, why: impl Into<Refused>) -> Status {
        let Refused { status, outcome } = why.into();
        note_code(status.code(), &self.call.span);
        self.call.span.end(End::Badly(outcome));
        status
    }

    /// Counts and logs a request that is refused as a whole.
    fn counted(&self, refused: Refused) -> Refused {
        let caller = self.connected.id().as_str();
        let calls = &self.sds.calls;
        calls.answered_in_part(&self.call, caller, None, refused.outcome, None);
        refused
    }

    /// Each further request in a stream counts as a call: it may cost as much.
    fn admit(&mut self) -> Result<(), CallError> {
        if std::mem::replace(&mut self.begun, true) {
            self.connected.call()?;
        }
        Ok(())
    }

    /// A rejected secret is not sent again: the next one may be taken.
    pub(super) fn acknowledged(&mut self, rejected: bool) {
        if rejected && !std::mem::replace(&mut self.rejected, true) {
            // What the proxy says of it is its own text, and may repeat the secret.
            let trace_id = self.call.span.trace_id().map(display);
            warn!(caller = %self.connected.id(), trace_id, "a proxy rejected a secret");
        }
    }

    /// Takes the names of a request for all that are wanted.
    pub(super) fn wants_exactly(&mut self, request: DiscoveryRequest) -> Result<(), Refused> {
        let wanted = Wanted::from(request);
        wanted.check().map_err(|refused| self.counted(refused))?;
        let names = wanted.names;
        self.subscriptions.retain(|name| names.contains(name));
        for name in names {
            if !self.subscriptions.contains(&name) {
                self.subscribe(name)?;
            }
        }
        Ok(())
    }

    /// Adds and removes names; returns those that the caller may not have.
    pub(super) fn wants_also(
        &mut self,
        request: &DeltaDiscoveryRequest,
    ) -> Result<Vec<String>, Refused> {
        check_type(&request.type_url).map_err(|refused| self.counted(refused))?;
        let gone = request.resource_names_unsubscribe.iter();
        let gone: BTreeSet<_> = gone.map(String::as_str).collect();
        self.subscriptions.retain(|name| !gone.contains(name));
        let names: BTreeSet<_> = request.resource_names_subscribe.iter().cloned().collect();
        let further = names
            .iter()
            .filter(|name| !self.subscriptions.contains(name));
        check_count(self.subscriptions.len() + further.count())
            .map_err(|refused| self.counted(refused))?;
        // Who subscribes again is told again.
        let refused = names
            .into_iter()
            .filter(|name| self.subscribe(name.clone()).is_err());
        Ok(refused.collect())
    }

    fn subscribe(&mut self, name: String) -> Result<(), CallError> {
        let watch = self.sds.watch(&self.call, self.connected.id(), &name)?;
        self.subscriptions.add(name, watch);
        Ok(())
    }
}
