//! Replicas that know of each other, and of nobody else.

use std::{
    collections::BTreeMap,
    fs,
    process::{Command, Output},
    time::{Duration, SystemTime},
};

use rustix::process::Signal;
use token_broker::api::admin::v1::{ListDestinationsRequest, Replica, admin_client::AdminClient};
use tokio::{task::spawn_blocking, time::Instant};
use tonic::transport::Channel;

use crate::{
    broker::{Broker, PROGRAM, machine},
    fleet::{Fleet, Metrics, sealing_key, site, until},
    server::Server,
    trial::{CART, Setup, Site, ask},
};

/// Where replicas tell of themselves.
const PLACE: &str = "token-broker:replicas";
/// Whoever was not heard of for so long is gone by any clock, and noticed to be with the next word.
const FORGOTTEN: Duration = Duration::from_secs(15 + 5 + 5);

/// What a broker answers an operator who asks for a list.
async fn list(operator: &AdminClient<Channel>) -> Vec<Replica> {
    let request = ListDestinationsRequest {};
    let answer = operator.clone().list_destinations(request).await;
    answer.unwrap().into_inner().replicas
}

impl Fleet {
    async fn known(&self, replica: usize) -> Vec<Replica> {
        list(&self.operator(replica).await).await
    }

    /// Waits until each knows so many, and says so in its metrics as well.
    async fn know(&self, count: usize) {
        for replica in 0..self.replicas.len() {
            until("all are known", async || {
                let metrics = self.replicas[replica].metrics().await;
                let counted = usize::try_from(metrics.value("replicas")).unwrap();
                counted == count && self.known(replica).await.len() == count
            })
            .await;
        }
    }
}

/// What each replica tells of itself, as it is kept.
fn kept(server: &Server) -> BTreeMap<String, Vec<u8>> {
    server.ask(&["HGETALL", PLACE])
}

fn keep(server: &Server, name: &str, value: &[u8]) {
    let mut command = redis::Cmd::new();
    command.arg("HSET").arg(PLACE).arg(name).arg(value);
    command.exec(&mut server.connect()).unwrap();
}

/// The same word, which the server is to keep for half a minute.
fn renewed(value: &[u8]) -> Vec<u8> {
    let colon = value.iter().position(|byte| *byte == b':').unwrap();
    let now = SystemTime::UNIX_EPOCH.elapsed().unwrap().as_millis();
    let mut renewed = format!("{}:", now + 30_000).into_bytes();
    renewed.extend(&value[colon + 1..]);
    renewed
}

fn one() -> Setup {
    Setup {
        destinations: 1,
        ..Setup::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs redis-server"]
async fn each_replica_shows_all_of_them_and_one_that_stops_is_gone_at_once() {
    let _machine = machine().await;
    let server = Server::start().await;
    let mut fleet = Fleet::start(3, one(), server.address).await;
    fleet.know(3).await;
    let host = rustix::system::uname()
        .nodename()
        .to_string_lossy()
        .into_owned();
    let now = i64::try_from(SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs()).unwrap();
    for replica in 0..3 {
        let known = fleet.known(replica).await;
        for (position, one) in known.iter().enumerate() {
            assert_eq!((&one.name, one.is_this), (&host, position == 0));
            assert_eq!(one.version, env!("CARGO_PKG_VERSION"));
            let heard = one.last_heard_at.unwrap().seconds;
            assert!((now - 15..=now + 1).contains(&heard), "{now} {heard}");
            assert!(one.started_at.unwrap().seconds <= heard);
        }
    }
    let shown = shown(&fleet, "destination list").await;
    let line = format!("\n\n3 replicas: {host} (this one), {host}, {host}\n");
    assert!(shown.ends_with(&line), "{shown}");
    let json = self::shown(&fleet, "destination list --output json").await;
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["replicas"].as_array().unwrap().len(), 3);
    assert_eq!(json["replicas"][0]["is_this"], true);

    fleet.replicas.remove(1).app.stop().await;
    assert_eq!(kept(&server).len(), 2);
    let stopped = Instant::now();
    fleet.know(2).await;
    let took = stopped.elapsed();
    println!("the others noticed after {took:?}");
    assert!(took < Duration::from_secs(10), "{took:?}");
    fleet.stop().await;
    assert_eq!(kept(&server).len(), 0);
}

/// What a command prints for an operator.
async fn shown(fleet: &Fleet, words: &str) -> String {
    let folder = fleet.site.folder.path();
    let signed = fleet.site.authority.client(CART).unwrap();
    let (cert, key) = (folder.join("client.pem"), folder.join("client.key"));
    fs::write(&cert, &signed.certificate).unwrap();
    fs::write(&key, signed.key.expose()).unwrap();
    let mut command = Command::new(PROGRAM);
    let address = fleet.replicas[0].app.address();
    command
        .args(words.split(' '))
        .env("TOKEN_BROKER_ENDPOINT", format!("https://{address}"))
        .env("TOKEN_BROKER_CA", folder.join("ca.pem"))
        .env("TOKEN_BROKER_CERT", cert)
        .env("TOKEN_BROKER_KEY", key);
    let output = spawn_blocking(move || command.output()).await;
    let Output { stdout, stderr, .. } = output.unwrap().unwrap();
    assert_eq!(String::from_utf8(stderr).unwrap(), "");
    String::from_utf8(stdout).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs redis-server"]
async fn one_that_is_killed_is_forgotten_although_somebody_puts_its_last_word_back() {
    let _machine = machine().await;
    let server = Server::start().await;
    let site = site(one(), server.address).await;
    let survivor = Broker::start(&site).await;
    let survivors = async || Metrics::at(survivor.http).await.value("replicas");
    until("it is there", async || kept(&server).len() == 1).await;
    let own = kept(&server);
    let mut victim = Broker::start(&site).await;
    until("both are there", async || survivors().await == 2).await;
    victim.signal(Signal::KILL);
    victim.ended().await;
    let killed = Instant::now();
    let mut words = kept(&server);
    words.retain(|name, _| !own.contains_key(name));
    let (name, word) = words.pop_first().unwrap();
    until("it is forgotten", async || {
        keep(&server, &name, &renewed(&word));
        survivors().await == 1
    })
    .await;
    let took = killed.elapsed();
    println!("it is forgotten after {took:?}");
    assert!(
        (Duration::from_secs(9)..FORGOTTEN).contains(&took),
        "{took:?}"
    );
    let metrics = Metrics::at(survivor.http).await;
    assert!(metrics.shared("beat", "expired") > 0);
    // It comes back as another one.
    let back = Broker::start(&site).await;
    until("both are there", async || survivors().await == 2).await;
    drop((victim, back));
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs redis-server"]
async fn without_its_server_each_replica_knows_itself_alone_and_answers() {
    let _machine = machine().await;
    let mut server = Server::start().await;
    let fleet = Fleet::start(2, one(), server.address).await;
    fleet.know(2).await;
    server.kill();
    let killed = Instant::now();
    for mut client in fleet.clients().await {
        ask(&mut client, "d0").await.unwrap();
    }
    fleet.know(1).await;
    assert!(killed.elapsed() < FORGOTTEN, "{:?}", killed.elapsed());
    server.restart().await;
    fleet.know(2).await;
    fleet.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs redis-server"]
async fn what_others_write_shows_nobody_and_does_not_stay() {
    let _machine = machine().await;
    let server = Server::start().await;
    let mut fleet = Fleet::start(2, one(), server.address).await;
    fleet.know(2).await;
    let other = {
        fs::write(fleet.site.folder.path().join("other.key"), sealing_key()).unwrap();
        // Of another namespace, and with another key.
        let of = |change: &dyn Fn(&str) -> String| change(&config(&fleet.site));
        [
            of(&|config| format!("{config}namespace = \"other\"\n")),
            of(&|config| config.replace("shared-cache.key", "other.key")),
        ]
    };
    for config in other {
        fleet.grow_with(|_| config).await;
    }
    until("all four have told of themselves", async || {
        let others: u64 = server.ask(&["HLEN", "other:replicas"]);
        kept(&server).len() == 3 && others == 1
    })
    .await;
    let foreign: BTreeMap<String, Vec<u8>> = server.ask(&["HGETALL", "other:replicas"]);
    let swapped: Vec<_> = kept(&server).into_iter().collect();
    let count = async |outcome| fleet.replicas[0].metrics().await.shared("open", outcome);
    for (name, value) in foreign {
        keep(&server, &name, &renewed(&value));
    }
    // Under names that are others' or nobody's.
    for (at, (_, value)) in swapped.iter().enumerate() {
        keep(&server, &format!("{at:032x}"), &renewed(value));
    }
    let before = count("forged").await;
    until("all of it was looked at", async || {
        count("forged").await >= before + 3 && count("other_key").await >= 2
    })
    .await;
    for replica in 0..2 {
        assert_eq!(fleet.known(replica).await.len(), 2);
    }
    for replica in 2..4 {
        assert_eq!(fleet.known(replica).await.len(), 1);
    }
    // Garbage is swept out, be it ever so much.
    for number in 0..50 {
        keep(&server, &format!("garbage-{number}"), b"x");
    }
    until("it is gone", async || {
        kept(&server).keys().all(|name| !name.contains("garbage"))
    })
    .await;
    server.tell(&["SET", PLACE, "x"]);
    until("they know each other again", async || {
        let kind: String = server.ask(&["TYPE", PLACE]);
        kind == "hash" && kept(&server).len() == 3
    })
    .await;
    for replica in 0..2 {
        until("nobody is missed", async || {
            fleet.known(replica).await.len() == 2
        })
        .await;
    }
    fleet.stop().await;
}

fn config(site: &Site) -> String {
    fs::read_to_string(site.config()).unwrap()
}
