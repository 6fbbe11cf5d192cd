//! `envoy.service.secret.v3.SecretDiscoveryService`: the token as a generic secret, and
//! each successor when it is minted.
//!
//! A resource is a destination, by its id or name. A stream of the whole state
//! (`StreamSecrets`) has no words for one name among several that is refused, so there a
//! refusal ends it; a stream of changes (`DeltaSecrets`) says that the name was removed.

mod resource;
mod subscriptions;

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use envoy_types::pb::envoy::service::{
    discovery::v3::{
        DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse,
    },
    secret::v3::secret_discovery_service_server::SecretDiscoveryService,
};
use futures_util::{
    StreamExt as _,
    stream::{self, BoxStream},
};
use tokio::time::sleep_until;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};
use tracing::{debug, warn};

use self::{
    resource::{TYPE_URL, delta, version, whole},
    subscriptions::{Subscriptions, Update},
};
use super::{
    deadline,
    status::status,
    token_service::{peer, until},
};
use crate::{
    admission::Connected,
    broker::{Broker, CallError, Granted, Watch},
    clock::Instant,
    destination::DestinationId,
    identity::CallerId,
    metrics::Metrics,
    slot::Refusal,
    token::Token,
};

/// How the metrics name this door.
pub(super) const DOOR: &str = "sds";
/// How many names a stream may be subscribed to.
const MAX_NAMES: usize = 100;

/// Answers proxies that keep secrets.
#[derive(Clone)]
pub(super) struct Sds {
    pub(super) broker: Arc<Broker>,
    pub(super) metrics: Arc<Metrics>,
    /// Ends the streams.
    pub(super) stop: CancellationToken,
}

impl Sds {
    /// Parses a name, and asks the policy.
    fn authorise(&self, caller: &CallerId, name: &str) -> Result<Granted, CallError> {
        let destination =
            DestinationId::parse(name).map_err(|_| CallError::InvalidDestinationId)?;
        self.broker.authorise(caller, &destination)
    }

    /// One token, for a proxy that polls.
    async fn token(&self, granted: &Granted, deadline: Instant) -> Result<Arc<Token>, CallError> {
        until(Some(deadline), self.broker.token(granted, Duration::ZERO)).await
    }

    /// A name's token and its successors, for a caller that may have them.
    fn watch(&self, caller: &CallerId, name: &str) -> Result<Watch, CallError> {
        let granted = self.authorise(caller, name);
        self.count(caller, granted.as_ref().ok(), granted.as_ref().err());
        Ok(self.broker.watch(caller, &granted?))
    }

    /// Counts and logs what became of one name.
    fn count(&self, caller: &CallerId, granted: Option<&Granted>, error: Option<&CallError>) {
        // Only a granted destination is named: anything else is the caller's invention.
        let destination = granted.map_or("", |granted| granted.destination.as_str());
        let outcome = error.map_or("ok", CallError::code);
        self.metrics.call(DOOR, destination, outcome);
        debug!(%caller, destination, outcome, door = DOOR, "answered");
    }
}

#[tonic::async_trait]
impl SecretDiscoveryService for Sds {
    type DeltaSecretsStream = BoxStream<'static, Result<DeltaDiscoveryResponse, Status>>;
    type StreamSecretsStream = BoxStream<'static, Result<DiscoveryResponse, Status>>;

    async fn stream_secrets(
        &self,
        request: Request<Streaming<DiscoveryRequest>>,
    ) -> Result<Response<Self::StreamSecretsStream>, Status> {
        let (client, requests) = self.open(request)?;
        let state = Some((client, requests, Nonces::default()));
        let answers = stream::unfold(state, |state| async move {
            let (mut client, mut requests, mut nonces) = state?;
            loop {
                let (name, update) = match client.next(&mut requests).await {
                    Happened::Asked(request) => {
                        client.acknowledged(request.error_detail.is_some());
                        match client.wants_exactly(&request) {
                            Ok(()) => continue,
                            Err(status) => return Some((Err(status), None)),
                        }
                    }
                    Happened::Updated(name, update) => (name, update),
                    Happened::Ended(end) => return end.map(|status| (Err(status), None)),
                };
                match update {
                    Ok(token) => {
                        let answer = whole(&[(name, token)], nonces.next());
                        return Some((Ok(answer), Some((client, requests, nonces))));
                    }
                    // The last secret stays until there is another.
                    Err(CallError::Refused(Refusal::Failed { .. })) => {}
                    Err(error) => return Some((Err(status(error)), None)),
                }
            }
        });
        Ok(Response::new(self.until_stopped(answers)))
    }

    async fn delta_secrets(
        &self,
        request: Request<Streaming<DeltaDiscoveryRequest>>,
    ) -> Result<Response<Self::DeltaSecretsStream>, Status> {
        let (client, requests) = self.open(request)?;
        let state = Some((client, requests, Nonces::default()));
        let answers = stream::unfold(state, |state| async move {
            let (mut client, mut requests, mut nonces) = state?;
            loop {
                let answer = match client.next(&mut requests).await {
                    Happened::Asked(request) => {
                        client.acknowledged(request.error_detail.is_some());
                        match client.wants_also(&request) {
                            Ok(refused) if refused.is_empty() => continue,
                            Ok(refused) => delta(&[], refused, nonces.next()),
                            Err(status) => return Some((Err(status), None)),
                        }
                    }
                    Happened::Updated(name, Ok(token)) => {
                        delta(&[(name, token)], Vec::new(), nonces.next())
                    }
                    Happened::Updated(name, Err(_)) => delta(&[], vec![name], nonces.next()),
                    Happened::Ended(end) => return end.map(|status| (Err(status), None)),
                };
                return Some((Ok(answer), Some((client, requests, nonces))));
            }
        });
        Ok(Response::new(self.until_stopped(answers)))
    }

    async fn fetch_secrets(
        &self,
        request: Request<DiscoveryRequest>,
    ) -> Result<Response<DiscoveryResponse>, Status> {
        let peer = peer(&request).map_err(status)?;
        let deadline = Instant::now() + deadline::of(request.metadata(), peer.longest_call());
        let body = request.get_ref();
        check_type(&body.type_url)?;
        let names: BTreeSet<_> = body.resource_names.iter().collect();
        check_count(names.len())?;
        let mut secrets = Vec::new();
        for name in names {
            let granted = self.authorise(peer.id(), name);
            let token = match &granted {
                Ok(granted) => self.token(granted, deadline).await,
                Err(error) => Err(*error),
            };
            self.count(peer.id(), granted.as_ref().ok(), token.as_ref().err());
            secrets.push((name.clone(), token.map_err(status)?));
        }
        let nonce = version(&secrets);
        Ok(Response::new(whole(&secrets, nonce)))
    }
}

impl Sds {
    /// Begins a stream.
    fn open<T>(&self, request: Request<Streaming<T>>) -> Result<(Client, Streaming<T>), Status> {
        let connected = request.extensions().get::<Arc<Connected>>().cloned();
        let connected = connected.ok_or_else(|| status(CallError::CallerUnidentified))?;
        // A stream may last, so only the client's own deadline ends it.
        let deadline = deadline::asked(request.metadata()).map(|asked| Instant::now() + asked);
        let client = Client {
            sds: self.clone(),
            connected,
            subscriptions: Subscriptions::default(),
            deadline,
            begun: false,
            rejected: false,
        };
        Ok((client, request.into_inner()))
    }

    fn until_stopped<T: Send + 'static>(
        &self,
        answers: impl stream::Stream<Item = T> + Send + 'static,
    ) -> BoxStream<'static, T> {
        answers
            .take_until(self.stop.clone().cancelled_owned())
            .boxed()
    }
}

/// The other end of a stream.
struct Client {
    sds: Sds,
    connected: Arc<Connected>,
    subscriptions: Subscriptions,
    deadline: Option<Instant>,
    /// Whether its first request has come, which was counted as a call.
    begun: bool,
    /// Whether it has rejected a secret, which is logged once.
    rejected: bool,
}

/// What a stream waits for.
enum Happened<T> {
    Asked(T),
    Updated(String, Update),
    /// The client has gone, or the stream must end with this.
    Ended(Option<Status>),
}

impl Client {
    async fn next<T>(&mut self, requests: &mut Streaming<T>) -> Happened<T> {
        let too_late = async {
            match self.deadline {
                Some(deadline) => sleep_until(deadline).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = too_late => Happened::Ended(Some(status(CallError::DeadlineExceeded))),
            request = requests.next() => match request {
                Some(Ok(request)) => match self.admit() {
                    Ok(()) => Happened::Asked(request),
                    Err(error) => Happened::Ended(Some(status(error))),
                },
                Some(Err(status)) => Happened::Ended(Some(status)),
                None => Happened::Ended(None),
            },
            (name, update) = self.subscriptions.next() => Happened::Updated(name, update),
        }
    }

    /// Each further request in a stream counts as a call: it may cost as much.
    fn admit(&mut self) -> Result<(), CallError> {
        if std::mem::replace(&mut self.begun, true) {
            self.connected.call()?;
        }
        Ok(())
    }

    /// A rejected secret is not sent again: the next one may be taken.
    fn acknowledged(&mut self, rejected: bool) {
        if rejected && !std::mem::replace(&mut self.rejected, true) {
            // What the proxy says of it is its own text, and may repeat the secret.
            warn!(caller = %self.connected.id(), "a proxy rejected a secret");
        }
    }

    /// Takes the names of a request for all that are wanted.
    fn wants_exactly(&mut self, request: &DiscoveryRequest) -> Result<(), Status> {
        check_type(&request.type_url)?;
        let names: BTreeSet<_> = request.resource_names.iter().cloned().collect();
        check_count(names.len())?;
        self.subscriptions.retain(|name| names.contains(name));
        for name in names {
            if !self.subscriptions.contains(&name) {
                self.subscribe(name).map_err(status)?;
            }
        }
        Ok(())
    }

    /// Adds and removes names; returns those that the caller may not have.
    fn wants_also(&mut self, request: &DeltaDiscoveryRequest) -> Result<Vec<String>, Status> {
        check_type(&request.type_url)?;
        let unsubscribed = &request.resource_names_unsubscribe;
        self.subscriptions
            .retain(|name| !unsubscribed.iter().any(|gone| gone == name));
        let names: BTreeSet<_> = request.resource_names_subscribe.iter().cloned().collect();
        let further = names
            .iter()
            .filter(|name| !self.subscriptions.contains(name));
        check_count(self.subscriptions.len() + further.count())?;
        // Who subscribes again is told again.
        let refused = names
            .into_iter()
            .filter(|name| self.subscribe(name.clone()).is_err());
        Ok(refused.collect())
    }

    fn subscribe(&mut self, name: String) -> Result<(), CallError> {
        let watch = self.sds.watch(self.connected.id(), &name)?;
        self.subscriptions.add(name, watch);
        Ok(())
    }
}

/// Numbers the answers of a stream.
#[derive(Default)]
struct Nonces(u64);

impl Nonces {
    fn next(&mut self) -> String {
        self.0 += 1;
        self.0.to_string()
    }
}

fn check_type(url: &str) -> Result<(), Status> {
    let right = url.is_empty() || url == TYPE_URL;
    right
        .then_some(())
        .ok_or_else(|| Status::invalid_argument("there are secrets here, and nothing else"))
}

fn check_count(names: usize) -> Result<(), Status> {
    (names <= MAX_NAMES)
        .then_some(())
        .ok_or_else(|| Status::invalid_argument("at most 100 names may be subscribed to at once"))
}

#[cfg(test)]
mod tests;
