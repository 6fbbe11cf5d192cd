//! What is recorded. No token and no secret has a place in it.

use std::time::SystemTime;

use super::moment;
use crate::{hex, token::TokenId};

/// Something that is recorded.
#[derive(Clone, Copy, Debug)]
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
#[derive(Clone, Copy, Debug)]
pub struct HandOut<'a> {
    /// Who got it.
    pub caller: &'a str,
    /// The configured id of the destination.
    pub destination: &'a str,
    /// Whose credentials minted it.
    pub application: &'a str,
    /// Which token it was.
    pub token_id: TokenId,
    /// The credential that minted it, as the configuration refers to it.
    pub credential: &'a str,
    /// Which of that credential's secrets it was.
    pub generation: &'a str,
    /// When it expires.
    pub expires_at: SystemTime,
    /// Where it came from.
    pub cache: Found,
    /// The door at which the caller asked.
    pub door: &'a str,
    /// Names the request.
    pub request_id: &'a str,
}

/// Where a token that was handed out came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// It was at hand.
    Hit,
    /// The caller waited for it to be minted.
    Miss,
    /// It was sent to a watcher.
    Watch,
}

/// A token that an upstream minted.
#[derive(Clone, Copy, Debug)]
pub struct Mint<'a> {
    /// Which token it is.
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
    pub expires_at: SystemTime,
}

/// What an administrator did, or tried to.
#[derive(Clone, Copy, Debug)]
pub struct Act<'a> {
    /// Who it was.
    pub administrator: &'a str,
    /// What it was, such as `quarantine`.
    pub act: &'a str,
    /// The configured id of the destination, if it was about one.
    pub destination: Option<&'a str>,
    /// The application, if it was about one.
    pub application: Option<&'a str>,
    /// Why, in the administrator's words.
    pub comment: Option<&'a str>,
    /// What came of it.
    pub outcome: &'a str,
    /// Names the request.
    pub request_id: &'a str,
}

/// What an administrator did at another replica, where that is on record as an act.
#[derive(Clone, Copy, Debug)]
pub struct Heard<'a> {
    /// What it was, such as `quarantine`.
    pub act: &'a str,
    /// Who it was, if that was told.
    pub administrator: Option<&'a str>,
    /// The configured id of the destination.
    pub destination: &'a str,
    /// The application, if it was about one.
    pub application: Option<&'a str>,
    /// Why, in the administrator's words.
    pub comment: Option<&'a str>,
}

/// What a sink records about itself.
#[derive(Clone, Copy, Debug)]
pub(super) enum Mark<'a> {
    /// A file, or a stream, begins or goes on.
    Open {
        /// The hash of the record before, if there is one.
        previous: Option<&'a str>,
        /// The file before was not closed in order.
        unclean: bool,
    },
    /// It ends in order.
    Close { reason: &'a str },
    /// The sink failed for a while, and so many records are not in it.
    Gap { missed: u64 },
}

impl Found {
    fn name(self) -> &'static str {
        match self {
            Self::Hit => "hit",
            Self::Miss => "miss",
            Self::Watch => "watch",
        }
    }
}

impl Event<'_> {
    /// The part of its line that does not depend on the sink.
    pub(super) fn body(&self) -> String {
        match self {
            Self::Token(one) => {
                let mut body = Body::of("token");
                body.text("caller", one.caller);
                body.text("destination", one.destination);
                body.text("application", one.application);
                body.token_id(one.token_id);
                body.text("credential", one.credential);
                body.text("generation", one.generation);
                body.moment("expires_at", one.expires_at);
                body.text("cache", one.cache.name());
                body.text("door", one.door);
                body.text("request_id", one.request_id);
                body.0
            }
            Self::Mint(one) => {
                let mut body = Body::of("mint");
                body.token_id(one.token_id);
                body.text("destination", one.destination);
                body.text("application", one.application);
                body.text("credential", one.credential);
                body.text("generation", one.generation);
                body.moment("expires_at", one.expires_at);
                body.0
            }
            Self::Act(one) => {
                let mut body = Body::of("act");
                body.text("administrator", one.administrator);
                body.text("act", one.act);
                body.text_if_any("destination", one.destination);
                body.text_if_any("application", one.application);
                body.text_if_any("comment", one.comment);
                body.text("outcome", one.outcome);
                body.text("request_id", one.request_id);
                body.0
            }
            Self::Heard(one) => {
                let mut body = Body::of("heard");
                body.text("act", one.act);
                body.text_if_any("administrator", one.administrator);
                body.text("destination", one.destination);
                body.text_if_any("application", one.application);
                body.text_if_any("comment", one.comment);
                body.0
            }
        }
    }
}

impl Mark<'_> {
    /// The part of its line that does not depend on its place.
    pub(super) fn body(&self) -> String {
        match self {
            Self::Open { previous, unclean } => {
                let mut body = Body::of("open");
                match previous {
                    Some(previous) => body.text("previous", previous),
                    None => body.plain("previous", "null"),
                }
                if *unclean {
                    body.plain("unclean", "true");
                }
                body.0
            }
            Self::Close { reason } => {
                let mut body = Body::of("close");
                body.text("reason", reason);
                body.0
            }
            Self::Gap { missed } => {
                let mut body = Body::of("gap");
                body.plain("missed", &missed.to_string());
                body.0
            }
        }
    }
}

/// The members of a flat object of JSON without their braces, the time first. It is written
/// by hand, since one is written for each call.
struct Body(String);

impl Body {
    /// Hardly any record is longer, in bytes.
    const USUAL: usize = 512;

    fn of(kind: &'static str) -> Self {
        let mut body = Self(String::with_capacity(Self::USUAL));
        body.0.push_str("\"time\":\"");
        moment::push(SystemTime::now(), &mut body.0);
        body.0.push_str("\",\"kind\":\"");
        body.0.push_str(kind);
        body.0.push('"');
        body
    }

    fn name(&mut self, name: &'static str) {
        self.0.push_str(",\"");
        self.0.push_str(name);
        self.0.push_str("\":");
    }

    /// Something that is written as it is.
    fn plain(&mut self, name: &'static str, value: &str) {
        self.name(name);
        self.0.push_str(value);
    }

    /// Something that is written in quotes, and needs nothing else.
    fn quoted(&mut self, name: &'static str, write: impl FnOnce(&mut String)) {
        self.name(name);
        self.0.push('"');
        write(&mut self.0);
        self.0.push('"');
    }

    /// A text with whatever in it.
    fn text(&mut self, name: &'static str, text: &str) {
        if is_plain(text) {
            self.quoted(name, |out| out.push_str(text));
        } else {
            // There is no text that cannot be written as JSON.
            let escaped = serde_json::to_string(text).unwrap_or_default();
            self.plain(name, &escaped);
        }
    }

    fn text_if_any(&mut self, name: &'static str, text: Option<&str>) {
        if let Some(text) = text {
            self.text(name, text);
        }
    }

    fn token_id(&mut self, id: TokenId) {
        let digits: [u8; 32] = hex::digits(id.bytes());
        self.quoted("token_id", |out| {
            out.push_str(str::from_utf8(&digits).unwrap_or_default());
        });
    }

    fn moment(&mut self, name: &'static str, at: SystemTime) {
        self.quoted(name, |out| moment::push(at, out));
    }
}

/// Whether a text stands in JSON as it is (RFC 8259 §7). All of it is looked at, which is
/// faster than to stop.
fn is_plain(text: &str) -> bool {
    let must_be_escaped = |byte: u8| byte < b' ' || byte == b'"' || byte == b'\\';
    !text
        .bytes()
        .fold(false, |any, byte| any | must_be_escaped(byte))
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use jiff::Timestamp;
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
