//! Every query of the dashboard has an answer at a Prometheus that looks at brokers at work.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    time::Duration,
};

use serde_json::Value;
use token_broker::{
    metrics::Metrics,
    upstream::standin::{Behaviour, Fault},
};
use tokio::{
    task::JoinSet,
    time::{Instant, interval, sleep},
};

use crate::{
    broker::machine,
    disguise::Disguise,
    fleet::Fleet,
    operator::connect,
    prometheus::{Prometheus, delivered},
    server::Server,
    trial::{CART, GIVE_UP, STRANGER, Setup, ask},
};
use token_broker::api::{
    admin::v1::{QuarantineRequest, RefreshRequest},
    v1::token_broker_client::TokenBrokerClient,
};

fn dashboard() -> Value {
    let path = delivered("deploy/grafana/token-broker.json");
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn text(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}

/// All queries of panels, each after the panel's title, with every variable at what it is when
/// all are chosen.
fn queries() -> Vec<(String, String)> {
    let dashboard = dashboard();
    let mut queries = Vec::new();
    for panel in list(&dashboard["panels"]) {
        for target in list(&panel["targets"]) {
            let mut expression = text(&target["expr"]);
            for (variable, value) in [
                ("$__rate_interval", "1m"),
                ("$job", ".*"),
                ("$instance", ".*"),
                ("$destination", ".*"),
            ] {
                expression = expression.replace(variable, value);
            }
            assert!(!expression.contains('$'), "{expression}");
            queries.push((text(&panel["title"]), expression));
        }
    }
    queries
}

#[test]
fn the_dashboard_is_one_that_grafana_takes() {
    let dashboard = dashboard();
    assert!(dashboard["schemaVersion"].as_u64().unwrap() >= 39);
    let variables = list(&dashboard["templating"]["list"]).iter();
    let variables: Vec<_> = variables.map(|one| text(&one["name"])).collect();
    assert_eq!(variables, ["datasource", "job", "instance", "destination"]);
    let mut ids = BTreeSet::new();
    let mut taken = BTreeMap::new();
    for panel in list(&dashboard["panels"]) {
        assert!(ids.insert(panel["id"].as_u64().unwrap()), "{panel}");
        let place = |side: &str| panel["gridPos"][side].as_u64().unwrap();
        assert!(place("x") + place("w") <= 24, "{panel}");
        for x in place("x")..place("x") + place("w") {
            for y in place("y")..place("y") + place("h") {
                let before = taken.insert((x, y), text(&panel["title"]));
                assert_eq!(before, None, "two panels at {x}, {y}: {}", panel["title"]);
            }
        }
        if panel["type"] == "row" {
            continue;
        }
        assert!(!text(&panel["description"]).is_empty());
        // A dashboard is looked at wherever it was imported.
        for one in list(&panel["targets"]).iter().chain([panel]) {
            assert_eq!(one["datasource"]["uid"], "${datasource}");
        }
    }
}

#[test]
fn every_metric_of_the_dashboard_exists() {
    let exposition = Metrics::new().exposition().unwrap();
    let families: BTreeSet<_> = exposition
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next())
        .collect();
    let text = dashboard().to_string();
    let names: BTreeSet<_> = text
        .split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
        .filter(|name| name.starts_with("token_broker_") || name.starts_with("process_"))
        .collect();
    assert!(names.len() > 25, "{names:?}");
    for name in names {
        let of = ["", "_total", "_bucket", "_info"];
        let known = of.iter().filter_map(|end| name.strip_suffix(end));
        let mut known = known.filter(|family| families.contains(family));
        assert!(known.next().is_some(), "{name} is no metric");
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs prometheus and redis-server"]
async fn every_query_of_the_dashboard_has_an_answer() {
    let _machine = machine().await;
    let server = Server::start().await;
    let setup = Setup {
        destinations: 3,
        audit: "file = \"audit.jsonl\"",
        ..Setup::default()
    };
    let fleet = Fleet::start(1, setup, server.address).await;
    let app = &fleet.replicas[0].app;
    let http = app.http_address().unwrap();
    let prometheus = Prometheus::start(&[("broker", http)]).await;

    // Tokens that are due for a successor after seconds, one that does not come, one that is
    // stopped, callers with and without grants, and connections that come and go.
    fleet.site.upstream.behave(Behaviour {
        lifetime: Duration::from_secs(6),
        ..Behaviour::default()
    });
    let broken = Behaviour::fault(Fault::Status {
        status: 503,
        retry_after: None,
    });
    fleet.site.upstream.behave_for("d1", Some(broken));
    let mut operator = fleet.operator(0).await;
    let stop = QuarantineRequest {
        destination_id: "d2".to_owned(),
        comment: String::new(),
        application: String::new(),
    };
    operator.quarantine(stop).await.unwrap();
    let mut load = JoinSet::new();
    for (caller, destination) in [(CART, "d0"), (CART, "d1"), (STRANGER, "d0")] {
        let channel = connect(app, &fleet.site, caller).await;
        let mut client = TokenBrokerClient::new(channel);
        load.spawn(async move {
            let mut moments = interval(Duration::from_millis(20));
            loop {
                moments.tick().await;
                let _ = ask(&mut client, destination).await;
            }
        });
    }
    let stranger = Disguise::before(app.address(), fleet.site.authority.certificate(), None);
    let papers = crate::disguise::Papers::from(&fleet.site.authority.client(CART).unwrap());
    let visitor = Disguise::before(
        app.address(),
        fleet.site.authority.certificate(),
        Some(&papers),
    );
    load.spawn(async move {
        let mut moments = interval(Duration::from_millis(200));
        loop {
            moments.tick().await;
            drop(stranger.handshake().await);
            drop(visitor.handshake().await);
        }
    });
    load.spawn(async move {
        let mut moments = interval(Duration::from_secs(1));
        loop {
            moments.tick().await;
            let request = RefreshRequest {
                destination_id: "d0".to_owned(),
                application: String::new(),
            };
            operator.refresh(request).await.unwrap();
            // So long that a successor is due before an operator wants it.
            sleep(Duration::from_secs(5)).await;
        }
    });

    let began = Instant::now();
    let mut open = queries();
    assert!(open.len() > 40, "{}", open.len());
    while !open.is_empty() {
        let mut still_open = Vec::new();
        for query in open {
            let series = prometheus.query(&query.1).await;
            let series = series.unwrap_or_else(|error| panic!("{error}: {query:?}"));
            let is_number = |one: &Value| {
                let value = one["value"][1].as_str().unwrap();
                value.parse::<f64>().unwrap().is_finite()
            };
            if !series.iter().any(is_number) {
                still_open.push(query);
            }
        }
        open = still_open;
        assert!(began.elapsed() < GIVE_UP, "nothing for {open:#?}");
        sleep(Duration::from_millis(500)).await;
    }
    load.shutdown().await;
}
