use token_broker::{
    api::v1::{
        GetTokenResponse, ReportOutcome, ReportRejectedRequest, TokenUnavailable,
        WatchTokenRequest, WatchTokenResponse, token_broker_client::TokenBrokerClient,
        watch_token_response::Event,
    },
    upstream::standin::Behaviour,
};
use tonic::{Streaming, transport::Channel};

use crate::trial::{CART, STRANGER, Trial, ask, reason};

async fn watch(
    client: &mut TokenBrokerClient<Channel>,
    destination: &str,
) -> Streaming<WatchTokenResponse> {
    let request = WatchTokenRequest {
        destination_id: destination.to_owned(),
    };
    client.watch_token(request).await.unwrap().into_inner()
}

async fn next_token(stream: &mut Streaming<WatchTokenResponse>) -> GetTokenResponse {
    match stream.message().await.unwrap().unwrap().event.unwrap() {
        Event::Token(token) => token,
        Event::Unavailable(unavailable) => panic!("{unavailable:?} instead of a token"),
    }
}

async fn next_failure(stream: &mut Streaming<WatchTokenResponse>) -> TokenUnavailable {
    match stream.message().await.unwrap().unwrap().event.unwrap() {
        Event::Unavailable(unavailable) => unavailable,
        Event::Token(token) => panic!("{token:?} instead of a failure"),
    }
}

async fn report(client: &mut TokenBrokerClient<Channel>, token_id: &str) -> ReportOutcome {
    report_of(client, "d0", token_id).await
}

async fn report_of(
    client: &mut TokenBrokerClient<Channel>,
    destination: &str,
    token_id: &str,
) -> ReportOutcome {
    let request = ReportRejectedRequest {
        destination_id: destination.to_owned(),
        token_id: token_id.to_owned(),
    };
    let reply = client.report_rejected(request).await.unwrap();
    reply.into_inner().outcome()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watcher_gets_the_token_at_once_and_its_successor_when_it_is_minted() {
    let trial = Trial::with(1).await;
    let mut client = trial.client(CART).await;
    let mut stream = watch(&mut client, "d0").await;
    let first = next_token(&mut stream).await;
    assert_eq!(
        ask(&mut client, "d0").await.unwrap().token_id,
        first.token_id
    );

    assert_eq!(
        report(&mut client, &first.token_id).await,
        ReportOutcome::Refreshing
    );
    let successor = next_token(&mut stream).await;
    assert_ne!(successor.access_token, first.access_token);
    assert_eq!(
        ask(&mut client, "d0").await.unwrap().token_id,
        successor.token_id
    );

    assert_eq!(
        report(&mut client, &first.token_id).await,
        ReportOutcome::AlreadyReplaced
    );
    assert_eq!(
        report(&mut client, "no token id").await,
        ReportOutcome::AlreadyReplaced
    );
    assert_eq!(
        report(&mut client, &successor.token_id).await,
        ReportOutcome::IgnoredRate
    );
    assert_eq!(trial.upstream.calls(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_reports_ten_tokens_and_another_caller_the_eleventh() {
    let trial = Trial::with(11).await;
    let mut client = trial.client(CART).await;
    let mut ids = Vec::new();
    for n in 0..11 {
        ids.push(ask(&mut client, &format!("d{n}")).await.unwrap().token_id);
    }
    for (n, id) in ids.iter().enumerate().take(10) {
        let outcome = report_of(&mut client, &format!("d{n}"), id).await;
        assert_eq!(outcome, ReportOutcome::Refreshing, "d{n}");
    }
    // A new connection is no new budget.
    let mut again = trial.client(CART).await;
    for client in [&mut client, &mut again] {
        let outcome = report_of(client, "d10", &ids[10]).await;
        assert_eq!(outcome, ReportOutcome::IgnoredRate);
    }
    let mut other = trial
        .client("spiffe://corp.example/ns/shop/sa/search")
        .await;
    let outcome = report_of(&mut other, "d10", &ids[10]).await;
    assert_eq!(outcome, ReportOutcome::Refreshing);
    while trial.upstream.calls() < 22 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watcher_is_told_that_there_is_no_token_and_gets_it_when_there_is() {
    let trial = Trial::with(1).await;
    trial.upstream.behave(Behaviour::status(503));
    let mut client = trial.client(CART).await;
    let mut stream = watch(&mut client, "d0").await;
    let failure = next_failure(&mut stream).await;
    assert_eq!(failure.reason, "UPSTREAM_UNAVAILABLE");
    assert!(failure.retry_delay.is_some());
    trial.upstream.behave(Behaviour::default());
    next_token(&mut stream).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_ends_with_the_broker() {
    let trial = Trial::with(1).await;
    let mut client = trial.client(CART).await;
    let mut stream = watch(&mut client, "d0").await;
    next_token(&mut stream).await;
    trial.app.stop().await;
    assert!(stream.message().await.unwrap().is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn watching_and_reporting_take_a_grant() {
    let trial = Trial::with(1).await;
    let mut stranger = trial.client(STRANGER).await;
    let watched = stranger
        .watch_token(WatchTokenRequest {
            destination_id: "d0".to_owned(),
        })
        .await;
    assert_eq!(reason(&watched.unwrap_err()), "NOT_GRANTED");
    let reported = stranger
        .report_rejected(ReportRejectedRequest {
            destination_id: "d0".to_owned(),
            token_id: String::new(),
        })
        .await;
    assert_eq!(reason(&reported.unwrap_err()), "NOT_GRANTED");
}
