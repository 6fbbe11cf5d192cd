//! Strict reading of the tokens in answers.

use std::{fmt, marker::PhantomData};

use serde::{
    Deserialize, Deserializer,
    de::{DeserializeOwned, Error, MapAccess, Unexpected, Visitor, value::MapAccessDeserializer},
};

use super::FetchError;
use crate::{secret::Secret, token::Minted};

/// The longest access token that is accepted, in bytes.
const MAX_TOKEN: usize = 16 * 1024;

/// Reads a JSON document whose fields are strict; unknown fields are ignored.
pub(super) fn json<T: DeserializeOwned>(body: &[u8]) -> Result<T, FetchError> {
    if body.is_empty() {
        return Err(FetchError::Malformed("it is empty"));
    }
    // The parser's own error may quote the body.
    serde_json::from_slice(body)
        .map(|Object(document)| document)
        .map_err(|_| FetchError::Malformed("it is not JSON with a token in it"))
}

/// Checks the fields of a token answer (RFC 6749 §5.1).
pub(super) fn minted(
    access_token: AccessToken,
    token_type: Option<&str>,
    expires_in: Option<Seconds>,
) -> Result<Minted, FetchError> {
    if token_type.is_some_and(|kind| !kind.eq_ignore_ascii_case("bearer")) {
        return Err(FetchError::Malformed("its token is not a bearer token"));
    }
    let AccessToken(access_token) = access_token;
    if access_token.expose().len() > MAX_TOKEN {
        return Err(FetchError::Malformed("its token is longer than 16 KiB"));
    }
    if !is_b64token(access_token.expose()) {
        return Err(FetchError::Malformed("its token cannot stand in a header"));
    }
    Ok(Minted {
        access_token,
        expires_in: expires_in.map(|Seconds(seconds)| seconds),
    })
}

/// What stands in an object. A derived reader would also take an array for one, its
/// elements in the order of the fields.
pub(super) struct Object<T>(pub T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(ObjectVisitor(PhantomData))
    }
}

struct ObjectVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for ObjectVisitor<T> {
    type Value = Object<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, fields: A) -> Result<Object<T>, A::Error> {
        T::deserialize(MapAccessDeserializer::new(fields)).map(Object)
    }
}

/// A string that is a secret from the moment it is read.
pub(super) struct AccessToken(Secret);

impl<'de> Deserialize<'de> for AccessToken {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(|text| Self(Secret::new(text)))
    }
}

/// A lifetime in seconds: a number, or a number in a string. A fraction is cut off, and
/// what does not fit saturates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Seconds(i64);

impl<'de> Deserialize<'de> for Seconds {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(SecondsVisitor)
    }
}

struct SecondsVisitor;

impl Visitor<'_> for SecondsVisitor {
    type Value = Seconds;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a number of seconds")
    }

    fn visit_i64<E: Error>(self, seconds: i64) -> Result<Seconds, E> {
        Ok(Seconds(seconds))
    }

    fn visit_u64<E: Error>(self, seconds: u64) -> Result<Seconds, E> {
        Ok(Seconds(i64::try_from(seconds).unwrap_or(i64::MAX)))
    }

    fn visit_f64<E: Error>(self, seconds: f64) -> Result<Seconds, E> {
        #[expect(
            clippy::cast_possible_truncation,
            reason = "`as` saturates, as it should"
        )]
        Ok(Seconds(seconds.floor() as i64))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Seconds, E> {
        let digits = text.strip_prefix('-').unwrap_or(text);
        let (whole, fraction) = digits.split_once('.').unwrap_or((digits, "0"));
        let all_digits = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
        if !all_digits(whole) || !all_digits(fraction) {
            return Err(E::invalid_value(Unexpected::Other("text"), &self));
        }
        if let Ok(seconds) = text.parse() {
            return self.visit_i64(seconds);
        }
        // Digits and a point are always a number, if need be an infinite one.
        self.visit_f64(text.parse().map_err(E::custom)?)
    }
}

/// RFC 6750 §2.1: `1*( ALPHA / DIGIT / "-" / "." / "_" / "~" / "+" / "/" ) *"="`.
fn is_b64token(text: &str) -> bool {
    let body = text.trim_end_matches('=');
    !body.is_empty()
        && body.bytes().all(|b| {
            b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b'~' | b'+' | b'/')
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Body {
        access_token: AccessToken,
        token_type: Option<String>,
        expires_in: Option<Seconds>,
    }

    fn decode(body: &[u8]) -> Result<Minted, FetchError> {
        let body: Body = json(body)?;
        minted(
            body.access_token,
            body.token_type.as_deref(),
            body.expires_in,
        )
    }

    #[test]
    fn lifetimes_in_every_spelling() {
        for (json, expected) in [
            ("3600", Some(3600)),
            ("\"3600\"", Some(3600)),
            ("3599.9", Some(3599)),
            ("\"3599.9\"", Some(3599)),
            ("0", Some(0)),
            ("0.5", Some(0)),
            ("-1", Some(-1)),
            ("-0.5", Some(-1)),
            ("\"-1\"", Some(-1)),
            ("1e3", Some(1000)),
            ("1e30", Some(i64::MAX)),
            ("-1e30", Some(i64::MIN)),
            ("18446744073709551615", Some(i64::MAX)),
            ("99999999999999999999999999", Some(i64::MAX)),
            ("\"99999999999999999999999999\"", Some(i64::MAX)),
            ("null", None),
        ] {
            let body = format!(r#"{{"accessToken":"t","expiresIn":{json}}}"#);
            let minted = decode(body.as_bytes()).unwrap();
            assert_eq!(minted.expires_in, expected, "{json}");
        }
        let missing = decode(br#"{"accessToken":"t"}"#).unwrap();
        assert_eq!(missing.expires_in, None);
    }

    #[test]
    fn anything_else_is_malformed() {
        let nested = "[".repeat(100_000);
        let closed = format!("{nested}{}", "]".repeat(100_000));
        for body in [
            "",
            " ",
            "null",
            "[]",
            r#"["t"]"#,
            r#"["t","Bearer",3600]"#,
            r#"[{"accessToken":"t"}]"#,
            "\"t\"",
            "<html><body>canary</body></html>",
            "{}",
            r#"{"accessToken":null}"#,
            r#"{"accessToken":7}"#,
            r#"{"accessToken":["t"]}"#,
            r#"{"accessToken":""}"#,
            r#"{"accessToken":"="}"#,
            r#"{"accessToken":"a b"}"#,
            r#"{"accessToken":"a=b"}"#,
            r#"{"accessToken":"a\r\nX: y"}"#,
            r#"{"accessToken":"é"}"#,
            r#"{"accessToken":"t""#,
            r#"{"accessToken":"t"} x"#,
            r#"{"accessToken":"t","accessToken":"u"}"#,
            r#"{"accessToken":"t","tokenType":"mac"}"#,
            r#"{"accessToken":"t","tokenType":7}"#,
            r#"{"accessToken":"t","expiresIn":true}"#,
            r#"{"accessToken":"t","expiresIn":[3600]}"#,
            r#"{"accessToken":"t","expiresIn":{}}"#,
            r#"{"accessToken":"t","expiresIn":""}"#,
            r#"{"accessToken":"t","expiresIn":"-"}"#,
            r#"{"accessToken":"t","expiresIn":"+1"}"#,
            r#"{"accessToken":"t","expiresIn":" 1"}"#,
            r#"{"accessToken":"t","expiresIn":"1e3"}"#,
            r#"{"accessToken":"t","expiresIn":"NaN"}"#,
            r#"{"accessToken":"t","expiresIn":"an hour"}"#,
            r#"{"accessToken":"t","expiresIn":1,"expiresIn":2}"#,
            nested.as_str(),
            closed.as_str(),
            &format!(r#"{{"accessToken":{closed}}}"#),
            &format!(r#"{{"accessToken":"t","x":{nested}"#),
            &format!(r#"{{"accessToken":"{}"}}"#, "t".repeat(MAX_TOKEN + 1)),
        ] {
            assert!(
                matches!(decode(body.as_bytes()), Err(FetchError::Malformed(_))),
                "{}",
                &body[..body.len().min(80)]
            );
        }
    }

    #[test]
    fn bearer_is_read_without_case_and_unknown_fields_are_ignored() {
        for body in [
            r#"{"accessToken":"a-._~+/Z9==","tokenType":"bEARER"}"#,
            r#"{"accessToken":"a-._~+/Z9==","tokenType":null,"x":[{"y":1}],"x":2}"#,
        ] {
            let minted = decode(body.as_bytes()).unwrap();
            assert_eq!(minted.access_token.expose(), "a-._~+/Z9==");
        }
        let longest = format!(r#"{{"accessToken":"{}"}}"#, "t".repeat(MAX_TOKEN));
        assert!(decode(longest.as_bytes()).is_ok());
    }
}
