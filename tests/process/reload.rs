//! SIGHUP: the configuration is read anew.

use rustix::process::Signal;
use tonic::Code;

use crate::{
    broker::{Broker, machine, until},
    trial::{CART, Setup, Site, ask, http},
};

#[tokio::test(flavor = "multi_thread")]
async fn a_hangup_takes_in_a_good_file_and_refuses_a_bad_one() {
    let _machine = machine().await;
    let site = Site::new(Setup {
        destinations: 1,
        ..Setup::default()
    })
    .await;
    site.upstream
        .register("new", "client-of-d0", "canary-secret-of-d0");
    let broker = Broker::start(&site).await;
    let mut client = broker.client(&site).await;
    let reloads = async |outcome: &str| -> u32 {
        let counter = format!("token_broker_reloads_total{{outcome=\"{outcome}\"}} ");
        let (_, metrics) = http(broker.http, "/metrics").await.unwrap();
        let count = metrics.lines().find_map(|line| line.strip_prefix(&counter));
        count.map_or(0, |count| count.parse().unwrap())
    };

    // Nothing has changed: only the signal can be the reason.
    broker.signal(Signal::HUP);
    until("a hangup reloads", async || reloads("ok").await == 1).await;

    let unknown = ask(&mut client, "new").await.unwrap_err();
    assert_eq!(unknown.code(), Code::PermissionDenied);
    site.configure(|config| {
        format!(
            r#"{config}
[[destination]]
id = "new"
upstream = "occtoo"
[[destination.application]]
name = "shop"
credential = "file:d0"
[[destination.grant]]
callers = ["{CART}"]
"#
        )
    });
    broker.signal(Signal::HUP);
    until("the new destination is served", || {
        let mut client = client.clone();
        async move { ask(&mut client, "new").await.is_ok() }
    })
    .await;

    let good = site.configure(|_| "[server".to_owned());
    broker.signal(Signal::HUP);
    until("a broken file is refused", async || {
        reloads("refused").await > 0
    })
    .await;
    for destination in ["d0", "new"] {
        ask(&mut client, destination).await.unwrap();
    }
    let log = broker.log();
    let refusal = log
        .lines()
        .find(|line| line.contains("refused the configuration"));
    println!("refused: {}", refusal.unwrap());

    let before = reloads("ok").await;
    site.configure(|_| good);
    broker.signal(Signal::HUP);
    until("the mended file is taken in", async || {
        reloads("ok").await > before
    })
    .await;
}
