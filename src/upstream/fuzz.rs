//! What token endpoints may answer, and a second reader of it.

use proptest::{collection::vec, prelude::*, sample::select};
use serde_json::{Map, Value};

use super::{
    FetchError,
    answer::{ErrorCode, Reading, oauth_error_code},
    oauth2, occtoo, occtoo_ingest,
};
use crate::{fuzz::Target, token::Minted};

const WORDS: [&str; 22] = [
    "accessToken",
    "access_token",
    "expiresIn",
    "expires_in",
    "tokenType",
    "token_type",
    "result",
    "\"Bearer\"",
    "null",
    "true",
    "[",
    "]",
    "{",
    "}",
    ",",
    "\"",
    "\\",
    "\\ud800",
    "\\u0000",
    "-0.5",
    "\"3600\"",
    "=",
];

/// How a protocol spells the fields of its answer.
struct Spelling {
    access_token: &'static str,
    token_type: &'static str,
    expires_in: &'static str,
    enveloped: bool,
}

const OCCTOO: Spelling = Spelling {
    access_token: "accessToken",
    token_type: "tokenType",
    expires_in: "expiresIn",
    enveloped: false,
};

#[test]
fn an_occtoo_body_is_a_token_exactly_when_a_second_reader_finds_one() {
    agrees("body-occtoo", &occtoo::READING, &OCCTOO);
}

#[test]
fn an_ingest_body_is_a_token_exactly_when_a_second_reader_finds_one() {
    let spelling = Spelling {
        enveloped: true,
        ..OCCTOO
    };
    agrees("body-occtoo-ingest", &occtoo_ingest::READING, &spelling);
}

#[test]
fn an_oauth2_body_is_a_token_exactly_when_a_second_reader_finds_one() {
    let spelling = Spelling {
        access_token: "access_token",
        token_type: "token_type",
        expires_in: "expires_in",
        enveloped: false,
    };
    agrees("body-oauth2", &oauth2::READING, &spelling);
}

#[test]
fn an_error_code_is_one_of_the_closed_list() {
    let code = select(vec!["invalid_client", "server_error", "invalid_clien", "x"]);
    Target::new("body-error")
        .words(&["error", "invalid_client", "server_error", "\"", "\\u0069"])
        .inventing(code.prop_map(|code| format!("{{\"error\":\"{code}\"}}")))
        .holds(|body| {
            let code = oauth_error_code(body);
            // Another reader also minds what is wrong with fields that do not matter.
            let Ok(answer) = serde_json::from_slice::<Value>(body) else {
                return code.is_some();
            };
            let sent = answer.get("error").and_then(Value::as_str);
            match code {
                Some(ErrorCode::Refusal(code)) => assert_eq!(Some(code), sent),
                Some(ErrorCode::OutOfOrder) => {
                    assert!(matches!(
                        sent,
                        Some("temporarily_unavailable" | "server_error")
                    ));
                }
                None if sent == Some("invalid_client") => {
                    // It is there twice, so that neither counts.
                    assert!(oauth_error_code(answer.to_string().as_bytes()).is_some());
                }
                None => {}
            }
            code.is_some()
        });
}

fn agrees(name: &'static str, reading: &Reading, spelling: &Spelling) {
    Target::new(name)
        .words(&WORDS)
        .inventing(any_answer(spelling))
        .holds(|body| {
            let found = (reading.token)(body);
            // The second reader has its answers from another path through the JSON library,
            // which takes the last of two fields and refuses numbers without a value.
            if let Ok(value) = serde_json::from_slice::<Value>(body) {
                let canonical = (reading.token)(value.to_string().as_bytes());
                assert_same(canonical.as_ref(), expected(&value, spelling).as_ref());
                if found.is_ok() {
                    assert_same(found.as_ref(), canonical.as_ref().ok());
                }
            }
            match found {
                Ok(minted) => {
                    assert!(is_bearer(minted.access_token.expose()));
                    true
                }
                Err(FetchError::Malformed(_)) => false,
                Err(other) => panic!("{other}"),
            }
        });
}

fn assert_same(found: Result<&Minted, &FetchError>, expected: Option<&Minted>) {
    assert_eq!(found.is_ok(), expected.is_some(), "{found:?} {expected:?}");
    let (Ok(found), Some(expected)) = (found, expected) else {
        return;
    };
    assert_eq!(
        found.access_token.expose(),
        expected.access_token.expose(),
        "another token"
    );
    assert_eq!(found.expires_in.is_some(), expected.expires_in.is_some());
    if let (Some(found), Some(expected)) = (found.expires_in, expected.expires_in) {
        // A decimal number may lose its last digit on the way through a text.
        let tolerance = 1 + (expected.unsigned_abs() >> 50);
        assert!(found.abs_diff(expected) <= tolerance, "{found} {expected}");
    }
}

/// The token in an answer, read by hand.
fn expected(answer: &Value, spelling: &Spelling) -> Option<Minted> {
    let answer = if spelling.enveloped {
        answer.as_object()?.get("result")?
    } else {
        answer
    };
    let answer = answer.as_object()?;
    let token = answer.get(spelling.access_token)?.as_str()?;
    match answer.get(spelling.token_type) {
        None | Some(Value::Null) => {}
        Some(kind) => {
            if kind.as_str()?.to_lowercase() != "bearer" {
                return None;
            }
        }
    }
    let expires_in = match answer.get(spelling.expires_in) {
        None | Some(Value::Null) => None,
        Some(Value::Number(number)) => Some(seconds(&number.to_string())?),
        // A text has no exponent.
        Some(Value::String(text)) if text.contains(['e', 'E']) => return None,
        Some(Value::String(text)) => Some(seconds(text)?),
        Some(_) => return None,
    };
    is_bearer(token).then(|| Minted {
        access_token: crate::secret::Secret::new(token.to_owned()),
        expires_in,
    })
}

/// Whole seconds of a decimal number, rounded down, as near as they come.
fn seconds(text: &str) -> Option<i64> {
    let unsigned = text.strip_prefix('-').unwrap_or(text);
    let starts_and_ends = |c: char| c.is_ascii_digit();
    if !unsigned.starts_with(starts_and_ends) || !unsigned.ends_with(starts_and_ends) {
        return None;
    }
    if let Ok(whole) = text.parse::<i128>() {
        let bounds = i128::from(i64::MIN)..=i128::from(i64::MAX);
        return Some(match i64::try_from(whole) {
            Ok(seconds) => seconds,
            Err(_) if whole < *bounds.start() => i64::MIN,
            Err(_) => i64::MAX,
        });
    }
    if text.contains(|c: char| !matches!(c, '0'..='9' | '.' | '-' | '+' | 'e' | 'E')) {
        return None;
    }
    let number: f64 = text.parse().ok()?;
    #[expect(
        clippy::cast_possible_truncation,
        reason = "saturating is what is meant"
    )]
    Some(number.floor() as i64)
}

/// RFC 6750 §2.1, and 1 to 16384 bytes.
fn is_bearer(token: &str) -> bool {
    let alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~+/";
    let padding = token.chars().rev().take_while(|c| *c == '=').count();
    let body = &token[..token.len() - padding];
    !body.is_empty() && body.chars().all(|c| alphabet.contains(c)) && token.len() <= 1 << 14
}

/// An answer in which every field may be anything.
fn any_answer(spelling: &Spelling) -> impl Strategy<Value = String> + use<> {
    let names = [
        spelling.access_token,
        spelling.token_type,
        spelling.expires_in,
    ];
    let enveloped = spelling.enveloped;
    let token = prop_oneof![
        4 => "[A-Za-z0-9._~+/-]{1,40}={0,2}".prop_map(Value::from),
        1 => (16_380..16_390_usize).prop_map(|length| "t".repeat(length).into()),
        1 => any_json(),
    ];
    let kind = prop_oneof![
        4 => Just(Value::from("Bearer")),
        1 => "[bB][eE][aA][rR][eE][rR\u{280}]".prop_map(Value::from),
        1 => any_json(),
    ];
    let lifetime = prop_oneof![
        4 => any::<i64>().prop_map(Value::from),
        1 => any::<u64>().prop_map(Value::from),
        2 => any::<f64>().prop_map(Value::from),
        1 => any::<f64>().prop_map(|number| number.to_string().into()),
        2 => "-?[0-9]{1,25}(\\.[0-9]{0,3})?".prop_map(Value::from),
        1 => any_json(),
    ];
    let present = || prop::bool::weighted(0.8);
    let fields = (
        (mostly(), token),
        (present(), kind),
        (present(), lifetime),
        vec(("[a-z]{0,3}", any_json()), 0..3),
    );
    fields.prop_map(move |(token, kind, lifetime, others)| {
        let mut object: Map<String, Value> = others.into_iter().collect();
        for ((present, value), name) in [token, kind, lifetime].into_iter().zip(names) {
            if present {
                object.insert(name.to_owned(), value);
            }
        }
        if enveloped {
            return serde_json::json!({ "result": object }).to_string();
        }
        Value::from(object).to_string()
    })
}

fn mostly() -> impl Strategy<Value = bool> {
    prop::bool::weighted(0.95)
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 12, 4, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(Value::from),
            vec(("[a-zA-Z_]{0,12}", inner), 0..4)
                .prop_map(|fields| fields.into_iter().collect::<Map<_, _>>().into()),
        ]
    })
}
