//! Somebody writes into the server, or onto its channels.

use std::time::Duration;

use token_broker::{
    api::{
        admin::v1::RefreshRequest,
        v1::{GetTokenResponse, ReportRejectedRequest},
    },
    upstream::standin::Behaviour,
};
use tokio::{task::spawn_blocking, time::sleep};

use crate::{
    broker::machine,
    fleet::{Fleet, until},
    server::Server,
    trial::{Setup, ask, client_id},
    vault::{Vault, values},
};

async fn fleet(replicas: usize, destinations: usize) -> (Server, Fleet) {
    let server = Server::start().await;
    let setup = Setup {
        destinations,
        ..Setup::default()
    };
    let fleet = Fleet::start(replicas, setup, server.address).await;
    (server, fleet)
}

impl Fleet {
    /// A token from a replica, which is for this destination.
    async fn right(&self, replica: usize, destination: &str) -> GetTokenResponse {
        let mut client = self.client(replica).await;
        let token = ask(&mut client, destination).await.unwrap();
        let minted_for = self.site.upstream.minted_for(&token.access_token).unwrap();
        assert_eq!(minted_for.destination, destination);
        assert_eq!(minted_for.client_id, client_id(destination));
        token
    }

    /// The keyed hash under which a destination's token is kept.
    async fn hash_of(&self, server: &Server, destination: &str) -> String {
        let before = Vault::of(server).await.hashes();
        self.right(0, destination).await;
        let mut added = Vec::new();
        for hash in Vault::of(server).await.hashes() {
            if !before.contains(&hash) {
                added.push(hash);
            }
        }
        assert_eq!(added.len(), 1, "{added:?}");
        added.remove(0)
    }

    async fn refresh(&self, replica: usize, destination: &str) {
        let request = RefreshRequest {
            destination_id: destination.to_owned(),
            application: String::new(),
        };
        let answer = self.operator(replica).await.refresh(request).await;
        let refreshed = answer.unwrap().into_inner().refreshed;
        assert_eq!(refreshed[0].reason, "");
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs redis-server"]
async fn values_that_are_swapped_between_two_keys_are_not_taken() {
    let _machine = machine().await;
    let (server, mut fleet) = fleet(1, 2).await;
    let hashes = [
        fleet.hash_of(&server, "d0").await,
        fleet.hash_of(&server, "d1").await,
    ];
    let held = Vault::of(&server).await;
    let [first, second] = hashes.each_ref().map(|hash| held.only(hash));
    assert_ne!(first, second);
    first.take_out(&server);
    second.take_out(&server);
    first.renamed(&hashes[0], &hashes[1]).put_back(&server);
    second.renamed(&hashes[1], &hashes[0]).put_back(&server);
    let newest = fleet.grow().await;
    for destination in ["d0", "d1"] {
        fleet.right(newest, destination).await;
    }
    let metrics = fleet.replicas[newest].metrics().await;
    assert!(
        metrics.shared("open", "forged") >= 2,
        "{}",
        metrics.about_sharing()
    );
    assert_eq!(fleet.site.upstream.calls(), 4);
    fleet.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs redis-server"]
async fn a_value_is_not_taken_with_any_bit_flipped() {
    let _machine = machine().await;
    let (server, mut fleet) = fleet(1, 1).await;
    fleet.right(0, "d0").await;
    let intact = Vault::of(&server).await;
    let sealed: Vec<_> = values(&server)
        .into_iter()
        .filter(|(place, value)| value.len() > 100 && !place.name.ends_with(":replicas"))
        .collect();
    assert_eq!(sealed.len(), 1, "one sealed token");
    let (place, value) = &sealed[0];
    let bits = value.len() * 8;
    // Each part is hit: version, mark, nonce, what is sealed and its tag.
    let chosen = [
        0,
        7,
        8,
        39,
        40,
        135,
        136,
        140,
        bits / 2,
        bits - 129,
        bits - 128,
        bits - 1,
    ];
    for (mints, bit) in (2..).zip(chosen) {
        intact.put_back(&server);
        let mut flipped = value.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        place.set(&server, &flipped);
        let newest = fleet.grow().await;
        fleet.right(newest, "d0").await;
        let metrics = fleet.replicas[newest].metrics().await;
        // Whoever changes the mark makes it look like what another key sealed.
        let is_mark = (8..40).contains(&bit);
        let outcome = if is_mark { "other_key" } else { "forged" };
        let missed = metrics.shared("open", outcome);
        assert!(missed >= 1, "bit {bit}: {}", metrics.about_sharing());
        assert_eq!(fleet.site.upstream.calls(), mints, "bit {bit}");
    }
    // Nor is one that is cut, or no value at all.
    let mints = fleet.site.upstream.calls();
    for (more, cut) in (1..).zip([0, 1, 16, 17, 20, value.len() - 1]) {
        intact.put_back(&server);
        place.set(&server, &value[..cut]);
        let newest = fleet.grow().await;
        fleet.right(newest, "d0").await;
        assert_eq!(fleet.site.upstream.calls(), mints + more, "cut at {cut}");
    }
    fleet.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs redis-server"]
async fn an_older_token_that_is_put_back_is_not_taken() {
    let _machine = machine().await;
    let (server, fleet) = fleet(2, 1).await;
    let mut ids = vec![fleet.right(0, "d0").await.token_id];
    let old = Vault::of(&server).await;
    for round in 0..3 {
        let replica = round % 2;
        fleet.refresh(replica, "d0").await;
        let newest = fleet.right(replica, "d0").await.token_id;
        assert!(!ids.contains(&newest), "{newest} was there before");
        until("the other one follows", async || {
            fleet.right(1 - replica, "d0").await.token_id == newest
        })
        .await;
        ids.push(newest);
        Vault::of(&server).await.take_out(&server);
        old.put_back(&server);
    }
    assert_eq!(fleet.site.upstream.calls(), 4);
    println!("{}", fleet.replicas[0].metrics().await.about_sharing());
    assert!(
        fleet
            .sum("shared_cache_operations_total{operation=\"adopt\",outcome=\"stale\"")
            .await
            > 0
    );
    fleet.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs redis-server"]
async fn a_token_that_was_reported_is_not_taken_when_it_is_put_back() {
    let _machine = machine().await;
    let (server, fleet) = fleet(2, 1).await;
    let rejected = fleet.right(0, "d0").await.token_id;
    let old = Vault::of(&server).await;
    let report = ReportRejectedRequest {
        destination_id: "d0".to_owned(),
        token_id: rejected.clone(),
    };
    fleet.client(0).await.report_rejected(report).await.unwrap();
    for replica in 0..2 {
        until("there is a successor", async || {
            fleet.right(replica, "d0").await.token_id != rejected
        })
        .await;
    }
    Vault::of(&server).await.take_out(&server);
    old.put_back(&server);
    for replica in 0..2 {
        fleet.refresh(replica, "d0").await;
        assert_ne!(fleet.right(replica, "d0").await.token_id, rejected);
    }
    fleet.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs redis-server"]
async fn a_token_that_has_expired_is_not_taken_when_it_is_put_back() {
    let _machine = machine().await;
    let (server, mut fleet) = fleet(1, 1).await;
    let short = Duration::from_secs(2);
    fleet.site.upstream.behave(Behaviour::lifetime(short));
    let expired = fleet.right(0, "d0").await.token_id;
    let old = Vault::of(&server).await;
    sleep(short).await;
    Vault::of(&server).await.take_out(&server);
    old.put_back(&server);
    // It is not the server that has to know.
    for (place, value) in values(&server) {
        if std::str::from_utf8(&value).is_ok_and(|text| text.len() == "1700000000000".len()) {
            place.set(&server, b"4000000000000");
        }
    }
    let newest = fleet.grow().await;
    assert_ne!(fleet.right(newest, "d0").await.token_id, expired);
    let metrics = fleet.replicas[newest].metrics().await;
    println!("{}", metrics.about_sharing());
    assert!(metrics.shared("adopt", "expired") >= 1);
    fleet.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs redis-server"]
async fn messages_that_nobody_sent_change_nothing() {
    let _machine = machine().await;
    let (server, fleet) = fleet(2, 2).await;
    let hashes = [
        fleet.hash_of(&server, "d0").await,
        fleet.hash_of(&server, "d1").await,
    ];
    let tokens = [fleet.agreed("d0").await, fleet.agreed("d1").await];
    let mut connection = server.connect();
    let (subscribed, is_subscribed) = std::sync::mpsc::channel();
    let hearing = spawn_blocking(move || {
        let mut heard = connection.as_pubsub();
        heard.psubscribe("*").unwrap();
        subscribed.send(()).unwrap();
        let message = heard.get_message().unwrap();
        (
            message.get_channel_name().to_owned(),
            message.get_payload_bytes().to_vec(),
        )
    });
    spawn_blocking(move || is_subscribed.recv().unwrap())
        .await
        .unwrap();
    fleet.refresh(0, "d0").await;
    let (channel, payload) = hearing.await.unwrap();
    until("both have the last token", async || {
        let id = fleet.right(0, "d0").await.token_id;
        id != tokens[0] && id == fleet.right(1, "d0").await.token_id
    })
    .await;
    let token = fleet.agreed("d0").await;
    let before = fleet
        .sum("shared_cache_operations_total{operation=\"open\"")
        .await;

    let mut connection = server.connect();
    let mut publish = |payload: &[u8]| {
        redis::cmd("PUBLISH")
            .arg(&channel)
            .arg(payload)
            .exec(&mut connection)
            .unwrap();
    };
    for bit in 0..payload.len() * 8 {
        let mut flipped = payload.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        publish(&flipped);
        publish(&payload[..bit / 8]);
    }
    // And one that is another's.
    let [from, to] = hashes.map(|hash| u128::from_str_radix(&hash, 16).unwrap());
    let another = replaced(&payload, &from.to_be_bytes(), &to.to_be_bytes());
    publish(&another);
    until("they were listened to", async || {
        fleet
            .sum("shared_cache_operations_total{operation=\"open\"")
            .await
            > before
    })
    .await;
    publish(&payload);
    assert_eq!(fleet.agreed("d0").await, token);
    assert_eq!(fleet.agreed("d1").await, tokens[1]);
    assert_eq!(fleet.site.upstream.calls(), 3);
    for replica in &fleet.replicas {
        assert_eq!(replica.metrics().await.value("shared_cache_up"), 1);
    }
    fleet.stop().await;
}

/// Bytes with others in place of the first that are these.
fn replaced(bytes: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    let at = bytes.windows(from.len()).position(|window| window == from);
    let at = at.unwrap();
    let mut bytes = bytes.to_vec();
    bytes.splice(at..at + from.len(), to.iter().copied());
    bytes
}
