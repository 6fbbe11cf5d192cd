//! The calls that a watching client makes, on connections of its own.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use futures_util::{StreamExt as _, future::BoxFuture, stream::BoxStream};
use tokio::time::{Instant, timeout_at};
use tonic::{Status, transport::Channel};

use super::{ConnectError, Refusal, Settings, request};
use crate::api::v1::{
    ReportOutcome, ReportRejectedRequest, WatchTokenRequest, WatchTokenResponse,
    token_broker_client::TokenBrokerClient,
};

/// What a broker sends a watcher.
pub(super) type Events = BoxStream<'static, Result<WatchTokenResponse, Status>>;

/// How a broker is asked. It is a trait so that tests can tear it.
pub(super) trait Wire: Send + Sync {
    /// Begins to watch, on a new connection.
    fn watch<'a>(&'a self, destination: &'a str) -> BoxFuture<'a, Result<Events, Refusal>>;

    /// Reports that a destination rejected a token.
    fn report<'a>(
        &'a self,
        destination: &'a str,
        token_id: &'a str,
    ) -> BoxFuture<'a, Result<ReportOutcome, Refusal>>;
}

/// The real thing.
pub(super) struct Line {
    settings: Settings,
    /// How long one call may take, connecting included.
    patience: Duration,
    /// The connection of the last watch.
    channel: Mutex<Option<Channel>>,
}

impl Line {
    pub(super) fn new(settings: Settings, patience: Duration) -> Self {
        Self {
            settings,
            patience,
            channel: Mutex::default(),
        }
    }

    /// Connects with the certificates as they are now, since they are replaced in time.
    async fn connect(&self, deadline: Instant) -> Result<Channel, Refusal> {
        let connected = self.settings.connect(deadline).await;
        let channel = connected.map_err(|error| Refusal::from(&error))?;
        *self.channel.lock().unwrap_or_else(PoisonError::into_inner) = Some(channel.clone());
        Ok(channel)
    }

    fn connection(&self) -> Option<Channel> {
        let channel = self.channel.lock().unwrap_or_else(PoisonError::into_inner);
        channel.clone()
    }
}

impl Wire for Line {
    fn watch<'a>(&'a self, destination: &'a str) -> BoxFuture<'a, Result<Events, Refusal>> {
        let deadline = Instant::now() + self.patience;
        Box::pin(async move {
            let mut client = TokenBrokerClient::new(self.connect(deadline).await?);
            // The broker is told no deadline: it would end the stream.
            let watching = client.watch_token(WatchTokenRequest {
                destination_id: destination.to_owned(),
            });
            match timeout_at(deadline, watching).await {
                Ok(Ok(response)) => Ok(response.into_inner().boxed()),
                Ok(Err(status)) => Err(Refusal::from(&status)),
                Err(_) => Err(Refusal::too_late()),
            }
        })
    }

    fn report<'a>(
        &'a self,
        destination: &'a str,
        token_id: &'a str,
    ) -> BoxFuture<'a, Result<ReportOutcome, Refusal>> {
        let deadline = Instant::now() + self.patience;
        Box::pin(async move {
            let channel = match self.connection() {
                Some(channel) => channel,
                None => self.connect(deadline).await?,
            };
            let report = ReportRejectedRequest {
                destination_id: destination.to_owned(),
                token_id: token_id.to_owned(),
            };
            let answer = TokenBrokerClient::new(channel)
                .report_rejected(request(report, deadline))
                .await;
            answer
                .map(|answer| answer.into_inner().outcome())
                .map_err(|status| Refusal::from(&status))
        })
    }
}

impl From<&ConnectError> for Refusal {
    fn from(error: &ConnectError) -> Self {
        Self {
            reason: "UNAVAILABLE".to_owned(),
            message: error.to_string(),
            retry_in: None,
            // Files are replaced, and brokers come back.
            needs_action: matches!(error, ConnectError::Endpoint(_)),
            mistakes: Vec::new(),
        }
    }
}
