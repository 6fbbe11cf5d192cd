//! What a fleet asks of the upstream in a day, with time scaled: a token lives two seconds instead
//! of two hours, so it is refreshed each second as it would be each hour.

use std::{env, time::Duration};

use token_broker::upstream::standin::Behaviour;
use tokio::time::sleep;

use crate::{
    broker::machine,
    fleet::{Fleet, site},
    load::Load,
    server::Server,
    trial::{Setup, Site},
};

const REPLICAS: usize = 5;
const KEYS: usize = 100;
const LIFETIME: Duration = Duration::from_secs(2);
/// So often is each key refreshed in two days, unless `SHARED_CACHE_REFRESHES` says otherwise.
const REFRESHES: u32 = 48;
/// Each key is used about so often at each replica.
const USED_EVERY: Duration = Duration::from_millis(1500);

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs redis-server"]
async fn five_replicas_ask_the_upstream_no_more_often_than_one_broker_alone() {
    let _machine = machine().await;
    let refreshes = env::var("SHARED_CACHE_REFRESHES");
    let refreshes = refreshes.map_or(REFRESHES, |count| count.parse().unwrap());
    let server = Server::start().await;
    let keys: Vec<_> = (0..KEYS).map(|n| format!("d{n}")).collect();
    let setup = || Setup {
        destinations: KEYS,
        ..Setup::default()
    };
    let mut lone = Fleet::at(Site::new(setup()).await);
    lone.site.upstream.behave(Behaviour::lifetime(LIFETIME));
    lone.grow().await;
    let mut fleet = Fleet::at(site(setup(), server.address).await);
    fleet.site.upstream.behave(Behaviour::lifetime(LIFETIME));
    for _ in 0..REPLICAS {
        fleet.grow().await;
    }
    fleet.connected().await;

    let pace = USED_EVERY / u32::try_from(KEYS).unwrap();
    let load = Load::start(fleet.clients().await, &keys, pace);
    let lone_load = Load::start(lone.clients().await, &keys, pace);
    // All keys are in use before anything is counted.
    sleep(USED_EVERY * 2).await;
    let before = (fleet.site.upstream.calls(), lone.site.upstream.calls());
    sleep(LIFETIME / 2 * refreshes).await;
    let after = (fleet.site.upstream.calls(), lone.site.upstream.calls());
    let (fleets, lones) = (after.0 - before.0, after.1 - before.1);
    let [fleets, lones] = [fleets, lones].map(|calls| u32::try_from(calls).unwrap());
    let ratio = f64::from(fleets) / f64::from(lones);
    let (outcomes, lone_outcomes) = (load.stop().await, lone_load.stop().await);
    println!(
        "{REPLICAS} replicas: {fleets} upstream calls, one alone: {lones}, ratio {ratio:.4}; \
         {} and {} calls answered",
        outcomes.answered, lone_outcomes.answered
    );
    outcomes.assert_all_answered("at the replicas");
    lone_outcomes.assert_all_answered("at the broker alone");
    assert!((0.98..=1.02).contains(&ratio), "{ratio}");
    fleet.stop().await;
    lone.stop().await;
}
