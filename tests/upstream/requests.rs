//! What each protocol sends, and what comes back.

use std::sync::Arc;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use rcgen::KeyPair;
use token_broker::{
    credential::{Credential, CredentialRef, Proof},
    destination::DestinationId,
    secret::Secret,
    slot::FailureReason,
    telemetry::Span,
    upstream::{ClientAuthentication, Endpoint, FetchError, Protocol, source},
};

use crate::support::{
    CLIENT, DESTINATION, Raw, SECRET, TOKEN, client, credential, mint, oauth2_by, ok, reason,
    settings, standin,
};

#[tokio::test]
async fn every_protocol_gets_a_token_of_its_destination_and_client() {
    let standin = standin().await;
    let key = KeyPair::generate().unwrap();
    standin
        .register_key(DESTINATION, "signer", &key.public_key_pem())
        .unwrap();
    let (base, ingest, oauth2) = (
        standin.base_url(),
        standin.ingest_url(),
        standin.oauth2_url(),
    );
    let secret = || credential(CLIENT, SECRET);
    let signer = Arc::new(Credential::new(
        &CredentialRef::File("shop".to_owned()),
        "signer".to_owned(),
        Proof::PrivateKey {
            pem: Secret::new(key.serialize_pem()),
            key_id: Some("key-1".to_owned()),
        },
    ));
    for (protocol, endpoint, credential) in [
        (Protocol::Occtoo, &base, secret()),
        (Protocol::OcctooIngest, &ingest, secret()),
        (
            oauth2_by(ClientAuthentication::SecretBasic),
            &oauth2,
            secret(),
        ),
        (
            oauth2_by(ClientAuthentication::SecretPost),
            &oauth2,
            secret(),
        ),
        (
            oauth2_by(ClientAuthentication::PrivateKeyJwt),
            &oauth2,
            signer,
        ),
    ] {
        let client_id = credential.client_id().clone();
        let minted = mint(&protocol, endpoint, credential).await.unwrap();
        let minted_for = standin.minted_for(minted.access_token.expose()).unwrap();
        assert_eq!(minted.expires_in, Some(3600), "{protocol:?}");
        assert_eq!(minted_for.destination, DESTINATION, "{protocol:?}");
        assert_eq!(minted_for.client_id, *client_id, "{protocol:?}");
    }
    assert_eq!((standin.calls(), standin.calls_for(DESTINATION)), (5, 5));
    standin.shutdown().await;
}

#[tokio::test]
async fn wrong_credentials_are_rejected_by_every_protocol() {
    let standin = standin().await;
    let (base, ingest, oauth2) = (
        standin.base_url(),
        standin.ingest_url(),
        standin.oauth2_url(),
    );
    let key = KeyPair::generate().unwrap();
    let stranger = KeyPair::generate().unwrap();
    standin
        .register_key(DESTINATION, "signer", &key.public_key_pem())
        .unwrap();
    let wrong = || credential(CLIENT, "wrong");
    let forger = Arc::new(Credential::new(
        &CredentialRef::File("shop".to_owned()),
        "signer".to_owned(),
        Proof::PrivateKey {
            pem: Secret::new(stranger.serialize_pem()),
            key_id: None,
        },
    ));
    for (protocol, endpoint, credential, code) in [
        (Protocol::Occtoo, &base, wrong(), None),
        (Protocol::OcctooIngest, &ingest, wrong(), None),
        (
            oauth2_by(ClientAuthentication::SecretBasic),
            &oauth2,
            wrong(),
            Some("invalid_client"),
        ),
        (
            oauth2_by(ClientAuthentication::PrivateKeyJwt),
            &oauth2,
            forger,
            Some("invalid_client"),
        ),
    ] {
        let error = mint(&protocol, endpoint, credential).await.unwrap_err();
        assert_eq!(error, FetchError::Rejected { status: 401, code });
        assert_eq!(reason(&error), FailureReason::CredentialRejected);
    }
}

#[tokio::test]
async fn a_request_says_what_it_must_and_no_more() {
    let upstream = Raw::start(ok(TOKEN)).await;
    let credential = credential(CLIENT, SECRET);
    mint(&Protocol::Occtoo, &upstream.url, credential)
        .await
        .unwrap();
    let [request] = upstream.requests().try_into().unwrap();
    let (head, body) = request.split_once("\r\n\r\n").unwrap();
    let mut lines: Vec<_> = head.split("\r\n").collect();
    assert_eq!(
        lines.remove(0),
        format!("POST /destinations/{DESTINATION}/token HTTP/1.1")
    );
    lines.sort_unstable();
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!(
        lines,
        [
            "accept-encoding: identity",
            "accept: application/json",
            &format!("content-length: {}", body.len()),
            "content-type: application/json",
            &format!("host: {}", upstream.address),
            &format!("user-agent: token-broker/{version}"),
        ]
    );
    assert_eq!(body, r#"{"clientId":"shop","clientSecret":"ca+na/ry="}"#);
}

#[tokio::test]
async fn basic_authentication_is_form_encoded_first() {
    let upstream = Raw::start(ok(r#"{"access_token":"token-1"}"#)).await;
    let credential = credential("a b:+/=é", "p:w");
    let protocol = oauth2_by(ClientAuthentication::SecretBasic);
    mint(&protocol, &upstream.url, credential).await.unwrap();
    let [request] = upstream.requests().try_into().unwrap();
    let pair = STANDARD.encode("a+b%3A%2B%2F%3D%C3%A9:p%3Aw");
    assert!(request.contains(&format!("authorization: Basic {pair}\r\n")));
    assert!(request.ends_with("\r\n\r\ngrant_type=client_credentials"));
}

#[tokio::test]
async fn concurrent_requests_never_swap_tokens() {
    let standin = standin().await;
    let client = client(&settings());
    let mut asking = tokio::task::JoinSet::new();
    for n in 0..50 {
        let (destination, client_id) = (format!("destination-{n}"), format!("client-{n}"));
        standin.register(&destination, &client_id, SECRET);
        let source = source(
            &Protocol::Occtoo,
            &client,
            &Endpoint::parse(&standin.base_url()).unwrap(),
            &DestinationId::parse(&destination).unwrap(),
            credential(&client_id, SECRET),
        )
        .unwrap();
        asking.spawn(async move {
            (
                destination,
                client_id,
                source.mint(&Span::none()).await.unwrap(),
            )
        });
    }
    for (destination, client_id, minted) in asking.join_all().await {
        let minted_for = standin.minted_for(minted.access_token.expose()).unwrap();
        assert_eq!(
            (minted_for.destination, minted_for.client_id),
            (destination, client_id)
        );
    }
    assert_eq!(standin.calls(), 50);
}
