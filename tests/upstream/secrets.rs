//! What errors must not say.

use token_broker::upstream::{ClientAuthentication, Protocol};

use crate::support::{Raw, answer, credential, mint, oauth2_by, ok};

#[tokio::test]
async fn bodies_and_secrets_are_in_no_error() {
    let canary = "canary-0123456789";
    let json = format!(
        r#"{{"error":"{canary}","error_description":"{canary}","accessToken":"{canary} x","access_token":"{canary} x"}}"#
    );
    let headers = format!(
        "Location: https://{canary}.example/?{canary}\r\nRetry-After: {canary}\r\n\
         WWW-Authenticate: Basic realm=\"{canary}\"\r\nContent-Type: {canary}\r\n"
    );
    let mut answers: Vec<_> = [200, 204, 302, 400, 401, 403, 404, 408, 429, 500, 503]
        .into_iter()
        .map(|status| answer(&format!("{status} {canary}"), &headers, &json))
        .collect();
    answers.extend([
        format!("HTTP/1.1 {canary}\r\n\r\n"),
        format!("{canary}\r\n\r\n"),
        format!("HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{canary}"),
        format!("HTTP/1.1 200 OK\r\nContent-Encoding: {canary}\r\n\r\n{canary}"),
        ok(&format!(r#"{{"accessToken":"t","expiresIn":"{canary}"}}"#)),
        ok(&format!(r#"{{"accessToken":"t","tokenType":"{canary}"}}"#)),
        ok(&format!(r#"{{"result":null,"errors":["{canary}"]}}"#)),
    ]);
    for answer in answers {
        let upstream = Raw::start(answer).await;
        for protocol in [
            Protocol::Occtoo,
            Protocol::OcctooIngest,
            oauth2_by(ClientAuthentication::SecretBasic),
            oauth2_by(ClientAuthentication::SecretPost),
        ] {
            let url = format!("{}/{canary}?x={canary}", upstream.url);
            let credential = credential(canary, canary);
            match mint(&protocol, &url, credential).await {
                Ok(minted) => assert!(!format!("{minted:?}").contains(canary)),
                Err(error) => {
                    let shown = format!("{error} {error:?} {error:#?}");
                    assert!(!shown.contains(canary), "{shown}");
                    assert!(std::error::Error::source(&error).is_none());
                }
            }
        }
    }
}
