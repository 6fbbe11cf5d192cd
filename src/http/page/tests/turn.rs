//! One page is drawn at a time.

use std::{fs, sync::mpsc};

use axum::extract::State as Extracted;
use futures_util::poll;
use tokio::{sync::watch, time::timeout};
use tokio_util::sync::CancellationToken;

use super::{super::page, *};
use crate::{
    aside::Aside,
    audit::Audit,
    broker::{Broker, Catalogue, Operator, Rules},
    cache::{Cache, Edition},
    cli::dev::Authority,
    config::{ConnectionLimits, TlsFiles, TlsVersion},
    http::Door,
    listener::{Terms, Tls},
    metrics::Metrics,
    shared_cache::SharedCache,
    telemetry::Traces,
};

fn terms() -> Terms {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new().unwrap();
    let server = authority.server([127, 0, 0, 1].into()).unwrap();
    let file = |name: &str, content: &str| {
        let file = folder.path().join(name);
        fs::write(&file, content).unwrap();
        file
    };
    let files = TlsFiles {
        cert: file("cert", &server.certificate),
        key: file("key", server.key.expose()),
        client_ca: file("ca", authority.certificate()),
        crl: Vec::new(),
        crl_lenient: false,
        min_version: TlsVersion::Tls13,
    };
    Terms {
        tls: Tls::load(&files).unwrap(),
        limits: ConnectionLimits {
            count: 1,
            handshake: SECOND,
            first_request: SECOND,
            idle: SECOND,
            age: SECOND,
            last_calls: SECOND,
            drain: SECOND,
            trust_domains: Vec::new(),
        },
    }
}

/// The door of a broker without a destination.
fn door() -> Door {
    let (metrics, audit) = (Arc::new(Metrics::new()), Arc::new(Audit::off()));
    let shared = SharedCache::off();
    let (cache, _schedule) = Cache::new(
        Arc::clone(&metrics),
        Arc::clone(&audit),
        Arc::clone(&shared),
        Traces::off(),
    );
    let catalogue = Catalogue::new(Edition::default(), Arc::default());
    let broker = Arc::new(Broker::new(catalogue, cache, audit));
    let rules = Rules::new(&[], Vec::new(), Duration::ZERO);
    let (operator, _) = Operator::new(
        Arc::clone(&broker),
        rules,
        None,
        Vec::new(),
        Arc::clone(&metrics),
        shared,
    );
    Door {
        broker,
        operator,
        metrics,
        terms: watch::channel(Arc::new(terms())).1,
        stopping: CancellationToken::new(),
        has_page: true,
        aside: Aside::default(),
    }
}

// While something is drawn, the time that is paused stands still.
#[tokio::test(start_paused = true)]
async fn a_page_is_drawn_when_it_is_its_turn_and_not_for_who_has_left() {
    let door = door();
    let asked = || Box::pin(page(Extracted(door.clone()), Uri::from_static("/?all=1")));
    let turn = Arc::clone(door.aside.turn()).acquire_owned().await.unwrap();
    let doors = Arc::strong_count(&door.operator);
    let mut peers = [(); 8].map(|()| asked());
    for peer in &mut peers {
        assert!(timeout(SECOND, peer.as_mut()).await.is_err());
    }
    drop(peers);
    assert_eq!(Arc::strong_count(&door.operator), doors, "nothing is left");
    let mut last = asked();
    assert!(timeout(SECOND, last.as_mut()).await.is_err());
    drop(turn);
    assert_eq!(last.await.status(), 200);
    assert_eq!(door.aside.turn().available_permits(), 1);
}

#[tokio::test]
async fn what_is_under_way_keeps_its_turn_when_nobody_waits_for_it_any_more() {
    let door = door();
    let (end, ended) = mpsc::channel::<()>();
    let (tell, begun) = mpsc::channel();
    let mut under_way = Box::pin(door.aside.run(move || {
        tell.send(()).unwrap();
        ended.recv()
    }));
    assert!(poll!(under_way.as_mut()).is_pending());
    drop(under_way);
    begun.recv().unwrap();
    let mut next = Box::pin(door.aside.run(|| ()));
    for _ in 0..100 {
        assert!(poll!(next.as_mut()).is_pending());
        tokio::task::yield_now().await;
    }
    drop(end);
    assert_eq!(next.await.ok(), Some(()));
}
