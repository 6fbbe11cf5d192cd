//! What callers of warm keys notice of a server in trouble:
//! `cargo test --release --test shared_cache -- --ignored --nocapture latency::`.

use std::{collections::BTreeMap, time::Duration};

use tokio::time::sleep;

use crate::{broker::machine, line::Quality, load::Outcomes, outages::Scene, server::PASSWORD};

/// Good and bad times follow each other so often.
const ROUNDS: usize = 5;
const EACH: Duration = Duration::from_secs(3);
/// How much longer 99 of 100 calls may take.
const MOST: f64 = 1.1;

#[derive(Clone, Copy, Debug)]
enum Trouble {
    Gone,
    Suspended,
    Line(Quality),
    Full,
    ReadOnly,
    Denied,
}

impl Trouble {
    fn begin(self, scene: &mut Scene) {
        match self {
            Self::Gone => scene.server.kill(),
            Self::Suspended => scene.server.suspend(),
            Self::Line(quality) => scene.line.becomes(quality),
            Self::Full => scene.server.tell(&["CONFIG", "SET", "maxmemory", "1"]),
            Self::ReadOnly => scene.server.tell(&["REPLICAOF", "127.0.0.1", "1"]),
            Self::Denied => scene.exchange_password(PASSWORD, "another-password"),
        }
    }

    async fn end(self, scene: &mut Scene) {
        match self {
            Self::Gone => scene.server.restart().await,
            Self::Suspended => scene.server.resume(),
            Self::Line(_) => scene.line.becomes(Quality::Good),
            Self::Full => scene.server.tell(&["CONFIG", "SET", "maxmemory", "0"]),
            Self::ReadOnly => scene.server.tell(&["REPLICAOF", "NO", "ONE"]),
            Self::Denied => scene.exchange_password("another-password", PASSWORD),
        }
        scene.fleet.connected().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "a measurement of minutes: --release --ignored"]
async fn a_server_in_trouble_costs_callers_of_warm_keys_no_time() {
    let _machine = machine().await;
    let mut ratios = BTreeMap::new();
    for trouble in [
        Trouble::Gone,
        Trouble::Suspended,
        Trouble::Line(Quality::Firewalled),
        Trouble::Line(Quality::Slow(Duration::from_millis(200))),
        Trouble::Line(Quality::Garbled),
        Trouble::Full,
        Trouble::ReadOnly,
        Trouble::Denied,
    ] {
        let mut scene = Scene::new().await;
        let (mut good, mut bad) = (Outcomes::default(), Outcomes::default());
        for _ in 0..ROUNDS {
            scene.load.look();
            sleep(EACH).await;
            let quiet = scene.load.look();
            quiet.assert_all_answered("in good times");
            good.took.extend(quiet.took);
            trouble.begin(&mut scene);
            sleep(EACH).await;
            let troubled = scene.load.look();
            troubled.assert_all_answered("in trouble");
            bad.took.extend(troubled.took);
            trouble.end(&mut scene).await;
        }
        let ratio = bad.p99().as_secs_f64() / good.p99().as_secs_f64();
        println!(
            "{trouble:?}: p99 {:?} of {} calls before, {:?} of {} during, ratio {ratio:.3}",
            good.p99(),
            good.took.len(),
            bad.p99(),
            bad.took.len()
        );
        ratios.insert(format!("{trouble:?}"), ratio);
        scene.recover().await;
    }
    assert!(ratios.values().all(|ratio| *ratio <= MOST), "{ratios:?}");
}
