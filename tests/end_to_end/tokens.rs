//! The client's own cache, through whatever happens to its broker.

use std::{
    fs,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use token_broker::{
    api::v1::ReportOutcome,
    app::App,
    cli::dev::Authority,
    client::{Settings, Tokens},
    upstream::standin::Behaviour,
};
use tokio::{
    task::JoinSet,
    time::{Instant, sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use crate::trial::{CART, GIVE_UP, STRANGER, Site, Trial};

/// How this caller reaches the broker, with a certificate of this authority.
fn settings(site: &Site, broker: SocketAddr, authority: &Authority, caller: &str) -> Settings {
    let file = |name: &str| site.folder.path().join(name);
    let signed = authority.client(caller).unwrap();
    fs::write(file("client.pem"), &signed.certificate).unwrap();
    fs::write(file("client.key"), signed.key.expose()).unwrap();
    Settings {
        endpoint: format!("https://{broker}"),
        ca: file("ca.pem"),
        cert: file("client.pem"),
        key: file("client.key"),
    }
}

fn tokens(trial: &Trial, caller: &str) -> Tokens {
    let settings = settings(trial, trial.app.address(), &trial.authority, caller);
    Tokens::start(settings, "name-of-d0")
}

/// Changes the configuration, so that the next broker answers where this one did.
fn keep_address(site: &Site, address: SocketAddr, change: impl FnOnce(String) -> String) {
    let config = fs::read_to_string(site.config()).unwrap();
    let config = config.replacen("127.0.0.1:0", &address.to_string(), 1);
    fs::write(site.config(), change(config)).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn no_call_fails_while_the_broker_is_restarted_with_another_authority() {
    const CALLERS: usize = 20;
    let trial = Trial::with(1).await;
    let tokens = Arc::new(tokens(&trial, CART));
    let first = tokens.token().await.unwrap();
    let failed = Arc::new(AtomicUsize::new(0));
    let stop = CancellationToken::new();
    let mut callers = JoinSet::new();
    for _ in 0..CALLERS {
        let (tokens, failed, stop) = (Arc::clone(&tokens), Arc::clone(&failed), stop.clone());
        callers.spawn(async move {
            let mut calls = 0_usize;
            while !stop.is_cancelled() {
                // At once, or it does not count: nobody waits for a restart.
                let token = timeout(Duration::from_millis(100), tokens.token()).await;
                failed.fetch_add(usize::from(!matches!(token, Ok(Ok(_)))), Ordering::Relaxed);
                calls += 1;
                sleep(Duration::from_millis(2)).await;
            }
            calls
        });
    }

    let address = trial.app.address();
    let (app, site) = trial.into_parts();
    app.stop().await;
    sleep(Duration::from_millis(500)).await;
    // The client's certificate is replaced meanwhile, and only the new one is believed.
    let other = Authority::new().unwrap();
    settings(&site, address, &other, CART);
    fs::write(site.folder.path().join("other-ca.pem"), other.certificate()).unwrap();
    keep_address(&site, address, |config| {
        config.replace("client_ca = \"ca.pem\"", "client_ca = \"other-ca.pem\"")
    });
    let app = App::start(&site.config()).await.unwrap();
    let successor = tokens.successor(&first.id).await.unwrap();
    assert_ne!(successor.id, first.id);
    assert_eq!(tokens.token().await.unwrap().id, successor.id);

    stop.cancel();
    let calls: usize = callers.join_all().await.iter().sum();
    assert!(calls > CALLERS * 50, "{calls}");
    assert_eq!(failed.load(Ordering::Relaxed), 0, "of {calls} calls");
    assert_eq!(site.upstream.calls(), 2);
    drop(tokens);
    timeout(GIVE_UP, app.stop()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_expires_without_a_successor_is_an_error_with_the_reason() {
    let trial = Trial::with(1).await;
    let short = Behaviour::lifetime(Duration::from_secs(3));
    trial.upstream.behave(short);
    let tokens = tokens(&trial, CART);
    let began = Instant::now();
    let only = tokens.token().await.unwrap();
    trial.upstream.behave(Behaviour::status(503));
    let refusal = loop {
        match tokens.token_by(Instant::now()).await {
            Ok(token) => assert_eq!(token.id, only.id),
            Err(refusal) => break refusal,
        }
        assert!(began.elapsed() < Duration::from_secs(3), "it has expired");
        sleep(Duration::from_millis(20)).await;
    };
    // What the client lets go of first, the broker still has for a moment.
    if refusal.reason != "UPSTREAM_UNAVAILABLE" {
        assert_eq!(refusal.reason, "DEADLINE_EXCEEDED");
        sleep(Duration::from_millis(500)).await;
        let refusal = tokens.token_by(Instant::now()).await.unwrap_err();
        assert_eq!(refusal.reason, "UPSTREAM_UNAVAILABLE");
    }
    trial.upstream.behave(Behaviour::default());
    let recovered = async {
        while tokens.token().await.is_err() {
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(GIVE_UP, recovered).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rejected_token_is_reported_once_and_replaced() {
    let trial = Trial::with(1).await;
    let tokens = tokens(&trial, CART);
    let rejected = tokens.token().await.unwrap();
    for _ in 0..2 {
        let outcome = tokens.report_rejected(&rejected.id).await.unwrap();
        assert!(
            outcome == ReportOutcome::Refreshing || outcome == ReportOutcome::AlreadyReplaced,
            "{outcome:?}"
        );
    }
    let successor = tokens.successor(&rejected.id).await.unwrap();
    assert_eq!(tokens.token().await.unwrap().id, successor.id);
    let outcome = tokens.report_rejected(&rejected.id).await.unwrap();
    assert_eq!(outcome, ReportOutcome::AlreadyReplaced);
    let outcome = tokens.report_rejected(&successor.id).await.unwrap();
    assert_eq!(outcome, ReportOutcome::IgnoredRate);
    assert_eq!(trial.upstream.calls(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_without_a_grant_is_told_so_at_once() {
    let trial = Trial::with(1).await;
    let tokens = tokens(&trial, STRANGER);
    let began = Instant::now();
    let refusal = tokens.token().await.unwrap_err();
    assert_eq!(refusal.reason, "NOT_GRANTED");
    assert!(began.elapsed() < Duration::from_secs(5));
    assert_eq!(trial.upstream.calls(), 0);
}
