//! A cluster of three nodes.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::time::{Instant, timeout};

use super::{
    super::{Beginning, News, Settings, Trouble},
    contract,
    fixture::{Replica, kept, local, name, sealed, settings},
    guarded::COMMANDS,
    server::{PATIENCE, Server, free_port, until},
};
use crate::{
    secret::Secret,
    shared_cache::{
        record::Kind,
        settings::{Login, Servers},
    },
};

const LONG: Duration = Duration::from_secs(60);
const SOON: Duration = Duration::from_millis(300);

struct Cluster {
    nodes: Vec<Server>,
}

impl Cluster {
    async fn start() -> Self {
        Self::start_with("").await
    }

    async fn start_with(lines: &str) -> Self {
        let node = |_| {
            let bus = free_port();
            let lines = format!(
                "cluster-enabled yes\ncluster-port {bus}\ncluster-node-timeout 1000\ncluster-require-full-coverage no\n{lines}"
            );
            (Server::start(&lines), bus)
        };
        let (nodes, buses): (Vec<_>, Vec<_>) = (0..3).map(node).unzip();
        for (node, range) in nodes.iter().zip([(0, 5460), (5461, 10922), (10923, 16383)]) {
            let (first, last) = (range.0.to_string(), range.1.to_string());
            assert_eq!(node.cli(&["cluster", "addslotsrange", &first, &last]), "OK");
        }
        for (node, bus) in nodes.iter().zip(buses).skip(1) {
            let (port, bus) = (node.port.to_string(), bus.to_string());
            assert_eq!(
                nodes[0].cli(&["cluster", "meet", "127.0.0.1", &port, &bus]),
                "OK"
            );
        }
        until("the nodes know each other", async || {
            nodes.iter().all(|node| {
                let info = node.cli(&["cluster", "info"]);
                info.contains("cluster_state:ok")
                    && info.contains("cluster_known_nodes:3")
                    && info.contains("cluster_slots_assigned:16384")
            })
        })
        .await;
        Self { nodes }
    }

    fn settings(&self) -> Settings {
        let nodes = self.nodes.iter().map(|node| local(node.port)).collect();
        Settings {
            servers: Servers::Cluster(nodes),
            ..settings(0)
        }
    }

    fn id(&self, node: usize) -> String {
        self.nodes[node].cli(&["cluster", "myid"])
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs redis-server"]
async fn a_cluster_does_what_every_store_does() {
    let cluster = Cluster::start().await;
    let replica = Replica::connected(cluster.settings()).await;
    contract::run_all(&replica, cluster.settings()).await;
    // One node is enough to find the others, and sees only its own without them.
    let one = Settings {
        servers: Servers::Cluster(vec![local(cluster.nodes[1].port)]),
        ..cluster.settings()
    };
    contract::run_all(&replica, one).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs redis-server"]
async fn in_a_cluster_a_user_needs_two_commands_more() {
    let permitted: String = COMMANDS.map(|command| format!(" +{command}")).concat();
    let user = format!(
        "user broker on >secret ~fleet:* resetchannels &fleet:news -@all{permitted} +cluster|slots +asking\n"
    );
    let cluster = Cluster::start_with(&user).await;
    let settings = Settings {
        login: Login {
            username: Some("broker".to_owned()),
            password: Some(Arc::new(Secret::new("secret".to_owned()))),
        },
        ..cluster.settings()
    };
    let replica = Replica::connected(settings.clone()).await;
    contract::run_all(&replica, settings.clone()).await;
    for node in &cluster.nodes {
        let rule = ["acl", "setuser", "broker", "-cluster|slots"];
        assert_eq!(node.cli(&rule), "OK");
    }
    let replica = Replica::start(Some(settings));
    replica.store.settled().await;
    let looked = replica.store.look(&name()).await;
    assert_eq!(looked.unwrap_err(), Trouble::Denied);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs redis-server"]
async fn a_node_that_is_taken_for_a_server_says_that_others_are_in_charge() {
    let cluster = Cluster::start().await;
    let replica = Replica::start(Some(settings(cluster.nodes[0].port)));
    replica.store.settled().await;
    let (mut here, mut moved) = (0, 0);
    while here == 0 || moved == 0 {
        match replica.store.look(&name()).await {
            Ok(_) => here += 1,
            Err(trouble) => {
                assert_eq!(trouble, Trouble::Moved);
                moved += 1;
            }
        }
    }
    assert!(replica.is_up());
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs redis-server"]
async fn a_slot_moves_while_it_is_in_use() {
    let cluster = Cluster::start().await;
    let replica = Arc::new(Replica::connected(cluster.settings()).await);
    let (name, token) = (name(), sealed());
    let outcome = Some(kept(Kind::Token, &token, LONG));
    assert_eq!(replica.store.finish(&name, None, outcome).await, Ok(true));
    let done = Arc::new(AtomicBool::new(false));
    let reader = tokio::spawn({
        let (replica, done) = (Arc::clone(&replica), Arc::clone(&done));
        async move {
            let (mut right, mut troubles) = (0_u32, Vec::new());
            while !done.load(Ordering::SeqCst) {
                match replica.store.look(&name).await {
                    Ok(entries) => {
                        assert_eq!(entries[0].sealed, token);
                        right += 1;
                    }
                    Err(trouble) => troubles.push(trouble),
                }
            }
            (right, troubles)
        }
    });
    let key = format!("fleet:{{{name}}}:slot");
    let slot = cluster.nodes[0].cli(&["cluster", "keyslot", &key]);
    for _ in 0..3 {
        let from = cluster
            .nodes
            .iter()
            .position(|node| node.cli(&["cluster", "countkeysinslot", &slot]) == "1");
        let from = from.unwrap();
        let to = (from + 1) % 3;
        let (source, target) = (&cluster.nodes[from], &cluster.nodes[to]);
        let (from_id, to_id) = (cluster.id(from), cluster.id(to));
        assert_eq!(
            target.cli(&["cluster", "setslot", &slot, "importing", &from_id]),
            "OK"
        );
        assert_eq!(
            source.cli(&["cluster", "setslot", &slot, "migrating", &to_id]),
            "OK"
        );
        let port = target.port.to_string();
        let migrated = source.cli(&["migrate", "127.0.0.1", &port, &key, "0", "5000"]);
        assert_eq!(migrated, "OK");
        // For a while the keys are at one node, and the slot is another's.
        for _ in 0..20 {
            replica.store.look(&name).await.ok();
        }
        for node in [target, source] {
            assert_eq!(
                node.cli(&["cluster", "setslot", &slot, "node", &to_id]),
                "OK"
            );
        }
    }
    until("it is found", async || {
        replica.store.look(&name).await.is_ok()
    })
    .await;
    done.store(true, Ordering::SeqCst);
    let (right, troubles) = reader.await.unwrap();
    println!("{right} right answers, none wrong, and {troubles:?} while the slot moved");
    assert!(right > 100);
    assert!(troubles.len() < 10);
    assert!(replica.is_up());
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs redis-server"]
async fn a_node_that_is_restarted_leaves_the_others_to_ask_and_is_heard_again() {
    let mut cluster = Cluster::start().await;
    let mut replica = Replica::connected(cluster.settings()).await;
    let names: Vec<_> = (0..60).map(|_| name()).collect();
    let answered = async |replica: &Replica| {
        let mut answered = 0;
        for name in &names {
            answered += usize::from(replica.store.look(name).await.is_ok());
        }
        answered
    };
    assert_eq!(answered(&replica).await, 60);
    for node in 0..3 {
        cluster.nodes[node].kill();
        assert!(answered(&replica).await >= 20, "the others go on");
        cluster.nodes[node].restart();
        until("all of them answer", async || {
            answered(&replica).await == 60
        })
        .await;
        until_heard(&mut replica).await;
    }
    let began = replica.store.begin(&names[0], &[], LONG).await;
    assert!(matches!(began, Ok(Beginning::Granted(_))));
}

/// Waits until the news arrive again, which begins with a word that some may be missing.
async fn until_heard(replica: &mut Replica) {
    let deadline = Instant::now() + PATIENCE;
    let mut is_warned = false;
    loop {
        assert!(Instant::now() < deadline, "nothing is heard");
        let pause = sealed();
        let _ = replica.store.keep_pause(&name(), pause.clone(), LONG).await;
        while let Ok(Some(news)) = timeout(SOON, replica.news.recv()).await {
            match news {
                News::Connected => is_warned = true,
                News::Told(message) if message.sealed == pause && is_warned => return,
                News::Told(_) => {}
            }
        }
    }
}
