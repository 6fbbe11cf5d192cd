use rcgen::SanType;
use token_broker::{
    api::v1::{GetTokenRequest, token_broker_client::TokenBrokerClient},
    cli::dev::Authority,
};
use tonic::{Code, Request, transport::Identity};

use crate::trial::{CART, STRANGER, Trial, ask, reason};

fn uri(text: &str) -> SanType {
    SanType::URI(text.try_into().unwrap())
}

fn dns(text: &str) -> SanType {
    SanType::DnsName(text.try_into().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn spoofed_identity_metadata_has_no_effect() {
    let trial = Trial::with(1).await;
    let mut stranger = trial.client(STRANGER).await;
    let mut request = Request::new(GetTokenRequest {
        destination_id: "d0".to_owned(),
        min_validity: None,
    });
    for header in [
        "x-forwarded-client-cert",
        "x-spiffe-id",
        "x-forwarded-user",
        "x-client-identity",
        "authorization",
        "forwarded",
    ] {
        let value = format!("By=spiffe://corp.example/broker;URI={CART}");
        request
            .metadata_mut()
            .insert(header, value.parse().unwrap());
    }
    let refused = stranger.get_token(request).await.unwrap_err();
    assert_eq!(reason(&refused), "NOT_GRANTED");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_must_name_exactly_one_caller() {
    let trial = Trial::with(1).await;
    for (names, expected) in [
        (vec![uri(CART)], Ok(())),
        (vec![dns("cart.corp.example")], Ok(())),
        (vec![dns("search.corp.example")], Err("NOT_GRANTED")),
        (vec![uri(CART), dns("anything.example")], Ok(())),
        (vec![], Err("CALLER_UNIDENTIFIED")),
        (vec![uri(CART), uri(STRANGER)], Err("CALLER_UNIDENTIFIED")),
        (
            vec![dns("cart.corp.example"), dns("b.example")],
            Err("CALLER_UNIDENTIFIED"),
        ),
        (
            vec![uri("spiffe://CORP.example/ns/shop/sa/cart")],
            Err("CALLER_UNIDENTIFIED"),
        ),
        (
            vec![uri("https://corp.example/cart"), dns("cart.corp.example")],
            Err("CALLER_UNIDENTIFIED"),
        ),
        (vec![dns("*.corp.example")], Err("CALLER_UNIDENTIFIED")),
    ] {
        let described = format!("{names:?}");
        let signed = trial.authority.client_with(names).unwrap();
        let mut client = TokenBrokerClient::new(trial.connect(&signed).await.unwrap());
        let outcome = ask(&mut client, "d0").await;
        if let Err(status) = &outcome
            && reason(status) == "CALLER_UNIDENTIFIED"
        {
            assert_eq!(status.code(), Code::Unauthenticated);
        }
        let outcome = outcome.map(|_| ()).map_err(|status| reason(&status));
        assert_eq!(outcome, expected.map_err(str::to_owned), "{described}");
    }
    assert_eq!(trial.upstream.calls(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_answered_without_a_certificate_of_the_client_ca() {
    let trial = Trial::with(1).await;
    let other = Authority::new().unwrap().client(CART).unwrap();
    let server = trial.authority.server([127, 0, 0, 1].into()).unwrap();
    let identity = |signed: &token_broker::cli::dev::Signed| {
        Identity::from_pem(&signed.certificate, signed.key.expose())
    };
    for (name, tls) in [
        ("none", trial.tls()),
        (
            "another authority's",
            trial.tls().identity(identity(&other)),
        ),
        ("a server's", trial.tls().identity(identity(&server))),
    ] {
        // In TLS 1.3 a client may learn of the refusal only when it asks. Whatever it is
        // told then, it is not an answer of the service, which would carry a reason.
        if let Ok(channel) = trial.connect_with(tls).await {
            let refused = ask(&mut TokenBrokerClient::new(channel), "d0")
                .await
                .unwrap_err();
            assert!(refused.details().is_empty(), "{name}: {refused:?}");
        }
    }
    assert_eq!(trial.upstream.calls(), 0);
    let (_, metrics) = trial.http("/metrics").await;
    let accepted = "token_broker_connections_total{outcome=\"ok\"}";
    assert!(!metrics.contains(accepted), "{metrics}");
    assert!(
        !metrics.contains("token_broker_calls_total{"),
        "no call reached a door"
    );
}
