//! A token as a client holds it.

use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;

use crate::{
    api::{span, v1::GetTokenResponse},
    secret::Secret,
};

/// The client lets go of a token so long before its end, so that it does not expire on the
/// way to its destination. The broker's own margin is longer; this one counts when there is
/// no successor.
const MARGIN: Duration = Duration::from_secs(10);
/// The margin of a token that is short-lived: this part of what it had left when it came.
const MARGIN_SHARE: u32 = 10;
/// No token is trusted for longer, whatever is declared: it keeps moments within the
/// clock's range.
const LONGEST_LIFE: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// A token that a broker handed out.
#[derive(Debug)]
pub struct BearerToken {
    /// The token itself.
    pub access_token: Secret,
    /// How to present it: `Bearer` (RFC 6750).
    pub token_type: String,
    /// Names the token in logs and reports.
    pub id: String,
    /// When it expires by the broker's clock, in whole seconds rounded down.
    pub expires_at: Timestamp,
    /// How long it lived when it came.
    pub expires_in: Duration,
    /// Until when the client hands it out.
    served_until: Instant,
}

/// A broker's answer is no whole token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the broker's answer lacks {0}; is it of the same version?")]
pub struct Incomplete(pub &'static str);

impl BearerToken {
    /// Reads an answer that arrived at `now`.
    ///
    /// # Errors
    /// [`Incomplete`] when a part of it is missing.
    pub fn read(answer: GetTokenResponse, now: Instant) -> Result<Self, Incomplete> {
        let access_token = Secret::new(answer.access_token);
        if access_token.expose().is_empty() {
            return Err(Incomplete("access_token"));
        }
        let expires_at = answer
            .expires_at
            .and_then(|at| Timestamp::from_second(at.seconds).ok())
            .ok_or(Incomplete("expires_at"))?;
        // Counted on the monotonic clock: this machine's wall clock may be off.
        let expires_in = answer.expires_in.ok_or(Incomplete("expires_in"))?;
        let expires_in = span(&expires_in).unwrap_or_default().min(LONGEST_LIFE);
        let margin = MARGIN.min(expires_in / MARGIN_SHARE);
        Ok(Self {
            access_token,
            token_type: answer.token_type,
            id: answer.token_id,
            expires_at,
            expires_in,
            served_until: now + expires_in.saturating_sub(margin),
        })
    }

    /// Whether there is life enough left to use it.
    pub(super) fn serves(&self, now: Instant) -> bool {
        now < self.served_until
    }

    /// The value of the `Authorization` header that presents it (RFC 6750 §2.1). Never log it.
    pub fn authorization(&self) -> Secret {
        Secret::new(format!(
            "{} {}",
            self.token_type,
            self.access_token.expose()
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(seconds: i64) -> GetTokenResponse {
        GetTokenResponse {
            access_token: "canary".to_owned(),
            token_type: "Bearer".to_owned(),
            expires_at: Some(prost_types::Timestamp {
                seconds: 1_800_000_000,
                nanos: 999_999_999,
            }),
            expires_in: Some(prost_types::Duration { seconds, nanos: 0 }),
            token_id: "0f".repeat(16),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_token_is_let_go_of_before_its_end() {
        let now = Instant::now();
        for (lives, served) in [
            (3600, 3590),
            (100, 90),
            (10, 9),
            (0, 0),
            (-1, 0),
            (i64::MIN, 0),
            (i64::MAX, LONGEST_LIFE.as_secs() - 10),
        ] {
            let token = BearerToken::read(answer(lives), now).unwrap();
            let served_for = token.served_until - now;
            assert_eq!(served_for.as_secs(), served, "{lives} s");
            assert!(!token.serves(now + served_for));
        }
    }

    #[test]
    fn an_incomplete_answer_is_a_failure() {
        let without_token = GetTokenResponse {
            access_token: String::new(),
            ..answer(1)
        };
        let without_expiry = GetTokenResponse {
            expires_at: None,
            ..answer(1)
        };
        let without_life = GetTokenResponse {
            expires_in: None,
            ..answer(1)
        };
        for (answer, lacks) in [
            (without_token, "access_token"),
            (without_expiry, "expires_at"),
            (without_life, "expires_in"),
        ] {
            let error = BearerToken::read(answer, Instant::now()).unwrap_err();
            assert_eq!(error, Incomplete(lacks));
        }
    }

    #[test]
    fn debug_shows_nothing_of_the_token() {
        let token = BearerToken::read(answer(1), Instant::now()).unwrap();
        let shown = format!("{token:?} {:?}", token.authorization());
        assert!(
            !shown.contains("canary") && shown.contains("[secret]"),
            "{shown}"
        );
        assert_eq!(token.authorization().expose(), "Bearer canary");
    }
}
