use token_broker::upstream::standin::Behaviour;
use tonic::Code;
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};
use tonic_reflection::pb::v1::{
    ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
    server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
};

use crate::trial::{CART, Setup, Trial, ask};

#[tokio::test(flavor = "multi_thread")]
async fn ready_only_when_tokens_flow() {
    let trial = Trial::start(Setup {
        destinations: 1,
        destination: "warm = true",
        upstream: r#"timeout = "1s""#,
        ..Setup::default()
    })
    .await;
    let signed = trial.authority.client(CART).unwrap();
    let mut health = HealthClient::new(trial.connect(&signed).await.unwrap());
    let request = HealthCheckRequest {
        service: "tokenbroker.v1.TokenBroker".to_owned(),
    };
    let mut changes = health.watch(request).await.unwrap().into_inner();
    // The warm destination is minted before the broker calls itself ready.
    while changes.message().await.unwrap().unwrap().status() != ServingStatus::Serving {}
    assert_eq!(trial.upstream.calls(), 1);
    assert_eq!(trial.http("/readyz").await, (200, "ready\n".to_owned()));
    let whole = health.check(HealthCheckRequest::default()).await.unwrap();
    assert_eq!(whole.into_inner().status(), ServingStatus::Serving);
    for service in [
        "envoy.service.auth.v3.Authorization",
        "envoy.service.secret.v3.SecretDiscoveryService",
    ] {
        let service = service.to_owned();
        let known = health.check(HealthCheckRequest { service }).await.unwrap();
        assert_eq!(known.into_inner().status(), ServingStatus::Serving);
    }
    let unknown = health
        .check(HealthCheckRequest {
            service: "unknown".to_owned(),
        })
        .await;
    assert_eq!(unknown.unwrap_err().code(), Code::NotFound);

    // A watcher is told about the stop and then let go, so that it does not hold it up.
    trial.app.stop().await;
    assert_eq!(
        changes.message().await.unwrap().unwrap().status(),
        ServingStatus::NotServing
    );
    assert!(changes.message().await.unwrap().is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn not_ready_while_no_token_can_be_minted() {
    let trial = Trial::with(1).await;
    trial.upstream.behave(Behaviour::status(503));
    assert!(
        trial.app.is_ready(),
        "nothing was tried, so nothing is known to fail"
    );
    let mut client = trial.client(CART).await;
    ask(&mut client, "d0").await.unwrap_err();
    assert!(!trial.app.is_ready());
    let (status, body) = trial.http("/readyz").await;
    assert_eq!((status, body.starts_with("not ready: ")), (503, true));
    assert_eq!(trial.http("/healthz").await, (200, "ok\n".to_owned()));

    let signed = trial.authority.client(CART).unwrap();
    let mut health = HealthClient::new(trial.connect(&signed).await.unwrap());
    let mut changes = health
        .watch(HealthCheckRequest::default())
        .await
        .unwrap()
        .into_inner();
    while changes.message().await.unwrap().unwrap().status() != ServingStatus::NotServing {}
    trial.upstream.behave(Behaviour::default());
    while changes.message().await.unwrap().unwrap().status() != ServingStatus::Serving {}
    assert!(trial.app.is_ready());
    ask(&mut client, "d0").await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn reflection_lists_what_is_served() {
    let trial = Trial::with(1).await;
    let signed = trial.authority.client(CART).unwrap();
    let mut reflection = ServerReflectionClient::new(trial.connect(&signed).await.unwrap());
    let request = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let stream = tokio_stream::once(request);
    let mut replies = reflection
        .server_reflection_info(stream)
        .await
        .unwrap()
        .into_inner();
    let reply = replies
        .message()
        .await
        .unwrap()
        .unwrap()
        .message_response
        .unwrap();
    let MessageResponse::ListServicesResponse(list) = reply else {
        panic!("{reply:?} is no list");
    };
    let mut names: Vec<_> = list
        .service
        .into_iter()
        .map(|service| service.name)
        .collect();
    names.sort();
    assert!(
        names.contains(&"grpc.health.v1.Health".to_owned()),
        "{names:?}"
    );
    assert!(
        names.contains(&"tokenbroker.v1.TokenBroker".to_owned()),
        "{names:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_tell_what_happened() {
    let trial = Trial::with(1).await;
    let mut client = trial.client(CART).await;
    for _ in 0..3 {
        ask(&mut client, "d0").await.unwrap();
    }
    let (status, metrics) = trial.http("/metrics").await;
    assert_eq!(status, 200);
    for line in [
        r#"token_broker_calls_total{door="grpc",destination="d0",outcome="ok"} 3"#,
        r#"token_broker_mints_total{destination="d0",application="shop",outcome="ok"} 1"#,
        r#"token_broker_connections_total{outcome="ok"} 1"#,
        "token_broker_connections_open 1",
        "token_broker_flights_in_progress 0",
        concat!(
            "token_broker_build_info{version=\"",
            env!("CARGO_PKG_VERSION"),
            "\"} 1"
        ),
    ] {
        assert!(
            metrics.lines().any(|found| found == line),
            "{line} is missing in\n{metrics}"
        );
    }
}
