//! Which series there are: those of the configuration, and no others, whoever asks for what.

use std::{collections::BTreeSet, time::Duration};

use token_broker::upstream::standin::{Behaviour, Fault};
use tokio::time::{Instant, sleep};

use crate::{
    exchange::{Exchange, oauth2, occtoo},
    trial::{CART, GIVE_UP, Setup, Trial, ask},
};

/// All series of labels that somebody could try to fill.
async fn series(trial: &Trial) -> BTreeSet<String> {
    let (_, metrics) = trial.http("/metrics").await;
    let lines = metrics.lines().filter(|line| line.contains('{'));
    lines
        .filter_map(|line| line.split_once("} "))
        .map(|(series, _)| series.to_owned())
        .collect()
}

/// A word that nobody said before.
fn word() -> String {
    format!("w{:032x}", rand::random::<u128>())
}

async fn ask_for_what_there_is_not(trial: &Trial) {
    let caller = format!("spiffe://corp.example/ns/{}/sa/{}", word(), word());
    let mut client = trial.client(&caller).await;
    for destination in [word(), "d0".to_owned(), format!("{}/{}", word(), word())] {
        ask(&mut client, &destination).await.unwrap_err();
    }
    let mut exchange = Exchange::of(trial, &caller).await;
    exchange.ask(&oauth2(&word())).await;
    exchange.ask(&occtoo(&word())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_caller_adds_a_series() {
    let trial = Trial::with(1).await;
    ask_for_what_there_is_not(&trial).await;
    // The states of destinations come with the first look of each second.
    let asked = Instant::now();
    let has_looked =
        |series: &BTreeSet<String>| series.iter().any(|one| one.contains("destination_state"));
    while !has_looked(&series(&trial).await) {
        assert!(asked.elapsed() < GIVE_UP, "nobody looks");
        sleep(Duration::from_millis(10)).await;
    }
    let before = series(&trial).await;
    assert!(before.iter().any(|series| series.contains("NOT_GRANTED")));
    for _ in 0..20 {
        ask_for_what_there_is_not(&trial).await;
    }
    // Connections that end meanwhile are none of them.
    let of_callers = |series: &BTreeSet<String>| {
        let mut series = series.clone();
        series.retain(|one| !one.contains("connections_closed"));
        series
    };
    assert_eq!(of_callers(&series(&trial).await), of_callers(&before));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_reload_removes_loses_its_series() {
    let trial = Trial::start(Setup {
        destinations: 2,
        ..Setup::default()
    })
    .await;
    let broken = Fault::Status {
        status: 503,
        retry_after: None,
    };
    trial
        .upstream
        .behave_for("d1", Some(Behaviour::fault(broken)));
    let mut client = trial.client(CART).await;
    ask(&mut client, "d0").await.unwrap();
    ask(&mut client, "d1").await.unwrap_err();
    let has = async |destination: &str| {
        let label = format!("destination=\"{destination}\"");
        let of_it: Vec<_> = series(&trial).await.into_iter().collect();
        of_it.into_iter().filter(|one| one.contains(&label)).count()
    };
    let asked = Instant::now();
    // Calls, mints, the state, the runway and the warning.
    while has("d1").await < 5 {
        assert!(asked.elapsed() < GIVE_UP, "{:#?}", series(&trial).await);
        sleep(Duration::from_millis(50)).await;
    }

    let config = std::fs::read_to_string(trial.config()).unwrap();
    let (kept, removed) = config.split_once("[[destination]]\nid = \"d1\"").unwrap();
    assert!(!removed.contains("[[destination]]"), "it is the last one");
    std::fs::write(trial.config(), kept).unwrap();
    while has("d1").await > 0 {
        assert!(asked.elapsed() < GIVE_UP, "{:#?}", series(&trial).await);
        sleep(Duration::from_millis(50)).await;
    }
    assert!(has("d0").await >= 4);
}
