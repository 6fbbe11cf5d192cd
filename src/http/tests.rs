//! What is worked out aside.

use std::{
    fs,
    sync::{
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    thread,
};

use futures_util::FutureExt as _;

use super::*;
use crate::{
    aside::Aside,
    config::{ConnectionLimits, TlsFiles, TlsVersion},
    listener::Tls,
};

fn door() -> Door {
    let (broker, operator) = Operator::sample();
    let (_, terms) = watch::channel(Arc::new(terms()));
    Door {
        broker,
        operator,
        metrics: Arc::default(),
        terms,
        stopping: CancellationToken::new(),
        has_page: true,
        aside: Aside::default(),
    }
}

fn terms() -> Terms {
    let folder = tempfile::tempdir().unwrap();
    let signed = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let [cert, key] = ["cert.pem", "key.pem"].map(|name| folder.path().join(name));
    fs::write(&cert, signed.cert.pem()).unwrap();
    fs::write(&key, signed.signing_key.serialize_pem()).unwrap();
    let files = TlsFiles {
        client_ca: cert.clone(),
        cert,
        key,
        crl: Vec::new(),
        crl_lenient: false,
        min_version: TlsVersion::Tls13,
    };
    let second = Duration::from_secs(1);
    Terms {
        tls: Tls::load(&files).unwrap(),
        limits: ConnectionLimits {
            count: 1,
            handshake: second,
            first_request: second,
            idle: second,
            age: second,
            last_calls: second,
            drain: second,
            trust_domains: Vec::new(),
        },
    }
}

async fn scraped(door: &Door) -> StatusCode {
    let answer = exposition(State(door.clone()), HeaderMap::new()).await;
    answer.into_response().status()
}

#[tokio::test]
async fn a_scrape_waits_for_its_turn() {
    let door = door();
    let before = door.aside.turn().try_acquire().unwrap();
    assert_eq!(scraped(&door).now_or_never(), None);
    drop(before);
    assert_eq!(scraped(&door).await, StatusCode::OK);
}

#[tokio::test]
async fn work_is_done_aside_one_after_the_other_and_for_nobody_who_left_before() {
    let door = door();
    let here = thread::current().id();
    let (done, wait) = mpsc::channel::<()>();
    let aside = move || {
        assert_ne!(thread::current().id(), here, "where callers are answered");
        wait.recv().unwrap();
    };
    let under_way = door.aside.run(aside).now_or_never();
    assert!(under_way.is_none(), "it is under way");

    let is_done = Arc::new(AtomicBool::new(false));
    let noted = Arc::clone(&is_done);
    let next = door.aside.run(move || noted.store(true, Ordering::Relaxed));
    assert!(next.now_or_never().is_none(), "it waits, and leaves");

    done.send(()).unwrap();
    assert_eq!(door.aside.run(|| "last").await.ok(), Some("last"));
    assert!(!is_done.load(Ordering::Relaxed), "work for nobody was done");
}

#[tokio::test]
async fn what_panics_comes_to_nothing_and_leaves_its_turn() {
    let door = door();
    let panicking = door.aside.run(|| -> u8 { panic!("a mistake") }).await;
    assert!(panicking.unwrap_err().is_panic());
    assert_eq!(scraped(&door).await, StatusCode::OK);
}
