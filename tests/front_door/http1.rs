//! HTTP/1.1, and what peers may do with it.

use std::time::Duration;

use token_broker::upstream::standin::Behaviour;
use tokio::time::{Instant, sleep, timeout};

use crate::{
    counters::{closed, connections, reloads},
    disguise::Disguise,
    exchange::{Exchange, oauth2, occtoo, post},
    line::Line,
    pki::{Ca, HOUR, Leaf, dns, uri},
    trial::{CART, GIVE_UP, Setup, Trial},
};

const FORM: &str = "content-type: application/x-www-form-urlencoded\r\n";
const BODY: &str = "grant_type=client_credentials&audience=d0";

async fn trial(server: &'static str) -> Trial {
    Trial::start(Setup {
        destinations: 2,
        server,
        ..Setup::default()
    })
    .await
}

/// How many calls the OAuth 2 door has answered with a token of `d0`.
async fn served(trial: &Trial) -> u64 {
    let series = r#"token_broker_calls_total{door="oauth2",destination="d0",outcome="ok"}"#;
    trial.counted(series).await
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_does_not_say_what_it_speaks_speaks_http1() {
    let trial = trial("").await;
    for offered in [&[][..], &["http/1.1"], &["http/1.1", "acme/1"]] {
        let disguise = Disguise::of(&trial, CART).speaking(offered);
        let stream = disguise.handshake().await.unwrap();
        let agreed = stream.get_ref().1.alpn_protocol().map(<[u8]>::to_vec);
        assert_eq!(agreed.is_some(), !offered.is_empty());
    }
    let both = Disguise::of(&trial, CART).speaking(&["http/1.1", "h2"]);
    let stream = both.handshake().await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    let neither = Disguise::of(&trial, CART).speaking(&["http/1.0"]);
    neither.handshake().await.unwrap_err();
    trial
        .until_counted(&connections("no_application_protocol"), 1)
        .await;
}

#[tokio::test(flavor = "multi_thread")]
#[expect(clippy::too_many_lines, reason = "a table")]
async fn requests_that_could_be_read_in_two_ways_are_refused_or_the_last() {
    let trial = trial("").await;
    let length = BODY.len();
    let start = format!("POST /oauth2/token HTTP/1.1\r\nhost: b\r\n{FORM}");
    let chunk = format!("{length:x}\r\n{BODY}\r\n0\r\n\r\n");
    let next = oauth2("d0");
    for (name, request, status) in [
        (
            "two lengths",
            format!("{start}content-length: {length}\r\ncontent-length: 0\r\n\r\n{BODY}"),
            Some(400),
        ),
        (
            "a list of lengths",
            format!("{start}content-length: {length}, {length}\r\n\r\n{BODY}"),
            Some(400),
        ),
        (
            "a signed length",
            format!("{start}content-length: +{length}\r\n\r\n{BODY}"),
            Some(400),
        ),
        (
            "a negative length",
            format!("{start}content-length: -1\r\n\r\n{BODY}"),
            Some(400),
        ),
        (
            "a length beyond all",
            format!("{start}content-length: 99999999999999999999\r\n\r\n{BODY}"),
            Some(400),
        ),
        (
            "a length, then chunks",
            format!("{start}content-length: 5\r\ntransfer-encoding: chunked\r\n\r\n{chunk}"),
            Some(200),
        ),
        (
            "chunks, then a length",
            format!("{start}transfer-encoding: chunked\r\ncontent-length: 5\r\n\r\n{chunk}"),
            Some(200),
        ),
        (
            "chunks that are not the last coding",
            format!("{start}transfer-encoding: chunked, gzip\r\n\r\n{chunk}"),
            Some(400),
        ),
        (
            "a coding of their own",
            format!("{start}transfer-encoding: xchunked\r\n\r\n{chunk}"),
            Some(400),
        ),
        (
            "chunks in HTTP/1.0",
            format!(
                "POST /oauth2/token HTTP/1.0\r\nhost: b\r\n{FORM}transfer-encoding: chunked\r\n\r\n{chunk}"
            ),
            Some(400),
        ),
        (
            "a chunk of no size",
            format!("{start}transfer-encoding: chunked\r\n\r\nzz\r\n{BODY}\r\n0\r\n\r\n"),
            Some(400),
        ),
        (
            "a chunk of a negative size",
            format!("{start}transfer-encoding: chunked\r\n\r\n-1\r\n{BODY}\r\n0\r\n\r\n"),
            Some(400),
        ),
        (
            "a chunk of a size beyond all",
            format!("{start}transfer-encoding: chunked\r\n\r\nfffffffffffffffff\r\n{BODY}"),
            Some(400),
        ),
        (
            "a chunk longer than its size",
            format!("{start}transfer-encoding: chunked\r\n\r\n1\r\n{BODY}\r\n0\r\n\r\n"),
            Some(400),
        ),
        (
            "a folded line",
            format!("{start}x: a\r\n b\r\ncontent-length: {length}\r\n\r\n{BODY}"),
            Some(400),
        ),
        (
            "a space before the colon",
            format!("{start}content-length : {length}\r\n\r\n{BODY}"),
            Some(400),
        ),
        (
            "a control character",
            format!("{start}x: \u{1}\r\ncontent-length: {length}\r\n\r\n{BODY}"),
            Some(400),
        ),
        (
            "two hosts",
            format!(
                "{start}host: c\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{BODY}"
            ),
            Some(400),
        ),
        (
            "no host",
            format!(
                "POST /oauth2/token HTTP/1.1\r\n{FORM}connection: close\r\ncontent-length: {length}\r\n\r\n{BODY}"
            ),
            Some(400),
        ),
        (
            "HTTP/2 after all",
            "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_owned(),
            None,
        ),
        (
            "no HTTP at all",
            "\u{16}\u{3}\u{1}\r\n\r\n".to_owned(),
            Some(400),
        ),
    ] {
        let before = served(&trial).await;
        let mut peer = Exchange::of(&trial, CART).await;
        // Whatever is smuggled in is never answered.
        peer.say(format!("{request}{next}")).await;
        let answer = peer.hear().await;
        assert_eq!(answer.map(|answer| answer.status), status, "{name}");
        peer.ended().await;
        let expected = before + u64::from(status == Some(200));
        assert_eq!(served(&trial).await, expected, "{name}");
    }
    // Nothing is wrong with the peers.
    let mut peer = Exchange::of(&trial, CART).await;
    assert_eq!(peer.ask(&next).await.status, 200);
    assert_eq!(trial.counted("token_broker_connections_open").await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_that_are_sent_ahead_are_answered_one_by_one() {
    const REQUESTS: usize = 500;
    let trial = trial("").await;
    let mut peer = Exchange::of(&trial, CART).await;
    assert_eq!(peer.ask(&oauth2("d0")).await.status, 200);
    let mut ahead = String::new();
    for n in 0..REQUESTS {
        ahead += &match n % 3 {
            0 => oauth2("d0"),
            1 => oauth2("nothing"),
            _ => occtoo("d0"),
        };
    }
    peer.say(ahead).await;
    for n in 0..REQUESTS {
        let answer = peer.hear().await.unwrap();
        let expected = if n % 3 == 1 { 400 } else { 200 };
        assert_eq!(answer.status, expected, "{n}");
        let occtoo = answer.body.contains("accessToken");
        assert_eq!(occtoo, n % 3 == 2, "in their order");
    }
    assert_eq!(trial.upstream.calls(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn headers_that_are_too_long_or_too_many_reach_no_door() {
    let trial = trial("").await;
    let with = |headers: &str| post("/oauth2/token", &format!("{FORM}{headers}"), BODY);
    let lines = |count| "x: y\r\n".repeat(count);
    let long = |length| format!("x: {}\r\n", "a".repeat(length));
    let path = format!("/{}", "a".repeat(9_000));
    for (request, status) in [
        (with(&long(7_000)), 200),
        (with(&lines(90)), 200),
        (with(&long(9_000)), 431),
        (with(&lines(101)), 431),
        (with(&lines(2_000)), 431),
        (post(&path, FORM, BODY), 431),
        // And if they never end.
        ("a".repeat(9_000), 431),
        (format!("GET / HTTP/1.1\r\n{}", lines(2_000)), 431),
        ("\r\n".repeat(4_500), 431),
    ] {
        let mut peer = Exchange::of(&trial, CART).await;
        peer.try_to_say(&request).await;
        let answer = peer.hear().await.unwrap();
        let start = &request[..request.len().min(40)];
        assert_eq!(answer.status, status, "{start:?} {}", request.len());
        if status == 200 {
            assert_eq!(peer.ask(&oauth2("d0")).await.status, 200);
        } else {
            peer.ended().await;
        }
    }
    assert_eq!(served(&trial).await, 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_that_are_too_long_are_refused_however_they_are_sent() {
    let trial = trial("").await;
    let chunks = |count: usize| {
        let chunk = format!("400\r\n{}\r\n", "a".repeat(1024));
        let head =
            "POST /destinations/d0/token HTTP/1.1\r\nhost: b\r\ntransfer-encoding: chunked\r\n\r\n";
        format!("{head}{}0\r\n\r\n", chunk.repeat(count))
    };
    for (request, status, stays) in [
        (chunks(8), 200, true),
        (chunks(9), 413, true),
        (chunks(1_000), 413, false),
        (post("/destinations/d0/token", "", &"a".repeat(8_192)), 200, true),
        (post("/destinations/d0/token", "", &"a".repeat(8_193)), 413, true),
        (post("/oauth2/token", FORM, &"a".repeat(1_000_000)), 413, false),
        // Told at once, without a byte of it.
        (
            "POST /oauth2/token HTTP/1.1\r\nhost: b\r\ncontent-type: application/x-www-form-urlencoded\r\ncontent-length: 10000000000\r\n\r\n".to_owned(),
            413,
            false,
        ),
        (
            "POST /oauth2/token HTTP/1.1\r\nhost: b\r\ncontent-type: application/x-www-form-urlencoded\r\nexpect: 100-continue\r\ncontent-length: 100000\r\n\r\n".to_owned(),
            413,
            false,
        ),
    ] {
        let mut peer = Exchange::of(&trial, CART).await;
        peer.try_to_say(&request).await;
        if request.len() > 500_000 {
            // The broker hangs up before it has come through, so the answer may be lost.
            let answer = peer.last_words().await;
            assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 413 "), "{answer}");
            continue;
        }
        let answer = peer.hear().await.unwrap();
        assert_eq!(answer.status, status, "{}", request.len());
        if stays {
            assert_eq!(peer.ask(&oauth2("d0")).await.status, 200);
        } else {
            peer.ended().await;
        }
    }
    // A client that asks first is told to go on.
    let mut peer = Exchange::of(&trial, CART).await;
    let head = format!("{FORM}expect: 100-continue\r\n");
    let request = post("/oauth2/token", &head, BODY);
    let (head, body) = request.split_at(request.len() - BODY.len());
    assert_eq!(peer.ask(head).await.status, 100);
    assert_eq!(peer.ask(body).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_drips_is_given_up_in_time() {
    let trial = trial("first_request_timeout = \"2s\"\nrequest_timeout = \"2s\"").await;
    let within = Duration::from_secs(20);
    let request = oauth2("d0");
    let drip = async |peer: &mut Exchange, bytes: &str| {
        for byte in bytes.bytes() {
            if !peer.try_to_say([byte]).await {
                break;
            }
            sleep(Duration::from_millis(100)).await;
        }
    };
    // Its first request, begun in time: as if it said nothing.
    let mut peer = Exchange::of(&trial, CART).await;
    let began = Instant::now();
    sleep(Duration::from_secs(1)).await;
    drip(&mut peer, &request).await;
    peer.ended().await;
    assert!(began.elapsed() < within);
    trial.until_counted(&closed("no_request"), 1).await;

    // Later ones, after any silence.
    let mut peer = Exchange::of(&trial, CART).await;
    assert_eq!(peer.ask(&request).await.status, 200);
    sleep(Duration::from_secs(3)).await;
    assert_eq!(peer.ask(&request).await.status, 200, "silence is no crime");
    let began = Instant::now();
    drip(&mut peer, &request).await;
    peer.ended().await;
    assert!(began.elapsed() < within);
    trial.until_counted(&closed("slow_request"), 1).await;

    // Bodies, at both doors.
    for request in [request, occtoo("d0")] {
        let mut peer = Exchange::of(&trial, CART).await;
        let (head, body) = request.split_at(request.find("\r\n\r\n").unwrap() + 4);
        peer.say(head).await;
        let began = Instant::now();
        drip(&mut peer, body).await;
        let answer = peer.hear().await.unwrap();
        assert_eq!((answer.status, answer.reason()), (408, "INVALID_REQUEST"));
        peer.ended().await;
        assert!(began.elapsed() < within);
    }
    assert_eq!(served(&trial).await, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_asks_nothing_or_nothing_more_is_closed() {
    let server =
        "first_request_timeout = \"1s\"\nidle_timeout = \"1s\"\nhandshake_timeout = \"600s\"";
    let trial = trial(server).await;
    let mut silent = Exchange::of(&trial, CART).await;
    silent.ended().await;
    trial.until_counted(&closed("no_request"), 1).await;

    let mut peer = Exchange::of(&trial, CART).await;
    let asked = Instant::now();
    assert_eq!(peer.ask(&oauth2("d0")).await.status, 200);
    peer.ended().await;
    assert!(asked.elapsed() >= Duration::from_secs(1));
    trial.until_counted(&closed("idle"), 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_of_age_says_so_in_its_next_answer() {
    let server = "max_connection_age = \"3s\"\nrequest_timeout = \"6s\"\ndrain_timeout = \"100ms\"";
    let trial = trial(server).await;
    let behaviour = Behaviour::delay(Duration::from_secs(4));
    trial.upstream.behave_for("d0", Some(behaviour));
    // One request is under way when it comes of age, and the other one comes after.
    let mut busy = Exchange::of(&trial, CART).await;
    let mut idle = Exchange::of(&trial, CART).await;
    let first = idle.ask(&oauth2("d1")).await;
    assert_eq!((first.status, first.header("connection")), (200, None));
    let last = busy.ask(&oauth2("d0")).await;
    assert_eq!(
        (last.status, last.header("connection")),
        (200, Some("close"))
    );
    busy.ended().await;
    let last = idle.ask(&oauth2("d1")).await;
    assert_eq!(
        (last.status, last.header("connection")),
        (200, Some("close"))
    );
    idle.ended().await;
    trial.until_counted(&closed("age"), 2).await;

    // And whoever asks nothing more is cut all the same.
    let mut unused = Exchange::of(&trial, CART).await;
    assert_eq!(unused.ask(&oauth2("d1")).await.status, 200);
    unused.ended().await;
    trial.until_counted(&closed("age"), 3).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_begins_late_on_a_connection_of_age_is_answered() {
    let server = "max_connection_age = \"2s\"\nrequest_timeout = \"4s\"";
    let trial = trial(server).await;
    let behaviour = Behaviour::delay(Duration::from_secs(3));
    trial.upstream.behave_for("d0", Some(behaviour));
    let mut peer = Exchange::of(&trial, CART).await;
    let opened = Instant::now();
    assert_eq!(peer.ask(&oauth2("d1")).await.status, 200);
    // It is cut after 6.2 seconds at the latest, if it asks nothing more.
    sleep(Duration::from_secs(4)).await;
    let last = peer.ask(&oauth2("d0")).await;
    assert!(opened.elapsed() > Duration::from_millis(6_200));
    assert_eq!(
        (last.status, last.header("connection")),
        (200, Some("close"))
    );
    peer.ended().await;
    trial.until_counted(&closed("age"), 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn stopping_lets_the_request_under_way_end_and_closes_the_others() {
    let trial = trial("drain_timeout = \"60s\"\nfirst_request_timeout = \"600s\"").await;
    let behaviour = Behaviour::delay(Duration::from_secs(2));
    trial.upstream.behave_for("d0", Some(behaviour));
    let mut idle = Exchange::of(&trial, CART).await;
    assert_eq!(idle.ask(&oauth2("d1")).await.status, 200);
    let mut silent = Exchange::of(&trial, CART).await;
    let mut half = Exchange::of(&trial, CART).await;
    half.say("POST /oauth2/to").await;
    let mut half_again = Exchange::of(&trial, CART).await;
    assert_eq!(half_again.ask(&oauth2("d1")).await.status, 200);
    let mut busy = Exchange::of(&trial, CART).await;
    // What is sent ahead is not begun any more.
    busy.say(format!("{}{}", oauth2("d0"), oauth2("d1"))).await;
    while trial.upstream.calls_for("d0") == 0 {
        sleep(Duration::from_millis(10)).await;
    }
    let (app, site) = trial.into_parts();
    let stopping = tokio::spawn(app.stop());
    for peer in [&mut idle, &mut silent, &mut half, &mut half_again] {
        peer.ended().await;
    }
    assert!(!stopping.is_finished());
    let last = busy.hear().await.unwrap();
    assert_eq!(
        (last.status, last.header("connection")),
        (200, Some("close"))
    );
    busy.ended().await;
    timeout(GIVE_UP, stopping).await.unwrap().unwrap();
    assert_eq!(site.upstream.calls(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_not_believed_any_more_loses_connections_in_http1_too() {
    let ca = Ca::root("clients");
    let trial = Trial::start(Setup {
        destinations: 1,
        server: r#"crl = "clients.crl""#,
        files: vec![
            ("ca.pem", ca.pem.clone()),
            ("clients.crl", ca.crl(&[], HOUR)),
        ],
        ..Setup::default()
    })
    .await;
    let leaf = |serial, name: &str| Leaf {
        serial,
        names: vec![uri(name)],
        ..Leaf::default()
    };
    let revoked = ca.sign(leaf(1, CART));
    let other = ca.sign(leaf(2, "spiffe://corp.example/ns/shop/sa/search"));
    let mut cut = Exchange::with(Disguise::with(&trial, Some(&revoked))).await;
    let mut stays = Exchange::with(Disguise::with(&trial, Some(&other))).await;
    assert_eq!(cut.ask(&oauth2("d0")).await.status, 200);
    assert_eq!(stays.ask(&oauth2("d0")).await.status, 200);
    trial.write("clients.crl", &ca.crl(&[1], HOUR));
    let since = Instant::now();
    cut.ended().await;
    assert!(
        since.elapsed() < Duration::from_secs(5),
        "{:?}",
        since.elapsed()
    );
    trial.until_counted(&closed("certificate_revoked"), 1).await;
    assert_eq!(trial.counted(&reloads("ok")).await, 1);
    assert_eq!(stays.ask(&oauth2("d0")).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_has_one_share_over_both_versions_of_http() {
    let trial = trial("max_connections_per_caller = 2").await;
    let mut http1 = Exchange::of(&trial, CART).await;
    assert_eq!(http1.ask(&oauth2("d0")).await.status, 200);
    let mut http2 = Line::of(&trial, CART).await;
    http2.ask("d0").await.unwrap();
    let third = Disguise::of(&trial, CART).speaking(&["http/1.1"]);
    if let Ok(stream) = third.handshake().await {
        crate::line::hung_up(stream).await;
    }
    let refused = connections("over_caller_capacity");
    trial.until_counted(&refused, 1).await;
    assert_eq!(http1.ask(&oauth2("d0")).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_without_an_identity_is_told_so_and_sent_away() {
    let ca = Ca::root("clients");
    let trial = Trial::start(Setup {
        destinations: 1,
        server: r#"first_request_timeout = "3s""#,
        files: vec![("ca.pem", ca.pem.clone())],
        ..Setup::default()
    })
    .await;
    let nobody = ca.sign(Leaf {
        names: vec![dns("a.example"), dns("b.example")],
        ..Leaf::default()
    });
    let mut peer = Exchange::with(Disguise::with(&trial, Some(&nobody))).await;
    let answer = peer.ask(&oauth2("d0")).await;
    assert_eq!(
        (answer.status, answer.reason()),
        (401, "CALLER_UNIDENTIFIED")
    );
    peer.ended().await;
    trial.until_counted(&closed("unidentified"), 1).await;
    let (_, metrics) = trial.http("/metrics").await;
    assert!(!metrics.contains("token_broker_calls_total{"), "{metrics}");
}
