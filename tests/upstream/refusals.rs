//! Where requests must not go.

use std::{
    io::ErrorKind,
    net::{SocketAddr, TcpListener},
    process::Command,
};

use token_broker::upstream::{
    AddressRule, Broken, FetchError, HttpSettings, Protocol, SetupError,
    standin::{Behaviour, Fault},
};

use crate::support::{
    CLIENT, LOOPBACK, SECRET, credential, error_under, fail, mint, occtoo, settings, standin,
};

#[tokio::test]
async fn redirect_is_refused_and_no_byte_reaches_the_target() {
    let standin = standin().await;
    let target = Bystander::start();
    for status in [301, 302, 303, 307, 308] {
        for to in [
            format!("http://{}/", target.address),
            format!("//{}/", target.address),
        ] {
            let error = fail(&standin, Behaviour::fault(Fault::Redirect { status, to })).await;
            assert_eq!(
                error,
                FetchError::Status {
                    status,
                    retry_after: None
                }
            );
        }
    }
    // Not even to itself.
    let to = "/elsewhere".to_owned();
    fail(
        &standin,
        Behaviour::fault(Fault::Redirect { status: 307, to }),
    )
    .await;
    assert_eq!(standin.calls(), 11);
    target.assert_untouched();
}

/// The environment belongs to a whole process, so this test runs itself in another one.
#[tokio::test]
async fn proxy_environment_is_ignored() {
    const UPSTREAM: &str = "TOKEN_BROKER_TEST_UPSTREAM";
    if let Ok(upstream) = std::env::var(UPSTREAM) {
        let credential = credential(CLIENT, SECRET);
        mint(&Protocol::Occtoo, &upstream, credential)
            .await
            .unwrap();
        return;
    }
    let standin = standin().await;
    let proxy = Bystander::start();
    let mut child = Command::new(std::env::current_exe().unwrap());
    child.args(["--exact", "refusals::proxy_environment_is_ignored"]);
    child.env(UPSTREAM, standin.base_url());
    child.env_remove("NO_PROXY").env_remove("no_proxy");
    for name in ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"] {
        let url = format!("http://{}", proxy.address);
        child.env(name, &url).env(name.to_lowercase(), &url);
    }
    let output = tokio::task::spawn_blocking(move || child.output())
        .await
        .unwrap()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    assert_eq!(standin.calls(), 1);
    proxy.assert_untouched();
}

#[tokio::test]
async fn addresses_are_judged_whether_literal_or_resolved() {
    let not_allowed = FetchError::Transport(Broken::AddressRefused);
    let standin = standin().await;
    let port = standin.addr().port();
    let strict = HttpSettings {
        addresses: AddressRule {
            loopback: false,
            private: true,
        },
        ..settings()
    };
    for name in ["localhost", "LocalHost"] {
        assert_eq!(
            error_under(&strict, &format!("http://{name}:{port}")).await,
            not_allowed,
            "{name}"
        );
        assert_eq!(
            error_under(&strict, &format!("https://{name}:{port}")).await,
            not_allowed,
            "{name}"
        );
    }
    assert_eq!(standin.calls(), 0);
    let by_name = format!("http://localhost:{port}");
    let minted = mint(&Protocol::Occtoo, &by_name, credential(CLIENT, SECRET)).await;
    assert!(minted.is_ok());

    for (settings, url, expected) in [
        (&strict, "https://127.0.0.1", SetupError::Address),
        (&strict, "https://2130706433", SetupError::Address),
        (&strict, "https://[::1]", SetupError::Address),
        (&strict, "https://[::ffff:127.0.0.1]", SetupError::Address),
        (&settings(), "https://169.254.169.254", SetupError::Address),
        (&settings(), "https://[fe80::1]", SetupError::Address),
        (&settings(), "https://0.0.0.0", SetupError::Address),
        (&settings(), "https://10.0.0.1", SetupError::Address),
        (&settings(), "http://10.0.0.1", SetupError::PlainHttp),
        (&settings(), "http://auth.example", SetupError::PlainHttp),
        (
            &settings(),
            "http://localhost.auth.example",
            SetupError::PlainHttp,
        ),
        (
            &HttpSettings::default(),
            "http://localhost",
            SetupError::PlainHttp,
        ),
    ] {
        let refused = occtoo(settings, url).err();
        assert_eq!(refused, Some(expected), "{url}");
    }
}

#[tokio::test]
async fn an_unknown_name_is_transient() {
    assert_eq!(
        error_under(&settings(), "https://no-such-name.invalid").await,
        FetchError::Transport(Broken::NoAddress)
    );
}

/// A listener that nobody may connect to.
struct Bystander {
    listener: TcpListener,
    address: SocketAddr,
}

impl Bystander {
    fn start() -> Self {
        let listener = TcpListener::bind(LOOPBACK).unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        Self { listener, address }
    }

    /// A connection would wait in the backlog, whether or not it was accepted.
    fn assert_untouched(&self) {
        let error = self.listener.accept().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::WouldBlock);
    }
}
