//! What answers mean.

use std::time::Duration;

use token_broker::{
    slot::FailureReason,
    upstream::{
        ClientAuthentication, FetchError, Protocol,
        standin::{Behaviour, Expiry, Fault},
    },
};

use crate::support::{
    CLIENT, Raw, SECRET, answer, credential, fail, mint, oauth2_by, occtoo_error, ok, reason,
    standin,
};

#[tokio::test]
async fn declared_lifetimes_are_read_as_they_are() {
    let standin = standin().await;
    let endpoints = [
        (Protocol::Occtoo, standin.base_url()),
        (Protocol::OcctooIngest, standin.ingest_url()),
        (
            oauth2_by(ClientAuthentication::SecretPost),
            standin.oauth2_url(),
        ),
    ];
    let raw = |json: &str| Expiry::Raw(json.to_owned());
    for (expiry, expected) in [
        (Expiry::Honest, Some(3600)),
        (Expiry::Missing, None),
        (raw("null"), None),
        (raw("\"3600\""), Some(3600)),
        (raw("3599.9"), Some(3599)),
        (raw("0"), Some(0)),
        (raw("-1"), Some(-1)),
        (raw("1e30"), Some(i64::MAX)),
        (raw("99999999999999999999"), Some(i64::MAX)),
    ] {
        standin.behave(Behaviour {
            expiry: expiry.clone(),
            ..Behaviour::default()
        });
        for (protocol, endpoint) in &endpoints {
            let minted = mint(protocol, endpoint, credential(CLIENT, SECRET))
                .await
                .unwrap();
            assert_eq!(minted.expires_in, expected, "{expiry:?} {protocol:?}");
        }
    }
    for json in ["true", "[]", "{}", "\"soon\"", "\"\""] {
        standin.behave(Behaviour {
            expiry: raw(json),
            ..Behaviour::default()
        });
        for (protocol, endpoint) in &endpoints {
            let error = mint(protocol, endpoint, credential(CLIENT, SECRET))
                .await
                .unwrap_err();
            assert_eq!(reason(&error), FailureReason::Malformed, "{json}");
        }
    }
}

#[tokio::test]
async fn statuses_alone_classify_failures() {
    let standin = standin().await;
    for status in [400, 401, 403, 404] {
        assert_eq!(
            fail(&standin, Behaviour::status(status)).await,
            FetchError::Rejected { status, code: None }
        );
    }
    for status in [
        300, 304, 402, 405, 408, 409, 410, 418, 421, 422, 425, 451, 500, 501, 502, 503, 504, 599,
    ] {
        assert_eq!(
            fail(&standin, Behaviour::status(status)).await,
            FetchError::Status {
                status,
                retry_after: None
            }
        );
    }
    assert_eq!(
        fail(&standin, Behaviour::status(429)).await,
        FetchError::Throttled { retry_after: None }
    );
}

#[tokio::test]
async fn retry_after_is_read_on_429_and_503() {
    let standin = standin().await;
    for (text, expected) in [
        ("30", Some(30)),
        ("0", Some(0)),
        ("Thu, 01 Jan 1970 00:00:00 GMT", Some(0)),
        ("99999999999999999999", Some(u64::MAX)),
        ("soon", None),
        ("-1", None),
    ] {
        for status in [429, 503] {
            let error = fail(
                &standin,
                Behaviour::fault(Fault::Status {
                    status,
                    retry_after: Some(text.to_owned()),
                }),
            )
            .await;
            assert_eq!(
                error.retry_after(),
                expected.map(Duration::from_secs),
                "{text}"
            );
        }
    }
}

#[tokio::test]
async fn success_without_a_token_is_malformed() {
    for (status, body) in [
        ("200 OK", ""),
        ("201 Created", ""),
        ("202 Accepted", ""),
        ("204 No Content", ""),
        ("200 OK", "<html><body>Sign in</body></html>"),
        ("200 OK", "{}"),
        ("200 OK", "null"),
        ("200 OK", r#"{"accessToken":null}"#),
        ("200 OK", r#"{"accessToken":"a b"}"#),
        ("200 OK", r#"{"accessToken":"t","accessToken":"u"}"#),
        ("200 OK", r#"{"accessToken":"t","tokenType":"mac"}"#),
        ("200 OK", r#"{"accessToken":"t"} trailing"#),
        ("200 OK", &"[".repeat(60_000)),
        ("200 OK", &"[".repeat(100_000)),
    ] {
        let upstream = Raw::start(answer(status, "", body)).await;
        let error = occtoo_error(&upstream.url).await;
        assert!(
            matches!(error, FetchError::Malformed(_)),
            "{status} {error:?}"
        );
    }
}

#[tokio::test]
async fn an_ingest_answer_without_a_result_is_malformed() {
    for body in [
        r#"{"result":null,"errors":[{"message":"x","details":{}}],"requestId":"1"}"#,
        r#"{"errors":null,"requestId":"1"}"#,
        r#"{"result":{},"errors":null}"#,
    ] {
        let upstream = Raw::start(ok(body)).await;
        let credential = credential(CLIENT, SECRET);
        let error = mint(&Protocol::OcctooIngest, &upstream.url, credential)
            .await
            .unwrap_err();
        assert_eq!(reason(&error), FailureReason::Malformed, "{body}");
    }
    let null_errors = r#"{"result":{"accessToken":"t","expiresIn":"60"},"errors":null}"#;
    let upstream = Raw::start(ok(null_errors)).await;
    let credential = credential(CLIENT, SECRET);
    let minted = mint(&Protocol::OcctooIngest, &upstream.url, credential).await;
    assert_eq!(minted.unwrap().expires_in, Some(60));
}

#[tokio::test]
async fn only_listed_oauth_error_codes_are_repeated() {
    for (body, expected) in [
        (
            r#"{"error":"invalid_client","error_description":"canary"}"#,
            FetchError::Rejected {
                status: 400,
                code: Some("invalid_client"),
            },
        ),
        (
            r#"{"error":"canary"}"#,
            FetchError::Rejected {
                status: 400,
                code: None,
            },
        ),
        (
            "<html>canary</html>",
            FetchError::Rejected {
                status: 400,
                code: None,
            },
        ),
        (
            r#"{"error":"temporarily_unavailable"}"#,
            FetchError::Status {
                status: 400,
                retry_after: None,
            },
        ),
        (
            r#"{"error":"server_error"}"#,
            FetchError::Status {
                status: 400,
                retry_after: None,
            },
        ),
    ] {
        let upstream = Raw::start(answer("400 Bad Request", "", body)).await;
        let protocol = oauth2_by(ClientAuthentication::SecretPost);
        let credential = credential(CLIENT, SECRET);
        let error = mint(&protocol, &upstream.url, credential)
            .await
            .unwrap_err();
        assert_eq!(error, expected, "{body}");
    }
}
