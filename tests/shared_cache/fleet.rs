//! Replicas of one broker, and what they share.

use std::{fs, net::SocketAddr, path::PathBuf, time::Duration};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use token_broker::{
    api::{admin::v1::admin_client::AdminClient, v1::token_broker_client::TokenBrokerClient},
    app::App,
};
use tokio::time::{Instant, sleep};
use tonic::transport::Channel;

use crate::{
    server::PASSWORD,
    trial::{CART, GIVE_UP, Setup, Site, ask, http},
};

/// How often something is looked at that announces nothing.
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// Replicas in this process, and all that they need.
pub(crate) struct Fleet {
    pub(crate) site: Site,
    pub(crate) replicas: Vec<Replica>,
}

/// One of them.
pub(crate) struct Replica {
    pub(crate) app: App,
    /// Its configuration.
    pub(crate) file: PathBuf,
}

impl Fleet {
    /// So many replicas at a server.
    pub(crate) async fn start(replicas: usize, setup: Setup, server: SocketAddr) -> Self {
        let mut fleet = Self::at(site(setup, server).await);
        for _ in 0..replicas {
            fleet.grow().await;
        }
        fleet.connected().await;
        fleet
    }

    /// No replica yet.
    pub(crate) fn at(site: Site) -> Self {
        Self {
            site,
            replicas: Vec::new(),
        }
    }

    /// One replica more. Returns its number.
    pub(crate) async fn grow(&mut self) -> usize {
        self.grow_with(str::to_owned).await
    }

    /// One replica more, with a configuration of its own.
    pub(crate) async fn grow_with(&mut self, change: impl FnOnce(&str) -> String) -> usize {
        let number = self.replicas.len();
        let file = self
            .site
            .folder
            .path()
            .join(format!("replica-{number}.toml"));
        let config = fs::read_to_string(self.site.config()).unwrap();
        fs::write(&file, change(&config)).unwrap();
        let app = App::start(&file).await.unwrap();
        self.replicas.push(Replica { app, file });
        number
    }

    /// Waits until all of them reach their server.
    pub(crate) async fn connected(&self) {
        for replica in &self.replicas {
            let up = async || replica.metrics().await.value("shared_cache_up") == 1;
            until("a replica reaches the server", up).await;
        }
    }

    /// A client of one replica, on a connection of its own.
    pub(crate) async fn client(&self, replica: usize) -> TokenBrokerClient<Channel> {
        TokenBrokerClient::new(self.connect(replica).await)
    }

    /// A client of each replica.
    pub(crate) async fn clients(&self) -> Vec<TokenBrokerClient<Channel>> {
        let mut clients = Vec::new();
        for replica in 0..self.replicas.len() {
            clients.push(self.client(replica).await);
        }
        clients
    }

    /// An operator's client.
    pub(crate) async fn operator(&self, replica: usize) -> AdminClient<Channel> {
        AdminClient::new(self.connect(replica).await)
    }

    async fn connect(&self, replica: usize) -> Channel {
        let address = self.replicas[replica].app.address();
        let endpoint = self.site.endpoint(address, CART);
        endpoint.connect().await.unwrap()
    }

    /// The id of the token that all replicas hand out.
    pub(crate) async fn agreed(&self, destination: &str) -> String {
        let mut ids = Vec::new();
        for mut client in self.clients().await {
            ids.push(ask(&mut client, destination).await.unwrap().token_id);
        }
        ids.dedup();
        assert_eq!(ids.len(), 1, "{destination} has several tokens: {ids:?}");
        ids.remove(0)
    }

    /// The sum of a counter over all replicas.
    pub(crate) async fn sum(&self, start: &str) -> u64 {
        let mut sum = 0;
        for replica in &self.replicas {
            sum += replica.metrics().await.sum(start);
        }
        sum
    }

    /// Stops all replicas.
    pub(crate) async fn stop(self) {
        for replica in self.replicas {
            replica.app.stop().await;
        }
    }
}

impl Replica {
    pub(crate) async fn metrics(&self) -> Metrics {
        Metrics::at(self.app.http_address().unwrap()).await
    }
}

/// All metrics of one replica.
pub(crate) struct Metrics(String);

impl Metrics {
    pub(crate) async fn at(address: SocketAddr) -> Self {
        Self(http(address, "/metrics").await.unwrap().1)
    }

    /// A gauge or counter without the prefix that all have; zero if it is not there.
    pub(crate) fn value(&self, name: &str) -> u64 {
        let start = format!("token_broker_{name} ");
        let value = self.0.lines().find_map(|line| line.strip_prefix(&start));
        value.map_or(0, |value| value.parse().unwrap())
    }

    /// The sum of all whose names and labels begin so.
    pub(crate) fn sum(&self, start: &str) -> u64 {
        let start = format!("token_broker_{start}");
        let lines = self.0.lines().filter(|line| line.starts_with(&start));
        let values = lines.filter_map(|line| line.rsplit_once(' '));
        values.map(|(_, value)| value.parse::<u64>().unwrap()).sum()
    }

    /// What became of an operation on what is shared, so often.
    pub(crate) fn shared(&self, operation: &str, outcome: &str) -> u64 {
        self.value(&format!(
            "shared_cache_operations_total{{operation=\"{operation}\",outcome=\"{outcome}\"}}"
        ))
    }

    /// The lines about what is shared.
    pub(crate) fn about_sharing(&self) -> String {
        let lines = self
            .0
            .lines()
            .filter(|line| line.contains("_shared_cache_"));
        lines
            .filter(|line| !line.starts_with('#'))
            .collect::<Vec<_>>()
            .join("\n")
    }
}

/// What replicas need that share at this server.
pub(crate) async fn site(setup: Setup, server: SocketAddr) -> Site {
    let site = Site::new(setup).await;
    site.configure(|config| {
        format!(
            r#"{config}
[admin]
allow = ["{CART}"]
[shared_cache]
server = "{server}"
password_file = "redis-password"
sealing_keys = ["shared-cache.key"]
"#
        )
    });
    let file = |name: &str, content: &str| {
        fs::write(site.folder.path().join(name), content).unwrap();
    };
    file("redis-password", PASSWORD);
    file("shared-cache.key", &sealing_key());
    site
}

/// A key as operators make them.
pub(crate) fn sealing_key() -> String {
    BASE64_STANDARD.encode(rand::random::<[u8; 32]>())
}

/// Waits until something is so that announces nothing.
pub(crate) async fn until(what: &str, is_so: impl AsyncFn() -> bool) {
    let asked = Instant::now();
    while !is_so().await {
        assert!(asked.elapsed() < GIVE_UP, "never: {what}");
        sleep(LOOK_AGAIN).await;
    }
}
