//! What is recorded. No token and no secret has a place in it.

use std::time::SystemTime;

use jiff::Timestamp;
use serde::{Serialize, Serializer};

use crate::token::TokenId;

/// Something that is recorded.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Event<'a> {
    /// A token was handed out.
    Token(HandOut<'a>),
    /// A token was minted.
    Mint(Mint<'a>),
    /// An administrator did something.
    Act(Act<'a>),
    /// Something was done here because an administrator did it at another replica.
    Heard(Heard<'a>),
}

/// A token that a caller was given.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct HandOut<'a> {
    /// Who got it.
    pub caller: &'a str,
    /// The configured id of the destination.
    pub destination: &'a str,
    /// Whose credentials minted it.
    pub application: &'a str,
    /// Which token it was.
    #[serde(serialize_with = "text")]
    pub token_id: TokenId,
    /// The credential that minted it, as the configuration refers to it.
    pub credential: &'a str,
    /// Which of that credential's secrets it was.
    pub generation: &'a str,
    /// When it expires.
    #[serde(serialize_with = "moment")]
    pub expires_at: SystemTime,
    /// Where it came from.
    pub cache: Found,
    /// The door at which the caller asked.
    pub door: &'a str,
    /// Names the request.
    pub request_id: &'a str,
}

/// Where a token that was handed out came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Found {
    /// It was at hand.
    Hit,
    /// The caller waited for it to be minted.
    Miss,
    /// It was sent to a watcher.
    Watch,
}

/// A token that an upstream minted.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Mint<'a> {
    /// Which token it is.
    #[serde(serialize_with = "text")]
    pub token_id: TokenId,
    /// The configured id of the destination.
    pub destination: &'a str,
    /// Whose credentials minted it.
    pub application: &'a str,
    /// The credential, as the configuration refers to it.
    pub credential: &'a str,
    /// Which of that credential's secrets it was.
    pub generation: &'a str,
    /// When it expires.
    #[serde(serialize_with = "moment")]
    pub expires_at: SystemTime,
}

/// What an administrator did, or tried to.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Act<'a> {
    /// Who it was.
    pub administrator: &'a str,
    /// What it was, such as `quarantine`.
    pub act: &'a str,
    /// The configured id of the destination, if it was about one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub destination: Option<&'a str>,
    /// The application, if it was about one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub application: Option<&'a str>,
    /// Why, in the administrator's words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub comment: Option<&'a str>,
    /// What came of it.
    pub outcome: &'a str,
    /// Names the request.
    pub request_id: &'a str,
}

/// What an administrator did at another replica, where that is on record as an act.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Heard<'a> {
    /// What it was, such as `quarantine`.
    pub act: &'a str,
    /// Who it was, if that was told.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub administrator: Option<&'a str>,
    /// The configured id of the destination.
    pub destination: &'a str,
    /// The application, if it was about one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub application: Option<&'a str>,
    /// Why, in the administrator's words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub comment: Option<&'a str>,
}

/// What a sink records about itself.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub(super) enum Mark<'a> {
    /// A file, or a stream, begins or goes on.
    Open {
        /// The hash of the record before, if there is one.
        previous: Option<&'a str>,
        /// The file before was not closed in order.
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        unclean: bool,
    },
    /// It ends in order.
    Close { reason: &'a str },
    /// The sink failed for a while, and so many records are not in it.
    Gap { missed: u64 },
}

impl Event<'_> {
    /// The part of its line that does not depend on the sink.
    pub(super) fn body(&self) -> String {
        body(self)
    }
}

impl Mark<'_> {
    /// The part of its line that does not depend on its place.
    pub(super) fn body(&self) -> String {
        body(self)
    }
}

/// The members of a flat object without their braces, the time first.
fn body(record: &impl Serialize) -> String {
    let time = shown(SystemTime::now());
    // There is nothing in a record that cannot be written as JSON.
    let object = serde_json::to_string(record).unwrap_or_default();
    let members = object.trim_start_matches('{').strip_suffix('}');
    format!(r#""time":"{time}",{}"#, members.unwrap_or_default())
}

/// A moment as RFC 3339 has it, with milliseconds.
fn shown(moment: SystemTime) -> String {
    let moment = Timestamp::try_from(moment).unwrap_or(Timestamp::MAX);
    format!("{moment:.3}")
}

fn moment<S: Serializer>(moment: &SystemTime, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&shown(*moment))
}

fn text<S: Serializer>(id: &TokenId, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(id)
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use serde_json::{Value, json};

    use super::*;

    fn read(body: &str) -> Value {
        let mut value: Value = serde_json::from_str(&format!("{{{body}}}")).unwrap();
        let time = value.as_object_mut().unwrap().remove("time").unwrap();
        let time = time.as_str().unwrap();
        assert!(time.parse::<Timestamp>().is_ok(), "{time}");
        assert_eq!(time.len(), "2026-11-24T14:00:00.000Z".len(), "{time}");
        value
    }

    #[test]
    fn every_event_is_one_flat_object_in_one_line() {
        let token_id = TokenId::random();
        let expires_at = UNIX_EPOCH + Duration::from_millis(1_800_000_000_123);
        let hostile = "a\"},{\"kind\":\"close\"\n\u{0}\u{2028}\\";
        for (event, expected) in [
            (
                Event::Token(HandOut {
                    caller: hostile,
                    destination: "d",
                    application: "shop",
                    token_id,
                    credential: "file:shop",
                    generation: "2",
                    expires_at,
                    cache: Found::Hit,
                    door: "grpc",
                    request_id: "r-1",
                }),
                json!({
                    "kind": "token", "caller": hostile, "destination": "d", "application": "shop",
                    "token_id": token_id.to_string(), "credential": "file:shop",
                    "generation": "2", "expires_at": "2027-01-15T08:00:00.123Z", "cache": "hit",
                    "door": "grpc", "request_id": "r-1",
                }),
            ),
            (
                Event::Mint(Mint {
                    token_id,
                    destination: "d",
                    application: "shop",
                    credential: "env:SHOP",
                    generation: "1",
                    expires_at,
                }),
                json!({
                    "kind": "mint", "token_id": token_id.to_string(), "destination": "d",
                    "application": "shop", "credential": "env:SHOP", "generation": "1",
                    "expires_at": "2027-01-15T08:00:00.123Z",
                }),
            ),
            (
                Event::Act(Act {
                    administrator: "spiffe://td/admin",
                    act: "quarantine",
                    destination: Some("d"),
                    application: None,
                    comment: Some(hostile),
                    outcome: "ok",
                    request_id: "r-2",
                }),
                json!({
                    "kind": "act", "administrator": "spiffe://td/admin", "act": "quarantine",
                    "destination": "d", "comment": hostile, "outcome": "ok", "request_id": "r-2",
                }),
            ),
            (
                Event::Heard(Heard {
                    act: "quarantine",
                    administrator: Some("spiffe://td/admin"),
                    destination: "d",
                    application: Some("shop"),
                    comment: Some(hostile),
                }),
                json!({
                    "kind": "heard", "act": "quarantine", "administrator": "spiffe://td/admin",
                    "destination": "d", "application": "shop", "comment": hostile,
                }),
            ),
        ] {
            let body = event.body();
            assert!(!body.contains('\n'), "{body}");
            assert_eq!(read(&body), expected);
        }
    }

    #[test]
    fn marks_say_what_they_must_and_no_more() {
        let open = |previous, unclean| Mark::Open { previous, unclean };
        for (mark, expected) in [
            (open(None, false), json!({"kind": "open", "previous": null})),
            (
                open(Some("ab"), true),
                json!({"kind": "open", "previous": "ab", "unclean": true}),
            ),
            (
                Mark::Close { reason: "stop" },
                json!({"kind": "close", "reason": "stop"}),
            ),
            (Mark::Gap { missed: 3 }, json!({"kind": "gap", "missed": 3})),
        ] {
            assert_eq!(read(&mark.body()), expected);
        }
    }
}
