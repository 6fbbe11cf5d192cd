//! What all commands for operators share: the connection, and how they end.

use std::{fmt, io, process::ExitCode, time::Duration};

use jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;
use tonic::{Request, Response, Status, transport::Channel};

use super::{
    connection::{ConnectionArgs, Missing},
    exit::{called_wrongly, failed},
};
use crate::{
    api::admin::v1::admin_client::AdminClient,
    client::{self, ConnectError, Refusal},
};

/// A list of ten thousand destinations with a hundred callers each, and some to spare.
const MAX_ANSWER: usize = 256 * 1024 * 1024;

/// Why a command came to nothing.
#[derive(Debug, thiserror::Error)]
pub(super) enum OperatorError {
    #[error(transparent)]
    Missing(#[from] Missing),
    #[error(transparent)]
    Connect(#[from] ConnectError),
    #[error("{0}")]
    Refused(Refusal),
    #[error("cannot write the answer: {0}")]
    Write(#[from] io::Error),
}

/// A broker, as an operator speaks to it.
pub(super) struct Desk {
    client: AdminClient<Channel>,
    timeout: Duration,
    deadline: Instant,
}

impl Desk {
    /// Connects to the broker. The first call has what is left of the time.
    pub(super) async fn open(connection: ConnectionArgs) -> Result<Self, OperatorError> {
        let timeout = connection.timeout;
        let deadline = Instant::now() + timeout;
        let channel = connection.settings()?.connect(deadline).await?;
        Ok(Self {
            client: AdminClient::new(channel).max_decoding_message_size(MAX_ANSWER),
            timeout,
            deadline,
        })
    }

    /// Makes one call.
    pub(super) async fn call<T, R>(
        &mut self,
        message: T,
        call: impl AsyncFnOnce(&mut AdminClient<Channel>, Request<T>) -> Result<Response<R>, Status>,
    ) -> Result<R, OperatorError> {
        let request = client::request(message, self.deadline);
        let answer = call(&mut self.client, request).await;
        // What comes after has the whole of the time again.
        self.deadline = Instant::now() + self.timeout;
        answer
            .map(Response::into_inner)
            .map_err(|status| OperatorError::Refused(Refusal::from(&status)))
    }
}

/// How a command ends.
pub(super) fn ended(result: Result<ExitCode, OperatorError>) -> ExitCode {
    match result {
        Ok(code) => code,
        Err(OperatorError::Missing(missing)) => called_wrongly(missing),
        // No error of ours, but the broker's answer: its reason code comes first, for scripts.
        Err(OperatorError::Refused(refusal)) => {
            eprintln!("{refusal}");
            for mistake in &refusal.mistakes {
                eprintln!("{mistake}");
            }
            ExitCode::FAILURE
        }
        Err(error) => failed(error),
    }
}

/// A moment as the broker tells it.
pub(super) fn moment(at: Option<&prost_types::Timestamp>) -> Option<Timestamp> {
    Timestamp::from_second(at?.seconds).ok()
}

/// A moment in JSON: text, or null.
pub(super) fn text(at: Option<&prost_types::Timestamp>) -> Option<String> {
    moment(at).map(|at| at.to_string())
}

/// A time in its largest unit, rounded down, so that a table stays narrow.
pub(super) struct Brief(SignedDuration);

impl Brief {
    /// How long until then; none at all when it is past.
    pub(super) fn until(at: Timestamp, now: Timestamp) -> Self {
        Self(now.duration_until(at).max(SignedDuration::ZERO))
    }

    /// How long since then.
    pub(super) fn since(at: Timestamp, now: Timestamp) -> Self {
        Self::until(now, at)
    }

    pub(super) fn of(seconds: i64) -> Self {
        Self(SignedDuration::from_secs(seconds.max(0)))
    }
}

impl fmt::Display for Brief {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.as_secs();
        match seconds {
            0..60 => write!(f, "{seconds}s"),
            60..3600 => write!(f, "{}m", seconds / 60),
            3600..86_400 => write!(f, "{}h", seconds / 3600),
            _ => write!(f, "{}d", seconds / 86_400),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_brief() {
        for (seconds, expected) in [
            (-5, "0s"),
            (0, "0s"),
            (59, "59s"),
            (60, "1m"),
            (3599, "59m"),
            (3600, "1h"),
            (86_399, "23h"),
            (86_400, "1d"),
            (10_000_000, "115d"),
        ] {
            assert_eq!(Brief::of(seconds).to_string(), expected);
        }
        let at = |second| Timestamp::from_second(second).unwrap();
        assert_eq!(Brief::until(at(100), at(40)).to_string(), "1m");
        assert_eq!(Brief::until(at(40), at(100)).to_string(), "0s");
        assert_eq!(Brief::since(at(40), at(100)).to_string(), "1m");
    }
}
