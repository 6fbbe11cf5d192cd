//! Connections that are refused, and too many of them.

use std::time::Duration;

use token_broker::api::v1::token_broker_client::TokenBrokerClient;
use tokio::{task::JoinSet, time::interval};

use crate::{
    broker::{Broker, machine},
    disguise::Disguise,
    prometheus::Prometheus,
    trial::{Setup, Site, ask, reason},
};

pub(crate) const ALERTS: &[&str] = &[
    "TokenBrokerConnectionsNearLimit",
    "TokenBrokerDescriptorsShort",
    "TokenBrokerConnectionsRefused",
    "TokenBrokerHandshakesRefused",
];

/// As many as a broker with 128 descriptors lets in.
const PLACES: usize = 96;

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs prometheus"]
async fn too_many_connections_and_those_that_are_refused_are_alerts() {
    let _machine = machine().await;
    let site = Site::new(Setup {
        destinations: 1,
        ..Setup::default()
    })
    .await;
    let broker = Broker::start_after("ulimit -n 128", &site).await;
    let prometheus = Prometheus::start(&[("broker", broker.http)]).await;
    let fires = async |alert| prometheus.fires(alert, Some("broker")).await;

    let mut refused = JoinSet::new();
    let stranger = Disguise::before(broker.address, site.authority.certificate(), None);
    refused.spawn(async move {
        let mut moments = interval(Duration::from_millis(200));
        loop {
            moments.tick().await;
            drop(stranger.handshake().await);
        }
    });
    fires("TokenBrokerHandshakesRefused").await;
    refused.shutdown().await;

    let mut clients = Vec::new();
    for number in 0..PLACES {
        let caller = format!("spiffe://corp.example/ns/shop/sa/{number}");
        let channel = site.endpoint(broker.address, &caller).connect().await;
        let mut client = TokenBrokerClient::new(channel.unwrap());
        ask(&mut client, "d0").await.unwrap_or_else(|refused| {
            panic!("{number}: {}", reason(&refused));
        });
        clients.push(client);
    }
    fires("TokenBrokerConnectionsNearLimit").await;
    fires("TokenBrokerDescriptorsShort").await;
    let mut turned_away = JoinSet::new();
    let latecomer = site.endpoint(broker.address, "spiffe://corp.example/ns/shop/sa/late");
    turned_away.spawn(async move {
        let mut moments = interval(Duration::from_millis(100));
        loop {
            moments.tick().await;
            assert!(latecomer.connect().await.is_err(), "it found a place");
        }
    });
    fires("TokenBrokerConnectionsRefused").await;
    turned_away.shutdown().await;

    drop(clients);
    for alert in &ALERTS[..2] {
        prometheus.resolves(alert, Some("broker")).await;
    }
    prometheus.has_seen(ALERTS);
}
