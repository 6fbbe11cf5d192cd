//! What of an operator's acts is on record.

use std::{
    fs::{self, File},
    process::Command,
    time::Duration,
};

use serde_json::Value;
use token_broker::{app::App, upstream::standin::Behaviour};
use tokio::task::spawn_blocking;

use crate::{
    desk::{ADMIN, Desk, OPS, until},
    trial::{CART, Setup, Site, ask, reason},
};

async fn recorded_in(audit: &'static str) -> Desk {
    let setup = Setup {
        destinations: 1,
        audit,
        ..Setup::default()
    };
    Desk::start(setup, ADMIN, "").await
}

/// The acts in the audit file: which, on what, and what came of it.
fn acts(desk: &Desk) -> Vec<(String, String, String)> {
    let text = desk.text("audit.jsonl");
    let records = text.lines().map(|line| serde_json::from_str(line).unwrap());
    let acts = records.filter(|record: &Value| record["act"].is_string());
    let acts = acts.map(|record| {
        assert!(!record["request_id"].as_str().unwrap().is_empty());
        let field = |name: &str| record[name].as_str().unwrap_or("-").to_owned();
        let what = ["act", "destination", "application", "comment"].map(field);
        (field("administrator"), what.join(" "), field("outcome"))
    });
    acts.collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_act_is_on_record_before_it_is_answered_refused_or_not() {
    let desk = recorded_in("file = \"audit.jsonl\"\nstall_timeout = \"30s\"").await;
    let ops = desk.ops().await;
    let mut expected = Vec::new();
    let mut expect = |what: &str, outcomes: &[&str]| {
        for outcome in outcomes {
            expected.push((OPS.to_owned(), what.to_owned(), (*outcome).to_owned()));
        }
        // Looked at after each answer.
        assert_eq!(acts(&desk), expected);
    };
    ops.refresh("name-of-d0", "").await.unwrap();
    expect("refresh d0 - -", &["asked", "ok"]);
    ops.quarantine("d0", "shop").await.unwrap();
    expect("quarantine d0 shop it leaks", &["asked", "ok"]);
    ops.refresh("d0", "").await.unwrap();
    expect("refresh d0 - -", &["asked", "DESTINATION_QUARANTINED"]);
    ops.release("d0", "").await.unwrap();
    expect("release d0 - -", &["asked", "ok"]);
    ops.reload().await.unwrap();
    expect("reload - - -", &["asked", "ok"]);
    ops.release("unknown", "").await.unwrap_err();
    expect("release unknown - -", &["asked", "NO_SUCH_DESTINATION"]);
    // Looking and explaining are no acts.
    ops.list().await;
    ops.explain(CART, "d0").await.unwrap();
    ops.unused(0).await;
    expect("", &[]);

    let channel = desk.connect(CART).await;
    let cart =
        crate::desk::Ops(token_broker::api::admin::v1::admin_client::AdminClient::new(channel));
    // The first of a minute stands for all of them.
    for _ in 0..10 {
        cart.quarantine("d0", "").await.unwrap_err();
    }
    assert_eq!(acts(&desk).len(), expected.len() + 1);
    let last = acts(&desk).pop().unwrap();
    let attempt = [CART, "quarantine - - -", "NOT_ADMINISTRATOR"].map(str::to_owned);
    assert_eq!([last.0, last.1, last.2], attempt);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_act_that_was_done_is_answered_so_though_its_outcome_cannot_be_recorded() {
    let setup = Setup {
        destinations: 1,
        audit: "file = \"pipe\"\nstall_timeout = \"30s\"",
        ..Setup::default()
    };
    let site = Site::new(setup).await;
    let config = fs::read_to_string(site.config()).unwrap();
    fs::write(site.config(), format!("{config}\n[admin]\n{ADMIN}\n")).unwrap();
    let pipe = site.folder.path().join("pipe");
    let made = Command::new("mkfifo").arg(&pipe).status().unwrap();
    assert!(made.success());
    let app = App::start(&site.config()).await.unwrap();
    // There is room in it for what is recorded here.
    let reader = spawn_blocking(|| File::open(pipe).unwrap()).await.unwrap();
    let desk = Desk { app, site };
    let slow = Behaviour::delay(Duration::from_secs(2));
    desk.site.upstream.behave(slow);
    let ops = desk.ops().await;
    let refreshing = tokio::spawn(async move { ops.refresh("d0", "").await });
    until("it is asked for", async || desk.site.upstream.calls() == 1).await;
    drop(reader);
    let refreshed = refreshing.await.unwrap().unwrap().refreshed;
    assert_eq!(refreshed[0].reason, "");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_recorded_is_not_done_but_a_quarantine_is() {
    let desk = recorded_in("file = \"/dev/full\"").await;
    let ops = desk.ops().await;
    let refused = [
        ops.refresh("d0", "").await.unwrap_err(),
        ops.release("d0", "").await.unwrap_err(),
        ops.reload().await.unwrap_err(),
    ];
    for status in refused {
        assert_eq!(reason(&status), "AUDIT_UNAVAILABLE");
    }
    assert_eq!(desk.site.upstream.calls(), 0, "nothing was minted");
    assert!(ops.quarantine("d0", "").await.unwrap().kept);
    let status = ask(&mut desk.cart().await, "d0").await.unwrap_err();
    assert_eq!(reason(&status), "DESTINATION_QUARANTINED");
    let status = ops.release("d0", "").await.unwrap_err();
    assert_eq!(reason(&status), "AUDIT_UNAVAILABLE");
    assert!(ops.destination("d0").await.quarantine.is_some());
}
