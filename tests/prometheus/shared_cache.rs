//! A store that is gone, or that somebody writes into.

use crate::{
    broker::machine,
    fleet::{Fleet, until},
    operator::connect,
    prometheus::Prometheus,
    server::Server,
    trial::{CART, Setup, ask},
    vault::Vault,
};
use token_broker::api::{admin::v1::RefreshRequest, v1::token_broker_client::TokenBrokerClient};

pub(crate) const ALERTS: &[&str] = &[
    "TokenBrokerSharedCacheForged",
    "TokenBrokerSharedCacheUnavailable",
];

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs prometheus and redis-server"]
async fn a_store_that_is_gone_or_written_into_is_an_alert() {
    let _machine = machine().await;
    let mut server = Server::start().await;
    let setup = Setup {
        destinations: 2,
        ..Setup::default()
    };
    let fleet = Fleet::start(1, setup, server.address).await;
    let app = &fleet.replicas[0].app;
    let http = app.http_address().unwrap();
    let prometheus = Prometheus::start(&[("broker", http)]).await;
    let forged = r#"token_broker_shared_cache_operations_total{outcome="forged"}"#;
    prometheus.until(&format!("{forged} == 0")).await;

    let mut client = TokenBrokerClient::new(connect(app, &fleet.site, CART).await);
    let mut hashes = Vec::new();
    for destination in ["d0", "d1"] {
        let before = Vault::of(&server).await.hashes();
        ask(&mut client, destination).await.unwrap();
        until("it is kept", async || {
            Vault::of(&server).await.hashes() != before
        })
        .await;
        let after = Vault::of(&server).await.hashes();
        hashes.extend(after.difference(&before).cloned());
    }
    let [first, second] = hashes.as_slice() else {
        panic!("{hashes:?}");
    };
    // Who can write to the store puts the token of the one where the other's was.
    let held = Vault::of(&server).await.only(second);
    held.renamed(second, first).put_back(&server);
    let request = RefreshRequest {
        destination_id: "d0".to_owned(),
        application: String::new(),
    };
    fleet.operator(0).await.refresh(request).await.unwrap();
    prometheus.fires(ALERTS[0], Some("broker")).await;

    server.kill();
    prometheus.fires(ALERTS[1], Some("broker")).await;
    server.restart().await;
    prometheus.resolves(ALERTS[1], Some("broker")).await;
    prometheus.has_seen(ALERTS);
}
