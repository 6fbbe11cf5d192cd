//! How a stand-in answers.

use std::time::Duration;

/// How a stand-in answers requests whose credentials are right. The default is an
/// honest answer at once, with tokens that live an hour.
#[derive(Clone, Debug, PartialEq)]
pub struct Behaviour {
    /// How long every answer takes.
    pub delay: Duration,
    /// The lifetime of tokens.
    pub lifetime: Duration,
    /// What is said about the lifetime.
    pub expiry: Expiry,
    /// How long tokens are at least, in characters.
    pub token_length: usize,
    /// What goes wrong.
    pub fault: Option<Fault>,
    /// The share of requests that the fault hits, from 0 to 1.
    pub fail_rate: f64,
}

/// What an answer says about a token's lifetime.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Expiry {
    /// The lifetime, in seconds.
    #[default]
    Honest,
    /// Nothing.
    Missing,
    /// This JSON, such as `0`, `-1`, `"3600"` or `1e30`.
    Raw(String),
}

/// What goes wrong with an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// An error status.
    Status {
        /// The HTTP status.
        status: u16,
        /// The `Retry-After` header.
        retry_after: Option<String>,
    },
    /// Status 200 with this body, whatever it is.
    Body(String),
    /// A redirect.
    Redirect {
        /// The HTTP status.
        status: u16,
        /// The `Location` header.
        to: String,
    },
    /// An answer that says it is compressed.
    Gzip,
    /// Half of an honest answer, then the connection is closed.
    Truncate,
    /// A body that never ends.
    Endless,
    /// The connection is reset (TCP RST).
    Reset,
    /// The request is read and never answered.
    Silent,
}

impl Default for Behaviour {
    fn default() -> Self {
        Self {
            delay: Duration::ZERO,
            lifetime: Duration::from_secs(3600),
            expiry: Expiry::Honest,
            token_length: 0,
            fault: None,
            fail_rate: 1.0,
        }
    }
}

impl Behaviour {
    /// Honest but for one fault, which hits every request.
    pub fn fault(fault: Fault) -> Self {
        Self {
            fault: Some(fault),
            ..Self::default()
        }
    }

    /// Answers every request with a status and no `Retry-After`.
    pub fn status(status: u16) -> Self {
        Self::fault(Fault::Status {
            status,
            retry_after: None,
        })
    }

    /// Honest, but an answer takes this long.
    pub fn delay(delay: Duration) -> Self {
        Self {
            delay,
            ..Self::default()
        }
    }

    /// Honest, but tokens live this long.
    pub fn lifetime(lifetime: Duration) -> Self {
        Self {
            lifetime,
            ..Self::default()
        }
    }
}
