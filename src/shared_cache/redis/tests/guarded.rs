//! Servers that let in only whom they know: TLS, and users with few permissions.

use std::{fs, sync::Arc, time::Duration};

use super::{
    super::{Beginning, Settings, Trouble},
    contract,
    fixture::{Replica, kept, name, sealed, settings},
    server::{Server, until},
};
use crate::{
    cli::dev::Authority,
    secret::Secret,
    shared_cache::{
        record::Kind,
        settings::{Login, Tls},
    },
};

/// All that a user of the broker has to be permitted.
pub(super) const COMMANDS: [&str; 19] = [
    "ping",
    "subscribe",
    "eval",
    "evalsha",
    "time",
    "hget",
    "hmget",
    "hgetall",
    "hset",
    "hdel",
    "get",
    "set",
    "del",
    "exists",
    "pttl",
    "pexpire",
    "publish",
    "role",
    "select",
];

/// What only some servers ask for, or only some moments: a number of the database, and a
/// server that is not in charge any more.
const SELDOM: [&str; 2] = ["role", "select"];

#[test]
fn the_documents_permit_these_commands_and_no_others() {
    let permitted: String = COMMANDS.map(|command| format!(" +{command}")).concat();
    let line = format!(
        "user token-broker on >PASSWORD resetkeys ~token-broker:* resetchannels &token-broker:news -@all{permitted}\n"
    );
    assert!(
        include_str!("../../../../docs/replicas.md").contains(&line),
        "{line}"
    );
}

const LONG: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs redis-server"]
async fn a_user_needs_these_commands_and_no_others() {
    let permitted: String = COMMANDS.map(|command| format!(" +{command}")).concat();
    let server = Server::start(&format!(
        "user default off\nuser admin on nopass ~* &* +@all\nuser broker on >secret ~fleet:* resetchannels &fleet:news -@all{permitted}\n"
    ));
    let settings = Settings {
        login: Login {
            username: Some("broker".to_owned()),
            password: Some(Arc::new(Secret::new("secret".to_owned()))),
        },
        ..settings(server.port)
    };
    let replica = Replica::connected(settings.clone()).await;
    contract::run_all(&replica, settings.clone()).await;
    assert!(all(&replica).await);
    drop(replica);
    println!("user broker on >… ~fleet:* resetchannels &fleet:news -@all{permitted}");
    for command in COMMANDS.iter().filter(|command| !SELDOM.contains(command)) {
        set_user(&server, &format!("-{command}"));
        let replica = Replica::start(Some(settings.clone()));
        replica.store.settled().await;
        // A server that knows a script is not sent it again.
        admin(&server, &["script", "flush"]);
        assert!(!all(&replica).await, "{command} is not needed");
        set_user(&server, &format!("+{command}"));
    }
    for rule in ["resetkeys", "resetchannels"] {
        set_user(&server, rule);
        let replica = Replica::start(Some(settings.clone()));
        replica.store.settled().await;
        assert!(!all(&replica).await, "{rule}");
        set_user(&server, "~fleet:*");
        set_user(&server, "&fleet:news");
    }
    let replica = Replica::connected(settings).await;
    assert!(all(&replica).await);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs redis-server"]
async fn a_server_with_tls_asks_for_a_certificate_and_shows_one() {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let authority = Authority::new().unwrap();
    let (server, folder) = tls_server(&authority, "");
    let client = authority.client("spiffe://td/broker").unwrap();
    let (cert, key) = (client.certificate.into_bytes(), Arc::new(client.key));
    let tls = Tls {
        ca: Some(authority.certificate().as_bytes().to_vec()),
        client: Some((cert, key)),
    };
    let with = |tls: Option<Tls>| Settings {
        tls,
        ..settings(server.port)
    };
    let replica = Replica::connected(with(Some(tls.clone()))).await;
    contract::run_all(&replica, with(Some(tls.clone()))).await;
    let stranger = Authority::new().unwrap();
    let foreign = stranger.client("spiffe://td/broker").unwrap();
    let foreign = (foreign.certificate.into_bytes(), Arc::new(foreign.key));
    for (what, tls) in [
        ("plain TCP", None),
        (
            "no certificate",
            Some(Tls {
                client: None,
                ..tls.clone()
            }),
        ),
        (
            "a stranger's certificate",
            Some(Tls {
                client: Some(foreign),
                ..tls.clone()
            }),
        ),
        (
            "public roots",
            Some(Tls {
                ca: None,
                ..tls.clone()
            }),
        ),
        (
            "another authority",
            Some(Tls {
                ca: Some(stranger.certificate().as_bytes().to_vec()),
                ..tls.clone()
            }),
        ),
        (
            "an authority that is none",
            Some(Tls {
                ca: Some(b"-----BEGIN".to_vec()),
                ..tls.clone()
            }),
        ),
    ] {
        let replica = Replica::start(Some(with(tls)));
        replica.store.settled().await;
        let answer = replica.store.look(&name()).await;
        assert_eq!(answer.unwrap_err(), Trouble::Unreachable, "{what}");
    }
    drop(folder);
}

/// A server with a certificate of this authority, which asks for one as well.
pub(super) fn tls_server(authority: &Authority, lines: &str) -> (Server, tempfile::TempDir) {
    let (lines, folder) = tls_lines(authority, lines);
    (Server::start(&lines), folder)
}

pub(super) fn tls_lines(authority: &Authority, lines: &str) -> (String, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let shown = authority.server([127, 0, 0, 1].into()).unwrap();
    for (file, text) in [
        ("ca.pem", authority.certificate()),
        ("cert.pem", &shown.certificate),
        ("key.pem", shown.key.expose()),
    ] {
        fs::write(folder.path().join(file), text).unwrap();
    }
    let at = folder.path().display();
    let lines = format!(
        "tls-port TLSPORT\ntls-ca-cert-file {at}/ca.pem\ntls-cert-file {at}/cert.pem\ntls-key-file {at}/key.pem\ntls-auth-clients yes\n{lines}"
    );
    (lines, folder)
}

/// Does all that a replica does; says whether all of it was permitted.
async fn all(replica: &Replica) -> bool {
    let store = &replica.store;
    let (name, token) = (name(), sealed());
    let Ok(Beginning::Granted(turn)) = store.begin(&name, &[], LONG).await else {
        return false;
    };
    // Another one waits, which asks for how long.
    if store.begin(&name, &[], LONG).await.is_err() {
        return false;
    }
    let outcome = Some(kept(Kind::Token, &token, LONG * 60));
    store.finish(&name, Some(&turn), outcome).await.is_ok()
        && store
            .look(&name)
            .await
            .is_ok_and(|entries| entries.len() == 1)
        && store.forget(&name).await.is_ok()
        && store.keep_pause(&name, sealed(), LONG).await.is_ok()
        && store.pause(&name).await.is_ok()
        && store.keep_quarantine(&[name], sealed()).await.is_ok()
        && store.quarantines().await.is_ok()
        && store.beat(&[name], Some(sealed()), LONG).await.is_ok()
        && store.beat(&[name], None, LONG).await.is_ok()
}

fn set_user(server: &Server, rule: &str) {
    assert_eq!(admin(server, &["acl", "setuser", "broker", rule]), "OK");
}

fn admin(server: &Server, arguments: &[&str]) -> String {
    let login = ["--user", "admin", "--pass", "x", "--no-auth-warning"];
    server.cli(&[&login, arguments].concat())
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs redis-server"]
async fn a_password_alone_lets_the_default_user_in() {
    let server = Server::start("requirepass secret\n");
    let with = |password: Option<&str>| Settings {
        login: Login {
            username: None,
            password: password.map(|text| Arc::new(Secret::new(text.to_owned()))),
        },
        ..settings(server.port)
    };
    let replica = Replica::start(Some(with(None)));
    for wrong in [None, Some("wrong")] {
        replica.settings.send_replace(Some(with(wrong)));
        until("it is denied", async || {
            replica.store.look(&name()).await.map(drop) == Err(Trouble::Denied)
        })
        .await;
    }
    replica.settings.send_replace(Some(with(Some("secret"))));
    replica.answers().await;
}
