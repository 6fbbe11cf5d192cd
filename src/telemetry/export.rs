//! The queue of ended spans, and the way to the collector.

use std::{mem, sync::Arc, time::Duration};

use opentelemetry_proto::{
    tonic::collector::trace::v1::{
        ExportTraceServiceRequest, trace_service_client::TraceServiceClient,
    },
    transform::{
        common::tonic::ResourceAttributesWithSchema,
        trace::tonic::group_spans_by_resource_and_scope,
    },
};
use opentelemetry_sdk::{Resource, trace::SpanData};
use tokio::{
    select,
    sync::mpsc,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status, transport::Channel};
use tonic_types::StatusExt as _;
use tracing::{info, warn};

use super::Collector;
use crate::metrics::Metrics;

/// As many spans go to the collector at once.
const BATCH: usize = 512;
/// A batch that is not full goes after this time.
const LINGER: Duration = Duration::from_secs(1);
/// The longest wait for an answer of the collector.
const ATTEMPT: Duration = Duration::from_secs(5);
/// How long a batch waits before it is tried again, unless the collector asks for more; then
/// it is given up.
const RETRIES: [Duration; 5] = [
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(4),
    Duration::from_secs(8),
    Duration::from_secs(16),
];
/// A collector may ask for so much patience and no more: what ended meanwhile waits, too.
const MOST_PATIENCE: Duration = Duration::from_secs(30);
/// A pause is longer or shorter by up to this part of it, so that a fleet does not come back in
/// step.
const SPREAD: f64 = 0.2;
/// After the stop, the last spans have so long.
const LAST_SPANS: Duration = Duration::from_millis(500);

/// Brings ended spans to the collector for as long as it is run. Nobody waits for it: what
/// does not fit into the queue meanwhile is dropped.
pub struct Export {
    queue: mpsc::Receiver<SpanData>,
    collector: Collector,
    resource: ResourceAttributesWithSchema,
    metrics: Arc<Metrics>,
    /// Whether the last batch did not arrive.
    failing: bool,
}

/// What becomes of a batch that did not arrive.
enum Failed {
    /// It may arrive another time, which the collector may have asked to be so much later.
    ForNow(Code, Option<Duration>),
    /// It never will.
    ForGood(Code),
}

impl Export {
    pub(super) fn new(
        queue: mpsc::Receiver<SpanData>,
        collector: Collector,
        resource: &Resource,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self {
            queue,
            collector,
            resource: resource.into(),
            metrics,
            failing: false,
        }
    }

    /// Exports until `stop` is cancelled, and then what is left, but not for long.
    pub async fn run(mut self, stop: CancellationToken) {
        let too_late = async {
            stop.cancelled().await;
            sleep(LAST_SPANS).await;
        };
        select! {
            () = self.export(&stop) => {}
            () = too_late => warn!("the last spans did not reach the collector in time"),
        }
    }

    async fn export(&mut self, stop: &CancellationToken) {
        // Its authorities were read with the configuration.
        let Ok(mut client) = self.collector.client() else {
            return warn!("the collector cannot be reached: its settings are not usable");
        };
        loop {
            let batch = self.next_batch(stop).await;
            if batch.is_empty() {
                return;
            }
            self.send(&mut client, batch, stop).await;
        }
    }

    /// Waits for spans; none when there will be none any more.
    async fn next_batch(&mut self, stop: &CancellationToken) -> Vec<SpanData> {
        let mut batch = Vec::new();
        let mut linger = None;
        loop {
            let left = BATCH - batch.len();
            let lingering = async {
                match &mut linger {
                    Some(linger) => std::pin::Pin::as_mut(linger).await,
                    None => std::future::pending().await,
                }
            };
            let came = select! {
                biased;
                () = stop.cancelled(), if !self.queue.is_closed() => {
                    self.queue.close();
                    continue;
                }
                came = self.queue.recv_many(&mut batch, left) => came,
                () = lingering => return batch,
            };
            if came == 0 || batch.len() == BATCH {
                return batch;
            }
            linger.get_or_insert_with(|| Box::pin(sleep(LINGER)));
        }
    }

    /// Sends a batch, and tries again where that may help.
    async fn send(
        &mut self,
        client: &mut TraceServiceClient<Channel>,
        batch: Vec<SpanData>,
        stop: &CancellationToken,
    ) {
        let count = batch.len();
        let request = ExportTraceServiceRequest {
            resource_spans: group_spans_by_resource_and_scope(batch, &self.resource),
        };
        let mut retries = RETRIES.into_iter();
        loop {
            let attempt = timeout(ATTEMPT, attempt(client, request.clone())).await;
            let attempt = attempt.unwrap_or_else(|_| {
                // The other end may have died without a word, and the connection be kept by
                // this one for a quarter of an hour.
                if let Ok(another) = self.collector.client() {
                    *client = another;
                }
                Err(Failed::ForNow(Code::DeadlineExceeded, None))
            });
            let code = match attempt {
                Ok(rejected) => return self.arrived(count, rejected),
                Err(Failed::ForNow(code, asked)) => match retries.next() {
                    Some(own) if !stop.is_cancelled() => {
                        self.note_failure(code);
                        let pause = pause(own, asked, rand::random());
                        // At the stop it is tried at once, for the last time.
                        let _ = timeout(pause, stop.cancelled()).await;
                        continue;
                    }
                    _ => code,
                },
                Err(Failed::ForGood(code)) => code,
            };
            self.note_failure(code);
            return self.metrics.trace_spans("failed", count);
        }
    }

    fn arrived(&mut self, count: usize, rejected: usize) {
        if mem::take(&mut self.failing) {
            info!("the collector takes spans again");
        }
        let rejected = rejected.min(count);
        self.metrics.trace_spans("exported", count - rejected);
        if rejected > 0 {
            self.metrics.trace_spans("rejected", rejected);
        }
    }

    /// Says it once for each change.
    fn note_failure(&mut self, code: Code) {
        if !mem::replace(&mut self.failing, true) {
            // The code alone: the rest is a text of somebody else's.
            warn!(?code, "the collector does not take spans");
        }
    }
}

/// Sends a batch once, and says how many of its spans the collector rejected.
async fn attempt(
    client: &mut TraceServiceClient<Channel>,
    request: ExportTraceServiceRequest,
) -> Result<usize, Failed> {
    let answer = client.export(request).await;
    let answer = answer.map_err(|status| Failed::from(&status))?.into_inner();
    let rejected = answer.partial_success.map_or(0, |part| part.rejected_spans);
    Ok(usize::try_from(rejected).unwrap_or(0))
}

/// How long a batch waits, by a number below one.
fn pause(own: Duration, asked: Option<Duration>, random: f64) -> Duration {
    let pause = own.max(asked.unwrap_or_default()).min(MOST_PATIENCE);
    pause.mul_f64(1.0 + SPREAD * (2.0 * random - 1.0))
}

/// What may help is in OTLP ("Failures", OTLP/gRPC).
impl From<&Status> for Failed {
    fn from(status: &Status) -> Self {
        let code = status.code();
        let asked = status.get_details_retry_info();
        let is_asked = asked.is_some();
        let asked = asked.and_then(|info| info.retry_delay);
        match code {
            Code::Cancelled
            | Code::DeadlineExceeded
            | Code::Aborted
            | Code::OutOfRange
            | Code::Unavailable
            | Code::DataLoss => Self::ForNow(code, asked),
            Code::ResourceExhausted if is_asked => Self::ForNow(code, asked),
            _ => Self::ForGood(code),
        }
    }
}

#[cfg(test)]
mod tests {
    use tonic_types::ErrorDetails;

    use super::*;

    #[test]
    fn a_collector_that_asks_for_patience_gets_it_within_bounds() {
        let seconds = Duration::from_secs;
        for (code, asked, patience) in [
            (Code::Unavailable, None, Some(seconds(4))),
            (Code::Unavailable, Some(2), Some(seconds(4))),
            (Code::Unavailable, Some(9), Some(seconds(9))),
            (Code::ResourceExhausted, Some(9), Some(seconds(9))),
            (Code::ResourceExhausted, Some(3600), Some(seconds(30))),
            (Code::ResourceExhausted, None, None),
        ] {
            let details = asked.map_or_else(ErrorDetails::new, |asked| {
                ErrorDetails::with_retry_info(Some(seconds(asked)))
            });
            let status = Status::with_error_details(code, "", details);
            let Failed::ForNow(_, asked) = Failed::from(&status) else {
                assert_eq!(patience, None);
                continue;
            };
            let patience = patience.unwrap();
            assert_eq!(pause(seconds(4), asked, 0.5), patience);
            assert_eq!(pause(seconds(4), asked, 0.0), patience.mul_f64(0.8));
            assert_eq!(pause(seconds(4), asked, 1.0), patience.mul_f64(1.2));
        }
    }
}
