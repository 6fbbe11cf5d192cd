//! What an operator sees while everything goes well, and while it does not.

use std::{fs, time::Duration};

use serde_json::json;
use token_broker::{app::App, upstream::standin::Behaviour};
use tokio::time::sleep;

use crate::{
    desk::{ADMIN, Desk},
    load::Load,
    reader::Reader,
    trial::{Setup, Site},
};

/// How long tokens live, short enough to see them refreshed.
const LIFE: Duration = Duration::from_secs(120);
/// The one that is seen to die.
const SHORT_LIFE: Duration = Duration::from_secs(24);
/// Between the first callers of two destinations, so that their tokens differ in age. It is no
/// wait for anything.
const APART: Duration = Duration::from_secs(7);
/// What the destinations are called, in their order.
const NAMES: [&str; 7] = [
    "product-catalogue-v2",
    "prices",
    "stock-levels",
    "orders",
    "reviews",
    "media-assets",
    "recommendations",
];

/// A broker whose destinations have names that a reader can tell apart.
async fn desk() -> Desk {
    let setup = Setup {
        destinations: NAMES.len(),
        ..Setup::default()
    };
    let site = Site::new(setup).await;
    let mut config = fs::read_to_string(site.config()).unwrap();
    for (number, name) in NAMES.into_iter().enumerate() {
        config = config.replace(&format!("name-of-d{number}"), name);
    }
    fs::write(site.config(), format!("{config}\n[admin]\n{ADMIN}\n")).unwrap();
    let app = App::start(&site.config()).await.unwrap();
    Desk { app, site }
}

fn row(destination: &str) -> String {
    format!("[id=\"d/{destination}/shop\"]")
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Chromium: tests/browser/run"]
async fn healthy_failing_and_quarantined_destinations_are_seen_live() {
    let desk = desk().await;
    let ops = desk.ops().await;
    let upstream = &desk.site.upstream;
    let mut load = Load::on(&desk);
    upstream.behave(Behaviour::lifetime(LIFE));
    upstream.behave_for("d4", Some(Behaviour::lifetime(SHORT_LIFE)));
    let origin = format!("http://{}", desk.app.http_address().unwrap());
    let mut reader = Reader::of(&origin);
    reader.open("/");
    reader.until("#live", "Live");
    reader.until(&row("d0"), "nobody asked yet");
    for (destination, callers) in [
        ("d0", &["cart", "search"][..]),
        ("d1", &["checkout"]),
        ("d2", &["cart"]),
        ("d3", &["checkout", "back-office"]),
        ("d4", &["product-page"]),
    ] {
        for caller in callers {
            load.asks(&desk, caller, destination).await;
        }
        sleep(APART).await;
    }
    reader.until("#headline", "All is well");
    reader.until(&row("d0"), "fresh");
    reader.picture("healthy");

    // What the reader does outlasts the news.
    reader.click(&format!("{} summary", row("d0")));
    reader.value("document.getElementById('d/d0/shop').firstElementChild.dataset.old = 'yes'");
    let replaced = "document.querySelector('[id=\"d/d0/shop\"] details').dataset.old === 'yes'";
    while reader.value(replaced) == json!(true) {
        sleep(Duration::from_millis(200)).await;
    }
    let open = "document.querySelector('[id=\"d/d0/shop\"] details').open";
    assert_eq!(reader.value(open), json!(true));
    let focused = "document.activeElement.id";
    assert_eq!(reader.value(focused), json!("s/d/d0/shop"));
    reader.until(&row("d0"), "spiffe://corp.example/ns/shop/sa/search");
    reader.picture("details");
    reader.click(&format!("{} summary", row("d0")));

    // The filter is asked of the broker, and its address can be kept.
    reader.fill("#q", "stock");
    reader.until_gone(&row("d0"));
    reader.until("#found", "1 found");
    assert_eq!(reader.value("location.search"), json!("?q=stock"));
    reader.fill("#q", "");
    reader.until(&row("d0"), "fresh");

    // One that cannot refresh, one whose token dies, and one whose credential is rejected.
    let down = Behaviour::status(503);
    upstream.behave_for("d1", Some(down.clone()));
    upstream.behave_for("d4", Some(down));
    upstream.behave_for("d5", Some(Behaviour::status(401)));
    load.asks(&desk, "media-import", "d5").await;
    ops.refresh("d1", "").await.unwrap();
    reader.until(&row("d1"), "refresh failing");
    reader.until(&row("d5"), "CREDENTIAL_REJECTED");
    reader.until(&row("d4"), "no token");
    reader.until("#headline", "2 failing: callers get no token");
    reader.picture("failing");

    // An operator stops one, and lets the others recover.
    for recovered in ["d4", "d5"] {
        upstream.behave_for(recovered, None);
        ops.refresh(recovered, "").await.unwrap();
        reader.until(&row(recovered), "fresh");
    }
    ops.refresh("d1", "").await.unwrap();
    ops.quarantine("d3", "").await.unwrap();
    reader.until(&row("d3"), "it leaks");
    reader.until("#headline", "1 cannot refresh");
    reader.picture("quarantined");
    ops.release("d3", "").await.unwrap();
    reader.until(&row("d3"), "fresh");
    upstream.behave_for("d1", None);
    ops.refresh("d1", "").await.unwrap();
    reader.until("#headline", "All is well");

    reader.was_content(1);
    load.end().await;
    let Desk { app, site } = desk;
    app.stop().await;
    reader.until("#live.lost", "The broker has not answered since");
    reader.picture("stopped");
    drop(site);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Chromium: tests/browser/run"]
async fn without_script_the_page_is_whole() {
    let desk = desk().await;
    let origin = format!("http://{}", desk.app.http_address().unwrap());
    let mut reader = Reader::of(&origin);
    reader.open_without_script("/?q=orders");
    reader.until("#live", "Reload for news");
    reader.until(&row("d3"), "nobody asked yet");
    reader.until("#found", "1 found");
    reader.fill("#q", "prices");
    reader.click("#filter button");
    reader.until(&row("d1"), "prices");
    reader.click(&format!("{} summary", row("d1")));
    reader.until(&row("d1"), "file:d1");
    reader.was_content(2);
}
