//! The stand-in itself.

use token_broker::{
    destination::DestinationId,
    telemetry::Span,
    upstream::{
        Broken, Endpoint, FetchError, Protocol, source,
        standin::{Behaviour, Fault},
    },
};

use crate::support::{CLIENT, DESTINATION, SECRET, client, credential, occtoo, settings, standin};

#[tokio::test]
async fn the_standin_can_treat_one_destination_badly() {
    let standin = standin().await;
    standin.register("other", CLIENT, SECRET);
    standin.behave_for("other", Some(Behaviour::status(503)));
    let client = client(&settings());
    let endpoint = Endpoint::parse(&standin.base_url()).unwrap();
    let ask = |destination: &str| {
        let destination = DestinationId::parse(destination).unwrap();
        let credential = credential(CLIENT, SECRET);
        source(
            &Protocol::Occtoo,
            &client,
            &endpoint,
            &destination,
            credential,
        )
        .unwrap()
    };
    assert!(ask(DESTINATION).mint(&Span::none()).await.is_ok());
    assert!(ask("other").mint(&Span::none()).await.is_err());
    standin.behave_for("other", None);
    assert!(ask("other").mint(&Span::none()).await.is_ok());
    assert_eq!(
        (standin.calls_for(DESTINATION), standin.calls_for("other")),
        (1, 2)
    );
}

#[tokio::test]
async fn the_standin_hits_a_share_of_requests() {
    let standin = standin().await;
    standin.behave(Behaviour {
        fail_rate: 0.5,
        ..Behaviour::status(503)
    });
    let source = occtoo(&settings(), &standin.base_url()).unwrap();
    let mut minted = 0;
    for _ in 0..40 {
        minted += u32::from(source.mint(&Span::none()).await.is_ok());
    }
    assert!((5..=35).contains(&minted), "{minted}");
    assert_eq!(standin.calls(), 40);
}

#[tokio::test]
async fn the_standin_stops_with_requests_under_way() {
    let standin = standin().await;
    standin.behave(Behaviour::fault(Fault::Silent));
    let source = occtoo(&settings(), &standin.base_url()).unwrap();
    let asking = tokio::spawn(async move { source.mint(&Span::none()).await });
    while standin.calls() == 0 {
        tokio::task::yield_now().await;
    }
    standin.shutdown().await;
    assert_eq!(
        asking.await.unwrap().unwrap_err(),
        FetchError::Transport(Broken::Off)
    );
}
