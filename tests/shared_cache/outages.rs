//! Whatever happens to the server: no call fails, and afterwards tokens are shared again.

use std::time::Duration;

use token_broker::upstream::standin::Behaviour;
use tokio::time::sleep;

use crate::{
    broker::machine,
    fleet::{Fleet, site, until},
    line::{Line, Quality},
    load::Load,
    server::{PASSWORD, Server, connect, told},
    trial::{Setup, ask},
};

const REPLICAS: usize = 3;
/// Keys whose tokens are refreshed each second.
const SHORT_LIVED: usize = 4;
/// All keys that are in use from the beginning.
const WARM: usize = 8;
const CALLERS_EACH: usize = 4;
const PACE: Duration = Duration::from_millis(10);
/// Long enough for refreshes to fall into it.
const OUTAGE: Duration = Duration::from_millis(2500);

/// Replicas under load, and what may happen to their server.
pub(crate) struct Scene {
    pub(crate) server: Server,
    pub(crate) line: Line,
    pub(crate) fleet: Fleet,
    pub(crate) load: Load,
}

impl Scene {
    pub(crate) async fn new() -> Self {
        let server = Server::start().await;
        let line = Line::to(server.address).await;
        let setup = Setup {
            destinations: WARM + 2,
            ..Setup::default()
        };
        let mut fleet = Fleet::at(site(setup, line.address).await);
        for key in 0..SHORT_LIVED {
            let short = Behaviour::lifetime(Duration::from_secs(2));
            fleet
                .site
                .upstream
                .behave_for(&format!("d{key}"), Some(short));
        }
        for _ in 0..REPLICAS {
            fleet.grow().await;
        }
        fleet.connected().await;
        let keys: Vec<_> = (0..WARM).map(|key| format!("d{key}")).collect();
        for mut client in fleet.clients().await {
            for key in &keys {
                ask(&mut client, key).await.unwrap();
            }
        }
        let mut clients = Vec::new();
        for _ in 0..CALLERS_EACH {
            clients.extend(fleet.clients().await);
        }
        let load = Load::start(clients, &keys, PACE);
        Self {
            server,
            line,
            fleet,
            load,
        }
    }

    /// Lives through what has just begun: one of these codes is counted, and calls are answered,
    /// also those for a key that no replica has.
    async fn live_through(&self, codes: &[&str]) {
        for mut client in self.fleet.clients().await {
            ask(&mut client, "d8").await.unwrap();
        }
        sleep(OUTAGE).await;
        let mut seen = 0;
        for replica in &self.fleet.replicas {
            let metrics = replica.metrics().await;
            println!("{}", metrics.about_sharing());
            for operation in ["look", "begin", "finish"] {
                let counted = codes.iter().map(|code| metrics.shared(operation, code));
                seen += counted.sum::<u64>();
            }
        }
        assert!(
            seen > 0 || codes.is_empty(),
            "none of {codes:?} was counted"
        );
    }

    /// Lets the server want another password, and sends everybody away who came with the last.
    pub(crate) fn exchange_password(&self, from: &str, to: &str) {
        let mut connection = connect(self.server.address, from).unwrap();
        for command in [
            &["CONFIG", "SET", "requirepass", to][..],
            &["CLIENT", "KILL", "TYPE", "pubsub"],
            &["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"],
        ] {
            told(command)
                .query::<redis::Value>(&mut connection)
                .unwrap();
        }
    }

    /// All is well again.
    pub(crate) async fn recover(self) {
        self.fleet.connected().await;
        let upstream = &self.fleet.site.upstream;
        self.fleet.agreed("d9").await;
        assert_eq!(upstream.calls_for("d9"), 1, "tokens are shared again");
        let outcomes = self.load.stop().await;
        println!("{} answered", outcomes.answered);
        outcomes.assert_all_answered("in all");
        for key in SHORT_LIVED..WARM {
            assert_eq!(upstream.calls_for(&format!("d{key}")), 1, "d{key}");
        }
        self.fleet.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs redis-server"]
async fn no_call_fails_while_the_server_is_gone() {
    let _machine = machine().await;
    let mut scene = Scene::new().await;
    scene.server.kill();
    scene.live_through(&["unreachable"]).await;
    scene.server.restart().await;
    scene.recover().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs redis-server"]
async fn no_call_fails_while_the_server_is_suspended() {
    let _machine = machine().await;
    let scene = Scene::new().await;
    scene.server.suspend();
    scene.live_through(&["slow", "unreachable"]).await;
    scene.server.resume();
    scene.recover().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs redis-server"]
async fn no_call_fails_while_a_firewall_swallows_everything() {
    let _machine = machine().await;
    let scene = Scene::new().await;
    scene.line.becomes(Quality::Firewalled);
    scene.live_through(&["slow", "unreachable"]).await;
    scene.line.becomes(Quality::Good);
    scene.recover().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs redis-server"]
async fn no_call_fails_while_the_server_is_full() {
    let _machine = machine().await;
    let scene = Scene::new().await;
    scene.server.tell(&["CONFIG", "SET", "maxmemory", "1"]);
    scene.live_through(&["full"]).await;
    scene.server.tell(&["CONFIG", "SET", "maxmemory", "0"]);
    scene.recover().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs redis-server"]
async fn no_call_fails_while_the_server_takes_no_writes() {
    let _machine = machine().await;
    let scene = Scene::new().await;
    // Of a master that is not there.
    scene.server.tell(&["REPLICAOF", "127.0.0.1", "1"]);
    scene.live_through(&["read_only"]).await;
    scene.server.tell(&["REPLICAOF", "NO", "ONE"]);
    scene.recover().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs redis-server"]
async fn no_call_fails_when_the_server_forgets_everything() {
    let _machine = machine().await;
    let scene = Scene::new().await;
    scene.server.tell(&["FLUSHALL"]);
    scene.live_through(&[]).await;
    scene.recover().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs redis-server"]
async fn no_call_fails_when_the_server_is_restarted() {
    let _machine = machine().await;
    let mut scene = Scene::new().await;
    for _ in 0..3 {
        scene.server.restart().await;
        scene.fleet.connected().await;
    }
    scene.live_through(&[]).await;
    scene.recover().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs redis-server"]
async fn no_call_fails_while_the_server_is_slow() {
    let _machine = machine().await;
    let scene = Scene::new().await;
    scene
        .line
        .becomes(Quality::Slow(Duration::from_millis(200)));
    scene.live_through(&["slow", "unreachable"]).await;
    scene.line.becomes(Quality::Good);
    scene.recover().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs redis-server"]
async fn no_call_fails_while_the_server_lets_nobody_in() {
    const OTHER: &str = "another-password";
    let _machine = machine().await;
    let scene = Scene::new().await;
    scene.exchange_password(PASSWORD, OTHER);
    scene.live_through(&["denied", "unreachable"]).await;
    scene.exchange_password(OTHER, PASSWORD);
    scene.recover().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs redis-server"]
async fn no_call_fails_while_the_server_talks_nonsense() {
    let _machine = machine().await;
    let scene = Scene::new().await;
    scene.line.becomes(Quality::Garbled);
    scene
        .live_through(&["garbage", "unreachable", "slow"])
        .await;
    scene.line.becomes(Quality::Good);
    scene.recover().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs redis-server"]
async fn a_fleet_starts_without_its_server_and_shares_once_it_is_there() {
    let _machine = machine().await;
    let mut server = Server::start().await;
    server.kill();
    let setup = Setup {
        destinations: 2,
        ..Setup::default()
    };
    let mut fleet = Fleet::at(site(setup, server.address).await);
    for _ in 0..REPLICAS {
        fleet.grow().await;
    }
    for mut client in fleet.clients().await {
        ask(&mut client, "d0").await.unwrap();
    }
    for replica in &fleet.replicas {
        until("it is ready", async || replica.app.is_ready()).await;
    }
    server.restart().await;
    fleet.connected().await;
    fleet.agreed("d1").await;
    assert_eq!(fleet.site.upstream.calls_for("d1"), 1);
    fleet.stop().await;
}
