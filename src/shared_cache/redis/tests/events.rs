//! What is logged, and what never is.

use std::sync::Arc;

use super::{
    super::{Settings, Trouble},
    fixture::{Replica, name, sealed, settings},
    scripted::{Manner, Scripted},
    server::until,
};
use crate::{secret::Secret, shared_cache::settings::Login, telemetry::lines::Lines};

#[tokio::test]
async fn each_change_is_one_event_with_the_code_and_the_address_and_without_the_password() {
    let lines = Lines::default();
    // While there is only one subscriber, whichever thread comes to an event first decides for
    // all of them whether anybody listens, and other tests run on threads without one.
    let _second = tracing::Dispatch::new(tracing_subscriber::registry());
    let subscriber = tracing_subscriber::fmt()
        .with_writer(lines.clone())
        .with_max_level(tracing::Level::DEBUG);
    let _default = tracing::subscriber::set_default(subscriber.with_ansi(false).finish());
    let refused = "-WRONGPASS for canary\r\n";
    let server = Scripted::start(Manner::OnlySays(refused.into())).await;
    let login = Login {
        username: Some("broker".to_owned()),
        password: Some(Arc::new(Secret::new("canary".to_owned()))),
    };
    let settings = Settings {
        login,
        ..settings(server.port)
    };
    assert!(!format!("{settings:?}").contains("canary"));
    let replica = Replica::start(Some(settings));
    until("it was tried often", async || {
        replica.count("connect", "denied") > 3
    })
    .await;
    server.behave(Manner::Closes);
    until("it is gone as well", async || {
        replica.count("connect", "unreachable") > 1
    })
    .await;
    server.behave(Manner::Well);
    replica.answers().await;
    for (error, trouble) in [
        ("OOM canary", Trouble::Full),
        ("MISCONF canary", Trouble::Unsafe),
    ] {
        server.says_error(error);
        for _ in 0..3 {
            let forgot = replica.store.forget(&name()).await;
            assert_eq!(forgot, Err(trouble));
        }
    }
    server.behave(Manner::Well);
    // A server that is full lets things be forgotten, so that says nothing.
    replica.store.forget(&name()).await.unwrap();
    assert_eq!(replica.store.trouble(), Some(Trouble::Unsafe));
    for _ in 0..3 {
        let kept = replica.store.keep_quarantine(&[name()], sealed()).await;
        assert_eq!(kept, Ok(()));
    }
    assert_eq!(replica.store.trouble(), None);
    let text = lines.text();
    let events: Vec<_> = text.lines().collect();
    let address = format!("servers=127.0.0.1:{}", server.port);
    let expected: [&[&str]; 6] = [
        &["WARN", "does not answer", "code=\"denied\"", &address],
        &["DEBUG", "does not answer", "code=\"unreachable\"", &address],
        &["INFO", "answers again", &address],
        &["WARN", "takes no writes", "code=\"full\"", &address],
        &["DEBUG", "takes no writes", "code=\"read_only\"", &address],
        &["INFO", "takes writes again", &address],
    ];
    assert_eq!(events.len(), expected.len(), "{text}");
    for (event, parts) in events.iter().zip(expected) {
        assert!(parts.iter().all(|part| event.contains(part)), "{event}");
    }
    assert!(!text.contains("canary"), "{text}");
}
