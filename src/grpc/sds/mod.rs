//! `envoy.service.secret.v3.SecretDiscoveryService`: the token as a generic secret, and
//! each successor when it is minted.
//!
//! A resource is a destination, by its id or name. A stream of the whole state
//! (`StreamSecrets`) has no words for one name among several that is refused, so there a
//! refusal ends it; a stream of changes (`DeltaSecrets`) says that the name was removed.

mod client;
mod refused;
mod resource;
mod subscriptions;
mod wanted;

use std::{pin::pin, sync::Arc, time::Duration};

use envoy_types::pb::envoy::service::discovery::v3::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse,
};
use futures_util::{
    StreamExt as _,
    stream::{self, BoxStream},
};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};

pub(super) use self::wanted::Wanted;
use self::{
    client::{Client, Happened},
    refused::Refused,
    resource::{Named, delta, version, whole},
};
use super::{
    deadline,
    envoy::secret_discovery_service_server::SecretDiscoveryService,
    method,
    status::{note_status, status},
    token_service::{peer, until},
};
use crate::{
    admission::Connected,
    broker::{Asker, Broker, CallError, Granted, Watch},
    clock::Instant,
    destination::DestinationName,
    identity::CallerId,
    metrics::Door,
    request_id::RequestId,
    slot::Refusal,
    telemetry::{Call, Calls, End, Operation},
    token::{Token, TokenId},
};

/// How the metrics name this door.
pub(super) const DOOR: Door = Door::Sds;

/// Answers proxies that keep secrets.
#[derive(Clone)]
pub(super) struct Sds {
    pub(super) broker: Arc<Broker>,
    pub(super) calls: Calls,
    /// Ends the streams.
    pub(super) stop: CancellationToken,
}

impl Sds {
    /// Parses a name, and asks the policy.
    fn authorise(&self, caller: &CallerId, name: &str) -> Result<Granted, CallError> {
        let destination =
            DestinationName::parse(name).map_err(|_| CallError::InvalidDestinationId)?;
        self.broker.authorise(caller, destination)
    }

    /// One token, for a proxy that polls.
    async fn token(
        &self,
        asker: &Asker,
        granted: &Granted,
        deadline: Instant,
    ) -> Result<Arc<Token>, CallError> {
        let token = pin!(self.broker.token(asker, granted, Duration::ZERO));
        until(Some(deadline), token).await
    }

    /// A name's token and its successors, for a caller that may have them.
    fn watch(&self, call: &Call, caller: &CallerId, name: &str) -> Result<Watch, CallError> {
        let granted = self.authorise(caller, name);
        let outcome = granted.as_ref().map(|_| None).map_err(|error| *error);
        self.count(call, caller, granted.as_ref().ok(), outcome);
        let asker = Asker::of(caller.clone(), call);
        Ok(self.broker.watch(asker, &granted?))
    }

    /// Counts and logs what became of one name, and with which token.
    fn count(
        &self,
        call: &Call,
        caller: &CallerId,
        granted: Option<&Granted>,
        result: Result<Option<TokenId>, CallError>,
    ) {
        // Only a granted destination is named: anything else is the caller's invention.
        let to = granted.map(|granted| &*granted.tally);
        let outcome = result.as_ref().map_or_else(CallError::code, |_| "ok");
        let (caller, token) = (caller.as_str(), result.ok().flatten());
        self.calls
            .answered_in_part(call, caller, to, outcome, token);
    }

    /// A request, or a stream, begins.
    fn begin<T>(&self, method: &'static str, request: &Request<T>, peer: &Connected) -> Call {
        let headers = request.metadata().as_ref();
        let (operation, id) = (Operation::Grpc(method), RequestId::of(headers));
        let call = self.calls.begin(DOOR, operation, headers, id);
        call.span.text("token_broker.caller", peer.id());
        call
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
        let (client, requests) = self.open(method::STREAM_SECRETS, request)?;
        let state = Some((client, requests, Nonces::default()));
        let answers = stream::unfold(state, |state| async move {
            let (mut client, mut requests, mut nonces) = state?;
            loop {
                let (name, update) = match client.next(&mut requests).await {
                    Happened::Asked(request) => {
                        client.acknowledged(request.error_detail.is_some());
                        match client.wants_exactly(request) {
                            Ok(()) => continue,
                            Err(refused) => return Some((Err(client.ends(refused)), None)),
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
                    Err(
                        CallError::Refused(Refusal::Failed { .. })
                        | CallError::AuditUnavailable { .. },
                    ) => {}
                    Err(error) => return Some((Err(client.ends(error)), None)),
                }
            }
        });
        Ok(Response::new(self.until_stopped(answers)))
    }

    async fn delta_secrets(
        &self,
        request: Request<Streaming<DeltaDiscoveryRequest>>,
    ) -> Result<Response<Self::DeltaSecretsStream>, Status> {
        let (client, requests) = self.open(method::DELTA_SECRETS, request)?;
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
                            Err(refused) => return Some((Err(client.ends(refused)), None)),
                        }
                    }
                    Happened::Updated(name, Ok(token)) => {
                        delta(&[(name, token)], Vec::new(), nonces.next())
                    }
                    // It is sent as soon as it can be recorded.
                    Happened::Updated(_, Err(CallError::AuditUnavailable { .. })) => continue,
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
        request: Request<Wanted>,
    ) -> Result<Response<DiscoveryResponse>, Status> {
        let peer = peer(&request).map_err(status)?;
        let deadline =
            Instant::now() + deadline::of(request.metadata().as_ref(), peer.longest_call());
        let call = self.begin(method::FETCH_SECRETS, &request, peer);
        let asker = Asker::of(peer.id().clone(), &call);
        let wanted = request.into_inner();
        let secrets = match wanted.check() {
            Ok(()) => self.secrets(&call, &asker, wanted, deadline).await,
            Err(refused) => {
                let (caller, outcome) = (asker.caller.as_str(), refused.outcome);
                self.calls
                    .answered_in_part(&call, caller, None, outcome, None);
                Err(refused)
            }
        };
        let outcome = secrets
            .as_ref()
            .map_or_else(|refused| refused.outcome, |_| "ok");
        let answer = secrets.map_err(|refused| refused.status);
        note_status(&answer, &call.span);
        self.calls.ended(&call, outcome);
        let secrets = answer?;
        let nonce = version(&secrets);
        Ok(Response::new(whole(&secrets, nonce)))
    }
}

impl Sds {
    /// The tokens that a proxy polls, or why there is none for one of the names.
    async fn secrets(
        &self,
        call: &Call,
        asker: &Asker,
        wanted: Wanted,
        deadline: Instant,
    ) -> Result<Vec<Named>, Refused> {
        let mut secrets = Vec::new();
        for name in wanted.names {
            let granted = self.authorise(&asker.caller, &name);
            let token = match &granted {
                Ok(granted) => self.token(asker, granted, deadline).await,
                Err(error) => Err(*error),
            };
            let result = token.as_ref().map(|token| Some(token.id));
            let result = result.map_err(|error| *error);
            self.count(call, &asker.caller, granted.as_ref().ok(), result);
            secrets.push((name, token?));
        }
        Ok(secrets)
    }

    /// Begins a stream.
    fn open<T>(
        &self,
        method: &'static str,
        request: Request<Streaming<T>>,
    ) -> Result<(Client, Streaming<T>), Status> {
        let connected = request.extensions().get::<Arc<Connected>>().cloned();
        let connected = connected.ok_or_else(|| status(CallError::CallerUnidentified))?;
        // A stream may last, so only the client's own deadline ends it.
        let deadline =
            deadline::asked(request.metadata().as_ref()).map(|asked| Instant::now() + asked);
        let call = self.begin(method, &request, &connected);
        call.span.ends(End::Well("ok"));
        let client = Client::new(self.clone(), call, connected, deadline);
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

/// Numbers the answers of a stream.
#[derive(Default)]
struct Nonces(u64);

impl Nonces {
    fn next(&mut self) -> String {
        self.0 += 1;
        self.0.to_string()
    }
}

#[cfg(test)]
mod tests;
