//! Which certificates are accepted.

use token_broker::{
    cli::dev::Authority,
    telemetry::Span,
    upstream::{Broken, FetchError, HttpClient, HttpSettings, SetupError},
};

use crate::support::{Raw, TOKEN, error_under, occtoo, ok, settings};

#[tokio::test]
async fn only_certificates_of_the_given_authorities_are_accepted() {
    let (ours, theirs) = (Authority::new().unwrap(), Authority::new().unwrap());
    let upstream = Raw::start_tls(ok(TOKEN), &ours, "localhost").await;
    let trusting = |authority: Option<&Authority>| HttpSettings {
        ca_pem: authority.map(|authority| authority.certificate().into()),
        ..settings()
    };
    let minted = occtoo(&trusting(Some(&ours)), &upstream.url)
        .unwrap()
        .mint(&Span::none())
        .await
        .unwrap();
    assert_eq!(minted.access_token.expose(), "token-1");

    let untrusted = FetchError::Transport(Broken::Untrusted);
    for authority in [Some(&theirs), None] {
        assert_eq!(
            error_under(&trusting(authority), &upstream.url).await,
            untrusted
        );
    }
    let elsewhere = Raw::start_tls(ok(TOKEN), &ours, "auth.example").await;
    assert_eq!(
        error_under(&trusting(Some(&ours)), &elsewhere.url).await,
        untrusted
    );
    let plain = Raw::start(ok(TOKEN)).await;
    assert_eq!(
        error_under(&settings(), &format!("https://{}", plain.address)).await,
        FetchError::Transport(Broken::Handshake)
    );
    assert_eq!(upstream.requests().len(), 1);
    assert!(elsewhere.requests().is_empty());
}

#[test]
fn unreadable_authorities_are_refused() {
    for pem in [
        "",
        "canary",
        "-----BEGIN CERTIFICATE-----\nY2FuYXJ5\n-----END CERTIFICATE-----\n",
    ] {
        let refused = HttpClient::new(&HttpSettings {
            ca_pem: Some(pem.into()),
            ..HttpSettings::default()
        });
        assert_eq!(refused.err(), Some(SetupError::UnreadableRoots), "{pem}");
    }
}
