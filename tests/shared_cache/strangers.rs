//! Fleets that use one server, and are none of each other's business.

use std::fs;

use crate::{
    broker::machine,
    fleet::{Fleet, sealing_key, site},
    server::Server,
    trial::{Setup, ask},
};

async fn are_strangers(change: impl FnOnce(&str) -> String) {
    let _machine = machine().await;
    let server = Server::start().await;
    let setup = Setup {
        destinations: 1,
        ..Setup::default()
    };
    let mut fleets = Fleet::at(site(setup, server.address).await);
    fs::write(fleets.site.folder.path().join("other.key"), sealing_key()).unwrap();
    // The same credentials for the same endpoint: but for the change, all would be shared.
    let one = [fleets.grow().await, fleets.grow().await];
    let change = {
        let config = fs::read_to_string(fleets.site.config()).unwrap();
        change(&config)
    };
    let mut other = Vec::new();
    for _ in 0..2 {
        other.push(fleets.grow_with(|_| change.clone()).await);
    }
    fleets.connected().await;
    let mut ids = Vec::new();
    for replica in one.into_iter().chain(other) {
        let token = ask(&mut fleets.client(replica).await, "d0").await.unwrap();
        ids.push(token.token_id);
    }
    assert_eq!(ids[0], ids[1]);
    assert_eq!(ids[2], ids[3]);
    assert_ne!(ids[0], ids[2]);
    assert_eq!(fleets.site.upstream.calls(), 2);
    fleets.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs redis-server"]
async fn fleets_with_different_namespaces_share_nothing() {
    are_strangers(|config| format!("{config}namespace = \"other\"\n")).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs redis-server"]
async fn fleets_with_different_sealing_keys_share_nothing() {
    are_strangers(|config| config.replace("shared-cache.key", "other.key")).await;
}
