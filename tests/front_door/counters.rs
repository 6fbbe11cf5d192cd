//! What a trial's broker has counted.

use std::time::Duration;

use tokio::time::{sleep, timeout};

use crate::trial::{GIVE_UP, Trial};

impl Trial {
    /// The value of the time series of this whole name, with its labels; 0 where there is
    /// none.
    pub(crate) async fn counted(&self, series: &str) -> u64 {
        let (_, metrics) = self.http("/metrics").await;
        let mut lines = metrics.lines().filter_map(|line| line.rsplit_once(' '));
        let value = lines.find(|(name, _)| *name == series);
        value.map_or(0, |(_, value)| value.parse().unwrap())
    }

    /// Waits until it has counted this many.
    pub(crate) async fn until_counted(&self, series: &str, least: u64) {
        let counted = async {
            while self.counted(series).await < least {
                sleep(Duration::from_millis(10)).await;
            }
        };
        let in_time = timeout(GIVE_UP, counted).await.is_ok();
        let (_, metrics) = self.http("/metrics").await;
        assert!(in_time, "{series} is below {least}: {metrics}");
    }
}

/// The series of connections that came to this.
pub(crate) fn connections(outcome: &str) -> String {
    format!("token_broker_connections_total{{outcome=\"{outcome}\"}}")
}

/// The series of connections that ended for this reason.
pub(crate) fn closed(reason: &str) -> String {
    format!("token_broker_connections_closed_total{{reason=\"{reason}\"}}")
}

/// The series of reloads that came to this.
pub(crate) fn reloads(outcome: &str) -> String {
    format!("token_broker_reloads_total{{outcome=\"{outcome}\"}}")
}
