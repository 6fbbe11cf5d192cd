//! What is sealed: a token, a failure, a pause, a quarantine, or a replica's word of itself.

use std::{
    fmt, mem,
    sync::Arc,
    time::{Duration, SystemTime},
};

use prost::Message;
use zeroize::{Zeroize as _, Zeroizing};

use super::{Replica, replica::printable, ring::NotOurs};
use crate::{
    clock::{self, Moment},
    destination::{ApplicationName, DestinationId, TokenKey},
    secret::Secret,
    slot::FailureReason,
    token::{Origin, SecretName, Token, TokenId},
    usage::{Quarantine, SharedQuarantine, Stamp, millis, of_millis},
};

/// A replica's clock may be ahead by no more than this. Two that differ by more would hand
/// out each other's tokens for too long.
pub const CLOCKS_DIFFER: Duration = Duration::from_secs(5);

/// What a sealed value is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Kind {
    /// A slot's token.
    Token,
    /// Why a slot has no token.
    Failure,
    /// Until when a host is left alone.
    Pause,
    /// What an operator stopped or released.
    Quarantine,
    /// What a replica tells of itself.
    Replica,
}

/// A token that some replica minted.
#[derive(Debug)]
pub struct SharedToken {
    access_token: Secret,
    id: TokenId,
    /// When the request for it was about to be sent, on that replica's clock.
    pub requested_at: SystemTime,
    lifetime: Duration,
    secret: SecretName,
}

/// A replica's flight that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SharedFailure {
    /// What is wrong.
    pub reason: FailureReason,
    /// When it may be tried again.
    pub retry_at: SystemTime,
    /// How often it was so, one after the other.
    pub in_a_row: u32,
}

/// Until when a host asks to be left alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Pause {
    pub(super) until: SystemTime,
}

/// What a replica tells of itself, again and again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Beat {
    /// Which process it is, at random: two replicas may have one name.
    pub(super) id: u128,
    pub(super) name: String,
    pub(super) version: String,
    /// When it started, on its own clock.
    pub(super) since: SystemTime,
    /// When it told this, on its own clock.
    pub(super) at: SystemTime,
}

/// What cannot be used here, although it is sealed as it should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Untimely {
    /// It has expired.
    Expired,
    /// It is from the future: two replicas' clocks differ by more than they may.
    FromTheFuture,
}

impl Kind {
    /// All of them.
    pub(super) const ALL: [Self; 5] = [
        Self::Token,
        Self::Failure,
        Self::Pause,
        Self::Quarantine,
        Self::Replica,
    ];

    /// What stands for it in what it is sealed for, and on the wire.
    pub(crate) fn tag(self) -> u8 {
        match self {
            Self::Token => b't',
            Self::Failure => b'f',
            Self::Pause => b'p',
            Self::Quarantine => b'q',
            Self::Replica => b'r',
        }
    }

    /// The kind with this tag.
    pub(crate) fn of_tag(tag: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.tag() == tag)
    }
}

impl SharedToken {
    /// The token as it is sealed, and how long that is of use.
    pub(super) fn encode(token: &Token) -> (Zeroizing<Vec<u8>>, Duration) {
        let wall = token.expires_at().wall;
        let left = wall.duration_since(clock::wall()).unwrap_or_default();
        let written = WrittenToken {
            access_token: token.access_token.expose().to_owned(),
            id: token.id.to_string(),
            requested_at: millis(token.requested_at.wall),
            lifetime: u64::try_from(token.lifetime.as_millis()).unwrap_or(u64::MAX),
            credential: token.secret.credential.to_string(),
            generation: token.secret.generation.clone(),
            client_id: token.secret.client_id.to_string(),
        };
        (encode(&written), left)
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, NotOurs> {
        let mut written = WrittenToken::decode(bytes).map_err(|_| NotOurs)?;
        Ok(Self {
            access_token: Secret::new(mem::take(&mut written.access_token)),
            id: TokenId::parse(&written.id).ok_or(NotOurs)?,
            requested_at: wall(written.requested_at)?,
            lifetime: Duration::from_millis(written.lifetime),
            secret: SecretName {
                credential: mem::take(&mut written.credential).into(),
                generation: mem::take(&mut written.generation),
                client_id: mem::take(&mut written.client_id).into(),
            },
        })
    }

    /// The token as this process has it, trusted for no longer than `max` in all.
    ///
    /// # Errors
    /// [`Untimely`], by the wall clock, which is all that replicas have in common.
    pub fn arrive(
        self,
        key: &Arc<TokenKey>,
        max: Duration,
        now: Moment,
    ) -> Result<Token, Untimely> {
        let age = age(self.requested_at, now.wall)?;
        let lifetime = self.lifetime.min(max);
        let left = lifetime.saturating_sub(age);
        if left.is_zero() {
            return Err(Untimely::Expired);
        }
        // A clock that began after the token did counts the rest of its life alone.
        let (age, lifetime) = match now.instant.checked_sub(age) {
            Some(_) => (age, lifetime),
            None => (Duration::ZERO, left),
        };
        Ok(Token {
            key: Arc::clone(key),
            access_token: Arc::new(self.access_token),
            id: self.id,
            requested_at: Moment {
                instant: now.instant - age,
                wall: now.wall - age,
            },
            lifetime,
            secret: Arc::new(self.secret),
            origin: Origin::Elsewhere,
        })
    }
}

impl Untimely {
    /// The outcome that metrics show.
    pub fn code(self) -> &'static str {
        match self {
            Self::Expired => "expired",
            Self::FromTheFuture => "from_the_future",
        }
    }
}

impl SharedFailure {
    /// Whether it is the token endpoint's own word, so that it counts for all replicas. What
    /// else went wrong may be one replica's own trouble, and is shared by those who waited.
    pub fn is_endpoints_word(&self) -> bool {
        matches!(
            self.reason,
            FailureReason::CredentialRejected | FailureReason::Throttled
        )
    }

    pub(super) fn encode(&self) -> Zeroizing<Vec<u8>> {
        encode(&WrittenFailure {
            reason: self.reason.code().to_owned(),
            retry_at: millis(self.retry_at),
            in_a_row: self.in_a_row,
        })
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, NotOurs> {
        let written = WrittenFailure::decode(bytes).map_err(|_| NotOurs)?;
        let mut reasons = FailureReason::ALL.into_iter();
        let reason = reasons.find(|reason| reason.code() == written.reason);
        Ok(Self {
            reason: reason.ok_or(NotOurs)?,
            retry_at: wall(written.retry_at)?,
            in_a_row: written.in_a_row,
        })
    }
}

impl Pause {
    pub(super) fn encode(self) -> Zeroizing<Vec<u8>> {
        encode(&WrittenPause {
            until: millis(self.until),
        })
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, NotOurs> {
        let written = WrittenPause::decode(bytes).map_err(|_| NotOurs)?;
        Ok(Self {
            until: wall(written.until)?,
        })
    }
}

impl SharedQuarantine {
    pub(super) fn encode(&self) -> Zeroizing<Vec<u8>> {
        let application = self.application.as_ref().map(ToString::to_string);
        let stopped = self.quarantine.as_ref();
        encode(&WrittenQuarantine {
            destination: self.destination.to_string(),
            application,
            at: millis(self.at),
            stopped: stopped.map(|quarantine| WrittenStop {
                since: quarantine.since.0,
                administrator: quarantine.administrator.clone(),
                comment: quarantine.comment.clone(),
            }),
        })
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, NotOurs> {
        let written = WrittenQuarantine::decode(bytes).map_err(|_| NotOurs)?;
        let destination = DestinationId::parse(&written.destination).map_err(|_| NotOurs)?;
        let application = written.application.as_deref();
        let application = application.map(ApplicationName::parse).transpose();
        let application = application.map_err(|_| NotOurs)?;
        let quarantine = written.stopped.map(|stop| Quarantine {
            destination: destination.clone(),
            application: application.clone(),
            since: Stamp(stop.since),
            administrator: stop.administrator,
            comment: stop.comment,
        });
        Ok(Self {
            destination,
            application,
            at: wall(written.at)?,
            quarantine,
        })
    }
}

impl Beat {
    pub(super) fn encode(&self) -> Zeroizing<Vec<u8>> {
        encode(&WrittenBeat {
            id: self.id.to_be_bytes().to_vec(),
            name: self.name.clone(),
            version: self.version.clone(),
            since: millis(self.since),
            at: millis(self.at),
        })
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, NotOurs> {
        let written = WrittenBeat::decode(bytes).map_err(|_| NotOurs)?;
        let id = <[u8; 16]>::try_from(written.id).map_err(|_| NotOurs)?;
        Ok(Self {
            id: u128::from_be_bytes(id),
            name: printable(&written.name),
            version: printable(&written.version),
            since: wall(written.since)?,
            at: wall(written.at)?,
        })
    }

    /// The replica as this process shows it, and for how long it does so if it hears no more: until
    /// this is so old, as far as clocks agree. That nobody can put off, whatever a store does.
    ///
    /// # Errors
    /// [`Untimely`], by the wall clock, which is all that replicas have in common.
    pub(super) fn arrive(
        self,
        lasts: Duration,
        now: SystemTime,
    ) -> Result<(Replica, Duration), Untimely> {
        let age = age(self.at, now)?;
        let left = (lasts + CLOCKS_DIFFER).saturating_sub(age);
        if left.is_zero() {
            return Err(Untimely::Expired);
        }
        let replica = Replica {
            name: self.name,
            version: self.version,
            since: self.since.min(now),
            seen: now - age,
            is_this: false,
        };
        Ok((replica, left))
    }
}

#[derive(Clone, PartialEq, Eq, Message)]
#[prost(skip_debug)]
struct WrittenToken {
    #[prost(string, tag = "1")]
    access_token: String,
    #[prost(string, tag = "2")]
    id: String,
    #[prost(uint64, tag = "3")]
    requested_at: u64,
    #[prost(uint64, tag = "4")]
    lifetime: u64,
    #[prost(string, tag = "5")]
    credential: String,
    #[prost(string, tag = "6")]
    generation: String,
    #[prost(string, tag = "7")]
    client_id: String,
}

#[derive(Clone, PartialEq, Eq, Message)]
struct WrittenFailure {
    #[prost(string, tag = "1")]
    reason: String,
    #[prost(uint64, tag = "2")]
    retry_at: u64,
    #[prost(uint32, tag = "3")]
    in_a_row: u32,
}

#[derive(Clone, Copy, PartialEq, Eq, Message)]
struct WrittenPause {
    #[prost(uint64, tag = "1")]
    until: u64,
}

#[derive(Clone, PartialEq, Eq, Message)]
struct WrittenQuarantine {
    #[prost(string, tag = "1")]
    destination: String,
    #[prost(string, optional, tag = "2")]
    application: Option<String>,
    #[prost(uint64, tag = "3")]
    at: u64,
    #[prost(message, optional, tag = "4")]
    stopped: Option<WrittenStop>,
}

#[derive(Clone, PartialEq, Eq, Message)]
struct WrittenStop {
    #[prost(uint64, tag = "1")]
    since: u64,
    #[prost(string, tag = "2")]
    administrator: String,
    #[prost(string, tag = "3")]
    comment: String,
}

#[derive(Clone, PartialEq, Eq, Message)]
struct WrittenBeat {
    #[prost(bytes = "vec", tag = "1")]
    id: Vec<u8>,
    #[prost(string, tag = "2")]
    name: String,
    #[prost(string, tag = "3")]
    version: String,
    #[prost(uint64, tag = "4")]
    since: u64,
    #[prost(uint64, tag = "5")]
    at: u64,
}

/// Also one that was read only in part. Its text is written once, into memory of its size, by
/// whoever made it or by prost, so there is no other copy.
impl Drop for WrittenToken {
    fn drop(&mut self) {
        self.access_token.zeroize();
    }
}

impl fmt::Debug for WrittenToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WrittenToken")
    }
}

/// In memory of its final size, which is wiped.
fn encode(message: &impl Message) -> Zeroizing<Vec<u8>> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(message.encoded_len()));
    message.encode_raw(&mut *bytes);
    bytes
}

/// How long ago something was, on the clock of whoever did it.
fn age(at: SystemTime, now: SystemTime) -> Result<Duration, Untimely> {
    match now.duration_since(at) {
        Ok(age) => Ok(age),
        Err(ahead) if ahead.duration() <= CLOCKS_DIFFER => Ok(Duration::ZERO),
        Err(_) => Err(Untimely::FromTheFuture),
    }
}

fn wall(millis: u64) -> Result<SystemTime, NotOurs> {
    of_millis(millis).ok_or(NotOurs)
}

#[cfg(test)]
mod fuzz;

#[cfg(test)]
mod tests;
