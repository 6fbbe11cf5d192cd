use crate::{
    load::Load,
    site::{Answer, EXT_AUTHZ, Site},
    trial::{CART, STRANGER},
};

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Envoy: tests/envoy/run"]
async fn a_request_gets_its_token_in_place_of_any_other() {
    let site = Site::new().await;
    let proxy = site.proxy(EXT_AUTHZ, CART, "d0").await;
    let by_name = Answer::passed(site.bearer("d0").await);
    let by_path = Answer::passed(site.bearer("d1").await);
    assert_ne!(by_name, by_path);
    let forged = "Bearer forged";
    for authorization in [&[][..], &[forged], &[forged, "Basic Zm9yZ2Vk"]] {
        assert_eq!(proxy.get("/orders", authorization).await, by_name);
        assert_eq!(proxy.get("/tenant/x?a=b", authorization).await, by_path);
    }
    // Each path has one meaning, whatever its spelling.
    assert_eq!(proxy.get("/%74enant/x", &[]).await.status, 200);
    assert_eq!(proxy.get("/tenant/%2e%2e%2fx", &[]).await.status, 400);
    assert_eq!(proxy.get("/tenant/a%3Bb/", &[]).await.status, 403);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Envoy: tests/envoy/run"]
async fn a_destination_without_protection_gets_what_the_client_sent() {
    let site = Site::new().await;
    let proxy = site.proxy(EXT_AUTHZ, CART, "public").await;
    assert_eq!(proxy.get("/", &[]).await, Answer::passed(""));
    assert_eq!(
        proxy.get("/", &["Bearer its own"]).await,
        Answer::passed("Bearer its own")
    );
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Envoy: tests/envoy/run"]
async fn a_caller_without_a_grant_is_denied() {
    let site = Site::new().await;
    let proxy = site.proxy(EXT_AUTHZ, STRANGER, "d0").await;
    for path in ["/orders", "/tenant/x"] {
        let answer = proxy.get(path, &["Bearer forged"]).await;
        assert_eq!(answer.status, 403);
        assert_eq!(answer.reason.as_deref(), Some("NOT_GRANTED"));
    }
    assert_eq!(site.destination.requests(), 0);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Envoy: tests/envoy/run"]
async fn a_rotation_fails_no_request() {
    let site = Site::new().await;
    let proxy = site.proxy(EXT_AUTHZ, CART, "d0").await;
    let first = site.bearer("d0").await;
    let load = Load::start(&proxy);
    load.sees(&first).await;
    let second = site.rotate("d0").await;
    load.sees(&second).await;
    let (sent, seen) = load.stop().await;
    assert!(sent > 10, "{sent}");
    assert_eq!(seen, [first, second].into());
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Envoy: tests/envoy/run"]
async fn without_the_broker_no_request_goes_on() {
    let site = Site::new().await;
    let proxy = site.proxy(EXT_AUTHZ, CART, "d0").await;
    assert_eq!(proxy.get("/", &[]).await.status, 200);
    let Site { trial, destination } = site;
    let (app, _files) = trial.into_parts();
    app.stop().await;
    let answer = proxy.get("/", &["Bearer forged"]).await;
    assert_eq!((answer.status, answer.reason), (503, None));
    assert_eq!(destination.requests(), 1);
}
