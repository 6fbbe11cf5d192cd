use std::{fs, time::Duration};

use crate::{
    load::Load,
    site::{Answer, CREDENTIAL_INJECTOR, Site},
    trial::{CART, STRANGER, ask},
};

/// The two ways to subscribe.
const BOTH: [&str; 2] = ["api_type: GRPC", "api_type: DELTA_GRPC"];

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Envoy: tests/envoy/run"]
async fn a_request_gets_the_secret_in_place_of_any_other_authorization() {
    let site = Site::new().await;
    let token = Answer::passed(site.bearer("d0").await);
    for way in BOTH {
        let further = [("api_type: GRPC", way)];
        let proxy = site
            .changed_proxy(CREDENTIAL_INJECTOR, CART, "name-of-d0", &further)
            .await;
        assert_eq!(proxy.get("/orders", &[]).await, token, "{way}");
        assert_eq!(
            proxy.get("/orders", &["Bearer forged"]).await,
            token,
            "{way}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Envoy: tests/envoy/run"]
async fn the_next_secret_is_used_and_no_request_fails() {
    let site = Site::new().await;
    for (way, destination) in BOTH.into_iter().zip(["d0", "d1"]) {
        let first = site.bearer(destination).await;
        let further = [("api_type: GRPC", way)];
        let proxy = site
            .changed_proxy(CREDENTIAL_INJECTOR, CART, destination, &further)
            .await;
        let load = Load::start(&proxy);
        load.sees(&first).await;
        let second = site.rotate(destination).await;
        load.sees(&second).await;
        let (sent, seen) = load.stop().await;
        assert!(sent > 10, "{sent}");
        assert_eq!(seen, [first, second].into(), "{way}");
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Envoy: tests/envoy/run"]
async fn without_a_grant_there_is_no_secret_and_no_request_goes_on() {
    let site = Site::new().await;
    for way in BOTH {
        let further = [("api_type: GRPC", way)];
        let proxy = site
            .changed_proxy(CREDENTIAL_INJECTOR, STRANGER, "d0", &further)
            .await;
        let answer = proxy.get("/orders", &["Bearer forged"]).await;
        assert_eq!(answer.status, 401, "{way}");
    }
    assert_eq!(site.destination.requests(), 0);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Envoy: tests/envoy/run"]
async fn without_the_broker_the_last_secret_stays() {
    let site = Site::new().await;
    let proxy = site.proxy(CREDENTIAL_INJECTOR, CART, "d0").await;
    let token = Answer::passed(site.bearer("d0").await);
    let Site { trial, destination } = site;
    let (app, _files) = trial.into_parts();
    app.stop().await;
    assert_eq!(proxy.get("/orders", &[]).await, token);
    assert_eq!(destination.requests(), 1);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Envoy: tests/envoy/run"]
async fn the_last_secret_stays_when_the_grant_is_withdrawn() {
    let site = Site::new().await;
    let token = Answer::passed(site.bearer("d0").await);
    let mut proxies = Vec::new();
    for way in BOTH {
        let further = [("api_type: GRPC", way)];
        let proxy = site
            .changed_proxy(CREDENTIAL_INJECTOR, CART, "d0", &further)
            .await;
        assert_eq!(proxy.get("/orders", &[]).await, token, "{way}");
        proxies.push(proxy);
    }
    let config = fs::read_to_string(site.trial.config()).unwrap();
    let config = config.replace("spiffe://corp.example/ns/shop/sa/*", STRANGER);
    fs::write(site.trial.config(), config).unwrap();
    let mut client = site.trial.client(CART).await;
    while ask(&mut client, "d0").await.is_ok() {
        tokio::task::yield_now().await;
    }
    // Long enough for the proxies to hear of it.
    for _ in 0..20 {
        tokio::time::sleep(Duration::from_millis(50)).await;
        for proxy in &proxies {
            assert_eq!(proxy.get("/orders", &[]).await, token);
        }
    }
}
