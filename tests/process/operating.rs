//! Operating a broker that is killed, and what it logs about it.

use rustix::process::Signal;
use serde_json::Value;
use token_broker::{
    api::admin::v1::{
        QuarantineRequest, RefreshRequest, ReleaseRequest, admin_client::AdminClient,
    },
    upstream::standin::Behaviour,
};
use tonic::transport::Channel;

use crate::{
    broker::{Broker, machine, until},
    trial::{CART, Setup, Site, ask, reason},
};

async fn site() -> Site {
    let site = Site::new(Setup {
        destinations: 1,
        ..Setup::default()
    })
    .await;
    site.configure(|config| {
        format!("{config}\n[admin]\nallow = [\"{CART}\"]\nstate_file = \"state.json\"\n")
    });
    site
}

async fn admin(broker: &Broker, site: &Site) -> AdminClient<Channel> {
    let endpoint = site.endpoint(broker.address, CART);
    AdminClient::new(endpoint.connect().await.unwrap())
}

async fn quarantine(admin: &mut AdminClient<Channel>) -> Result<(), tonic::Status> {
    let request = QuarantineRequest {
        destination_id: "d0".to_owned(),
        comment: "x".repeat(1000),
        application: String::new(),
    };
    assert!(admin.quarantine(request).await?.into_inner().kept);
    Ok(())
}

async fn release(admin: &mut AdminClient<Channel>) -> Result<(), tonic::Status> {
    let request = ReleaseRequest {
        destination_id: "d0".to_owned(),
        application: String::new(),
    };
    assert!(admin.release(request).await?.into_inner().kept);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_answered_before_a_kill_is_so_after_it() {
    const KILLS: u32 = 6;
    let _machine = machine().await;
    let site = site().await;
    for round in 0..KILLS {
        let broker = Broker::start(&site).await;
        let mut operator = admin(&broker, &site).await;
        // Each act is answered, until the kill falls into one.
        let acts = tokio::spawn(async move {
            let mut stopped = None;
            for act in 0.. {
                let stops = act % 2 == 0;
                let done = if stops {
                    quarantine(&mut operator).await
                } else {
                    release(&mut operator).await
                };
                if done.is_err() {
                    break;
                }
                stopped = Some(stops);
            }
            stopped
        });
        tokio::time::sleep(std::time::Duration::from_millis(50 + u64::from(round) * 7)).await;
        broker.signal(Signal::KILL);
        let stopped = acts.await.unwrap().expect("one act at least was answered");
        drop(broker);
        let broker = Broker::start(&site).await;
        let asked = ask(&mut broker.client(&site).await, "d0").await;
        // The act that the kill fell into may have been done without an answer.
        let is_stopped = match asked {
            Ok(_) => false,
            Err(status) => reason(&status) == "DESTINATION_QUARANTINED",
        };
        println!("round {round}: answered {stopped}, found {is_stopped}");
        let mut operator = admin(&broker, &site).await;
        // Without a kill in between there is no doubt.
        quarantine(&mut operator).await.unwrap();
        broker.signal(Signal::KILL);
        drop(broker);
        let broker = Broker::start(&site).await;
        let refused = ask(&mut broker.client(&site).await, "d0").await;
        assert_eq!(reason(&refused.unwrap_err()), "DESTINATION_QUARANTINED");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_warning_is_logged_when_it_begins_and_when_it_ends_and_an_act_with_its_outcome() {
    let _machine = machine().await;
    let site = site().await;
    let broker = Broker::start(&site).await;
    let mut operator = admin(&broker, &site).await;
    let mut refresh = async || {
        let request = RefreshRequest {
            destination_id: "d0".to_owned(),
            application: String::new(),
        };
        operator.refresh(request).await.unwrap();
    };
    let logged = |message: &str| -> Vec<Value> {
        let log = broker.log();
        let events = log.lines().map(|line| serde_json::from_str(line).unwrap());
        events
            .filter(|event: &Value| event["message"] == message)
            .collect()
    };
    let begins = "the token endpoint rejects file:d0";
    let ends = "this warning is over";
    site.upstream.behave(Behaviour::status(401));
    for _ in 0..3 {
        refresh().await;
        until("it is said", async || logged(begins).len() == 1).await;
    }
    site.upstream.behave(Behaviour::default());
    refresh().await;
    until("it is over", async || logged(ends).len() == 2).await;
    let warned = logged(begins);
    assert_eq!(warned.len(), 1);
    assert_eq!(warned[0]["level"], "WARN");
    assert_eq!(warned[0]["warning"], "credential_rejected");
    assert_eq!(
        (&warned[0]["destination"], &warned[0]["application"]),
        (&"d0".into(), &"shop".into())
    );
    let acts = logged("an operator acted");
    let outcomes: Vec<_> = acts
        .iter()
        .map(|act| act["outcome"].as_str().unwrap())
        .collect();
    let rejected = "CREDENTIAL_REJECTED";
    assert_eq!(outcomes, [rejected, rejected, rejected, "ok"]);
    assert_eq!(acts[0]["administrator"], CART);
    assert_eq!(
        (&acts[0]["act"], &acts[0]["destination"]),
        (&"refresh".into(), &"d0".into())
    );
    assert!(!acts[0]["request_id"].as_str().unwrap().is_empty());
}
