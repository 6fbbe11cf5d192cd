//! Bodies that are too long, torn, disguised or never come.

use std::{net::TcpListener, time::Duration};

use token_broker::{
    slot::FailureReason,
    upstream::{
        Broken, FetchError, HttpSettings, Protocol,
        standin::{Behaviour, Fault},
    },
};

use crate::support::{
    CLIENT, LOOPBACK, Raw, SECRET, TOKEN, answer, credential, error_under, fail, mint,
    occtoo_error, ok, reason, settings, standin,
};

#[tokio::test]
async fn a_body_is_cut_at_64_kib() {
    let padded = |length: usize| format!("{TOKEN}{}", " ".repeat(length - TOKEN.len()));
    let chunked = |body: &str| {
        let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
        format!("{head}{:x}\r\n{body}\r\n0\r\n\r\n", body.len())
    };
    for fits in [ok(&padded(65_536)), chunked(&padded(65_536))] {
        let upstream = Raw::start(fits).await;
        let credential = credential(CLIENT, SECRET);
        assert!(
            mint(&Protocol::Occtoo, &upstream.url, credential)
                .await
                .is_ok()
        );
    }
    let too_long = FetchError::Malformed("it is longer than 64 KiB");
    for exceeds in [
        ok(&padded(65_537)),
        chunked(&padded(65_537)),
        // Only announced: 10 GB that nobody waits for.
        "HTTP/1.1 200 OK\r\nContent-Length: 10000000000\r\n\r\n{".to_owned(),
        // Until the connection closes.
        format!("HTTP/1.1 200 OK\r\n\r\n{}", padded(65_537)),
    ] {
        let upstream = Raw::start(exceeds).await;
        assert_eq!(occtoo_error(&upstream.url).await, too_long);
    }
    let standin = standin().await;
    assert_eq!(
        fail(&standin, Behaviour::fault(Fault::Endless)).await,
        too_long
    );
}

#[tokio::test]
async fn a_compressed_body_is_malformed_and_not_unpacked() {
    let standin = standin().await;
    let compressed = FetchError::Malformed("it is compressed");
    assert_eq!(
        fail(&standin, Behaviour::fault(Fault::Gzip)).await,
        compressed
    );
    for encoding in ["gzip", "br", "deflate", "zstd", "identity, gzip", "x"] {
        let header = format!("Content-Encoding: {encoding}\r\n");
        let upstream = Raw::start(answer("200 OK", &header, TOKEN)).await;
        assert_eq!(occtoo_error(&upstream.url).await, compressed, "{encoding}");
    }
    let identity = answer("200 OK", "Content-Encoding: Identity\r\n", TOKEN);
    let upstream = Raw::start(identity).await;
    let credential = credential(CLIENT, SECRET);
    assert!(
        mint(&Protocol::Occtoo, &upstream.url, credential)
            .await
            .is_ok()
    );
}

#[tokio::test]
async fn torn_response_is_transient() {
    let whole = [
        answer("200 OK", "", TOKEN),
        // A rejection stops the retries, so a torn one must not count.
        answer("401 Unauthorized", "", r#"{"error":"invalid_client"}"#),
    ];
    for whole in whole {
        for length in 0..whole.len() {
            let upstream = Raw::start(whole[..length].to_owned()).await;
            let error = occtoo_error(&upstream.url).await;
            assert_eq!(
                reason(&error),
                FailureReason::Unavailable,
                "{length}: {error:?}"
            );
            // Nothing is sent twice, however little came back.
            assert_eq!(upstream.requests().len(), 1);
        }
    }
    let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{\"acc\r\n";
    let upstream = Raw::start(chunked.to_owned()).await;
    assert_eq!(
        occtoo_error(&upstream.url).await,
        FetchError::Transport(Broken::Off)
    );
}

#[tokio::test]
async fn truncated_and_reset_exchanges_are_transient() {
    let standin = standin().await;
    for fault in [Fault::Truncate, Fault::Reset] {
        assert_eq!(
            fail(&standin, Behaviour::fault(fault)).await,
            FetchError::Transport(Broken::Off)
        );
    }
    assert_eq!(standin.calls(), 2);
}

#[tokio::test]
async fn what_is_not_http_is_transient() {
    for nonsense in [
        "SSH-2.0-OpenSSH_9.6\r\n".to_owned(),
        "HTTP/1.1 canary OK\r\n\r\n".to_owned(),
        "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n".to_owned(),
        format!("HTTP/1.1 200 OK\r\nX: {}\r\n\r\n", "x".repeat(2_000_000)),
        format!("HTTP/1.1 200 OK\r\n{}\r\n", "X: x\r\n".repeat(10_000)),
    ] {
        let upstream = Raw::start(nonsense).await;
        let error = occtoo_error(&upstream.url).await;
        assert!(matches!(error, FetchError::Transport(_)), "{error:?}");
    }
}

#[tokio::test]
async fn a_silent_upstream_times_out() {
    let standin = standin().await;
    standin.behave(Behaviour::fault(Fault::Silent));
    let impatient = HttpSettings {
        total_timeout: Duration::from_millis(100),
        ..settings()
    };
    assert_eq!(
        error_under(&impatient, &standin.base_url()).await,
        FetchError::TimedOut
    );
    // The body counts as well.
    let half = Raw::hold("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{".to_owned()).await;
    assert_eq!(
        error_under(&impatient, &half.url).await,
        FetchError::TimedOut
    );
    standin.shutdown().await;
}

#[tokio::test]
async fn nobody_listening_is_transient() {
    let free = TcpListener::bind(LOOPBACK).unwrap().local_addr().unwrap();
    assert_eq!(
        occtoo_error(&format!("http://{free}")).await,
        FetchError::Transport(Broken::NoConnection)
    );
}

#[test]
fn nothing_is_waited_for_longer_than_five_seconds_by_default() {
    let defaults = HttpSettings::default();
    assert_eq!(defaults.connect_timeout, Duration::from_secs(3));
    assert_eq!(defaults.total_timeout, Duration::from_secs(5));
}
