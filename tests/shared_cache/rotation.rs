//! Sealing keys are replaced one replica at a time.

use std::{fs, time::Duration};

use crate::{
    broker::machine,
    fleet::{Fleet, Replica, sealing_key, site, until},
    load::Load,
    server::Server,
    trial::{Setup, ask},
};

const OLD: &str = r#"["shared-cache.key"]"#;
const OLD_THEN_NEW: &str = r#"["shared-cache.key", "new.key"]"#;
const NEW_THEN_OLD: &str = r#"["new.key", "shared-cache.key"]"#;
const NEW: &str = r#"["new.key"]"#;
/// Keys that are in use all the time.
const KEYS: usize = 10;
/// Each change at each replica is followed by a look at a key of its own.
const LOOKS: usize = 6;

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs redis-server"]
async fn a_sealing_key_is_replaced_under_load_with_at_most_one_mint_more() {
    let _machine = machine().await;
    let server = Server::start().await;
    let setup = Setup {
        destinations: KEYS + LOOKS,
        ..Setup::default()
    };
    let mut fleet = Fleet::at(site(setup, server.address).await);
    fs::write(fleet.site.folder.path().join("new.key"), sealing_key()).unwrap();
    for _ in 0..2 {
        fleet.grow().await;
    }
    fleet.connected().await;
    let keys: Vec<_> = (0..KEYS).map(|n| format!("d{n}")).collect();
    for key in &keys {
        fleet.agreed(key).await;
    }
    let load = Load::start(fleet.clients().await, &keys, Duration::from_millis(5));
    let mut look = KEYS;
    for (from, to) in [
        (OLD, OLD_THEN_NEW),
        (OLD_THEN_NEW, NEW_THEN_OLD),
        (NEW_THEN_OLD, NEW),
    ] {
        for replica in 0..2 {
            exchange(&fleet.replicas[replica], from, to).await;
            // What one replica mints, the other takes up, whichever of them is ahead.
            let key = format!("d{look}");
            for one in [replica, 1 - replica] {
                ask(&mut fleet.client(one).await, &key).await.unwrap();
            }
            let calls = fleet.site.upstream.calls_for(&key);
            println!("replica {replica}, {to}: {calls} upstream calls for a new key");
            assert_eq!(calls, 1, "{key}");
            load.look().assert_all_answered(to);
            look += 1;
        }
    }
    let newest = fleet.grow_with(|config| config.replace(OLD, NEW)).await;
    let mut client = fleet.client(newest).await;
    for key in &keys {
        ask(&mut client, key).await.unwrap();
    }
    load.stop().await.assert_all_answered("at the end");
    let calls = keys.iter().map(|key| fleet.site.upstream.calls_for(key));
    let calls: Vec<_> = calls.collect();
    println!("upstream calls for each key in use: {calls:?}");
    assert!(calls.iter().all(|calls| *calls <= 2), "{calls:?}");
    fleet.stop().await;
}

async fn exchange(replica: &Replica, from: &str, to: &str) {
    let reloads = async || {
        let metrics = replica.metrics().await;
        let count =
            |outcome: &str| metrics.value(&format!("reloads_total{{outcome=\"{outcome}\"}}"));
        assert_eq!(count("refused"), 0);
        count("ok")
    };
    let before = reloads().await;
    let config = fs::read_to_string(&replica.file).unwrap();
    assert_eq!(config.matches(from).count(), 1);
    fs::write(&replica.file, config.replace(from, to)).unwrap();
    replica.app.reload();
    until("it is taken in", async || reloads().await > before).await;
}
