//! A master, two replicas and three sentinels.

use std::{sync::Arc, time::Duration};

use super::{
    super::{Beginning, News, Settings, Trouble},
    contract,
    fixture::{Replica, kept, local, name, sealed, settings},
    guarded::tls_lines,
    server::{Server, free_port, until},
};
use crate::{
    cli::dev::Authority,
    secret::Secret,
    shared_cache::{
        record::Kind,
        settings::{Login, Servers, Tls},
    },
};

const LONG: Duration = Duration::from_secs(60);

struct Site {
    servers: Vec<Server>,
    sentinels: Vec<Server>,
}

impl Site {
    fn start(quorum: usize) -> Self {
        let master = Server::start("repl-diskless-sync-delay 0\n");
        let follow = format!(
            "replicaof 127.0.0.1 {}\nrepl-diskless-sync-delay 0\n",
            master.port
        );
        let mut servers = vec![master];
        servers.extend((0..2).map(|_| Server::start(&follow)));
        let lines = format!(
            "sentinel monitor tokens 127.0.0.1 {} {quorum}\nsentinel down-after-milliseconds tokens 500\nsentinel failover-timeout tokens 3000\nuser default off\nuser seeker on >sesame ~* &* -@all +sentinel|get-master-addr-by-name\nuser admin on nopass ~* &* +@all\nsentinel sentinel-user admin\nsentinel sentinel-pass x\n",
            servers[0].port
        );
        let sentinels = (0..3)
            .map(|_| Server::start_at(free_port(), "redis-sentinel", &lines))
            .collect();
        Self { servers, sentinels }
    }

    fn settings(&self) -> Settings {
        Settings {
            servers: Servers::Sentinel {
                sentinels: self.sentinels.iter().map(|one| local(one.port)).collect(),
                master: "tokens".to_owned(),
                login: seeker(),
            },
            ..settings(0)
        }
    }

    fn ask(&self, sentinel: usize, arguments: &[&str]) -> String {
        let login = ["--user", "admin", "--pass", "x", "--no-auth-warning"];
        self.sentinels[sentinel].cli(&[&login, arguments].concat())
    }

    async fn knows_itself(&self) {
        until(
            "the sentinels know each other and the replicas",
            async || {
                (0..3).all(|sentinel| {
                    let master = self.ask(sentinel, &["sentinel", "master", "tokens"]);
                    let lines: Vec<_> = master.lines().collect();
                    let is = |name, value| lines.windows(2).any(|pair| pair == [name, value]);
                    is("num-slaves", "2") && is("num-other-sentinels", "2")
                })
            },
        )
        .await;
    }
}

fn seeker() -> Login {
    Login {
        username: Some("seeker".to_owned()),
        password: Some(Arc::new(Secret::new("sesame".to_owned()))),
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs redis-server"]
async fn a_master_that_is_killed_is_followed_by_the_one_that_is_promoted() {
    let mut site = Site::start(2);
    site.knows_itself().await;
    let mut replica = Replica::connected(site.settings()).await;
    contract::run_all(&replica, site.settings()).await;
    let (name, token) = (name(), sealed());
    let outcome = Some(kept(Kind::Token, &token, LONG));
    assert_eq!(replica.store.finish(&name, None, outcome).await, Ok(true));
    let copied = site.servers[0].cli(&["wait", "2", "5000"]);
    println!("replicas that have it: {copied}");
    while replica.news.try_recv().is_ok() {}
    // One sentinel is gone as well.
    site.sentinels[0].kill();
    site.servers[0].kill();
    until("it is noticed", async || !replica.is_up()).await;
    replica.answers().await;
    assert_eq!(replica.store.look(&name).await.unwrap()[0].sealed, token);
    until("turns are granted", async || {
        let began = replica
            .store
            .begin(&super::fixture::name(), &[], LONG)
            .await;
        matches!(began, Ok(Beginning::Granted(_)))
    })
    .await;
    assert!(matches!(replica.hears().await, Some(News::Connected)));
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs redis-server"]
async fn a_master_that_is_demoted_is_left_for_the_new_one() {
    let site = Site::start(2);
    site.knows_itself().await;
    let replica = Replica::connected(site.settings()).await;
    let old = site.ask(1, &["sentinel", "get-master-addr-by-name", "tokens"]);
    assert_eq!(site.ask(1, &["sentinel", "failover", "tokens"]), "OK");
    until("another is in charge", async || {
        (0..3).all(|one| site.ask(one, &["sentinel", "get-master-addr-by-name", "tokens"]) != old)
    })
    .await;
    until("turns are granted", async || {
        let began = replica.store.begin(&name(), &[], LONG).await;
        matches!(began, Ok(Beginning::Granted(_)))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs redis-server"]
async fn whoever_sentinels_do_not_know_is_told_so() {
    let site = Site::start(2);
    let with = |master: &str, login: Login| {
        let Servers::Sentinel { sentinels, .. } = site.settings().servers else {
            unreachable!()
        };
        let master = master.to_owned();
        Settings {
            servers: Servers::Sentinel {
                sentinels,
                master,
                login,
            },
            ..site.settings()
        }
    };
    for (settings, trouble) in [
        (with("others", seeker()), Trouble::Unreachable),
        (with("tokens", Login::default()), Trouble::Denied),
    ] {
        let replica = Replica::start(Some(settings));
        replica.store.settled().await;
        let answer = replica.store.look(&name()).await;
        assert_eq!(answer.unwrap_err(), trouble);
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs redis-server"]
async fn sentinels_are_asked_over_tls_as_well() {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let authority = Authority::new().unwrap();
    let (lines, folder) = tls_lines(&authority, "tls-replication yes\n");
    let master = Server::start(&lines);
    let watch = format!(
        "{lines}sentinel monitor tokens 127.0.0.1 {} 1\n",
        master.port
    );
    let sentinel = Server::start_at(free_port(), "redis-sentinel", &watch);
    let client = authority.client("spiffe://td/broker").unwrap();
    let settings = Settings {
        servers: Servers::Sentinel {
            sentinels: vec![local(free_port()), local(sentinel.port)],
            master: "tokens".to_owned(),
            login: Login::default(),
        },
        tls: Some(Tls {
            ca: Some(authority.certificate().as_bytes().to_vec()),
            client: Some((client.certificate.into_bytes(), Arc::new(client.key))),
        }),
        ..settings(0)
    };
    let replica = Replica::connected(settings.clone()).await;
    contract::run_all(&replica, settings).await;
    drop(folder);
}
