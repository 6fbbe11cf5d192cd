//! A Prometheus in a process of its own, with the rules that are delivered.

use std::{
    collections::BTreeSet,
    fmt::Write as _,
    fs,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Mutex,
    time::Duration,
};

use serde_json::Value;
use tempfile::TempDir;
use tokio::time::{Instant, sleep};
use url::Url;

use crate::trial::{GIVE_UP, http, http_client};

/// How often brokers are scraped and rules are evaluated, and how long a condition has to last:
/// whatever the rules say of that is shortened to this.
const PACE: &str = "500ms";
const LASTS: &str = "1s";
/// How often something is looked at that announces nothing.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// A running Prometheus. Dropped, it is killed.
pub(crate) struct Prometheus {
    child: Child,
    address: SocketAddr,
    /// The alerts that a test has seen firing.
    seen: Mutex<BTreeSet<String>>,
    _folder: TempDir,
}

/// A file that is delivered.
pub(crate) fn delivered(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// The rules as they are delivered, but for how long a condition has to last.
fn hasty_rules() -> String {
    let rules = fs::read_to_string(delivered("deploy/prometheus/alerts.yaml")).unwrap();
    let lines = rules.lines().map(|line| match line.split_once("for: ") {
        Some((indent, _)) if indent.trim().is_empty() => format!("{indent}for: {LASTS}\n"),
        _ => format!("{line}\n"),
    });
    lines.collect()
}

impl Prometheus {
    /// Watches these brokers, each by the name that it goes by and its plain HTTP port.
    pub(crate) async fn start(brokers: &[(&str, SocketAddr)]) -> Self {
        /// Somebody else may take a free port first.
        const TRIES: usize = 5;
        let folder = tempfile::tempdir().unwrap();
        let mut config = format!(
            "global:\n  scrape_interval: {PACE}\n  scrape_timeout: {PACE}\n  evaluation_interval: {PACE}\n\
             rule_files: [alerts.yaml]\nscrape_configs:\n- job_name: token-broker\n  static_configs:\n"
        );
        for (name, address) in brokers {
            let target = "- targets: [\"{address}\"]\n    labels: {instance: \"{name}\"}";
            let target = target
                .replace("{address}", &address.to_string())
                .replace("{name}", name);
            writeln!(config, "  {target}").unwrap();
        }
        fs::write(folder.path().join("prometheus.yaml"), config).unwrap();
        fs::write(folder.path().join("alerts.yaml"), hasty_rules()).unwrap();
        let mut said = String::new();
        for _ in 0..TRIES {
            let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
            let address = free.local_addr().unwrap();
            drop(free);
            let log = fs::File::create(folder.path().join("log")).unwrap();
            let mut child = Command::new("prometheus")
                .arg(format!("--web.listen-address={address}"))
                .arg("--config.file=prometheus.yaml")
                .arg("--storage.tsdb.path=data")
                .current_dir(folder.path())
                .stdout(Stdio::null())
                .stderr(log)
                .spawn()
                .expect("tests/prometheus/run installs prometheus");
            if answers(&mut child, address).await {
                return Self {
                    child,
                    address,
                    seen: Mutex::default(),
                    _folder: folder,
                };
            }
            let _ = child.kill();
            let _ = child.wait();
            said = fs::read_to_string(folder.path().join("log")).unwrap();
        }
        panic!("prometheus does not start: {said}");
    }

    /// What its API answers.
    async fn api(&self, path: &str, parameters: &[(&str, &str)]) -> Result<Value, String> {
        let url = format!("http://{}/api/v1/{path}", self.address);
        let url = Url::parse_with_params(&url, parameters).unwrap();
        let client = http_client().build().unwrap();
        let answer = client.get(url).send().await.unwrap();
        let mut answer: Value = serde_json::from_str(&answer.text().await.unwrap()).unwrap();
        if answer["status"] == "success" {
            Ok(answer["data"].take())
        } else {
            Err(answer["error"].to_string())
        }
    }

    /// The series that an expression has now.
    pub(crate) async fn query(&self, expression: &str) -> Result<Vec<Value>, String> {
        let mut data = self.api("query", &[("query", expression)]).await?;
        Ok(match data["result"].take() {
            Value::Array(series) => series,
            other => vec![other],
        })
    }

    /// Waits until an expression has a series.
    pub(crate) async fn until(&self, expression: &str) -> Vec<Value> {
        let asked = Instant::now();
        loop {
            let series = self.query(expression).await.unwrap();
            if !series.is_empty() {
                return series;
            }
            assert!(asked.elapsed() < GIVE_UP, "never: {expression}");
            sleep(LOOK_AGAIN).await;
        }
    }

    /// Everything that it scrapes.
    pub(crate) async fn targets(&self) -> Vec<Value> {
        let mut data = self.api("targets", &[]).await.unwrap();
        data["activeTargets"].as_array_mut().unwrap().split_off(0)
    }

    /// The names of all metrics.
    pub(crate) async fn metrics(&self) -> BTreeSet<String> {
        let data = self.api("label/__name__/values", &[]).await.unwrap();
        let names = data.as_array().unwrap().iter();
        names
            .map(|name| name.as_str().unwrap().to_owned())
            .collect()
    }

    /// The alerts of this name and instance that are firing.
    async fn firing(&self, alert: &str, instance: Option<&str>) -> Vec<Value> {
        let mut data = self.api("alerts", &[]).await.unwrap();
        let mut alerts = data["alerts"].as_array_mut().unwrap().split_off(0);
        alerts.retain(|one| {
            let labels = &one["labels"];
            one["state"] == "firing"
                && labels["alertname"] == alert
                && instance.is_none_or(|instance| labels["instance"] == instance)
        });
        alerts
    }

    /// Waits until this alert fires, at this broker if it is of one.
    pub(crate) async fn fires(&self, alert: &str, instance: Option<&str>) {
        let asked = Instant::now();
        let firing = loop {
            let firing = self.firing(alert, instance).await;
            if let Some(first) = firing.into_iter().next() {
                break first;
            }
            assert!(asked.elapsed() < GIVE_UP, "{alert} does not fire");
            sleep(LOOK_AGAIN).await;
        };
        for (name, text) in firing["annotations"].as_object().unwrap() {
            let text = text.as_str().unwrap();
            let wrong = ["<no value>", "<error", "()", " ,", "  "];
            let wrong = wrong.iter().find(|wrong| text.contains(**wrong));
            assert!(wrong.is_none(), "{alert}: {name} reads {text:?}");
        }
        self.seen.lock().unwrap().insert(alert.to_owned());
    }

    /// Waits until this alert fires no more.
    pub(crate) async fn resolves(&self, alert: &str, instance: Option<&str>) {
        let asked = Instant::now();
        while !self.firing(alert, instance).await.is_empty() {
            assert!(asked.elapsed() < GIVE_UP, "{alert} does not end");
            sleep(LOOK_AGAIN).await;
        }
    }

    /// Whether a test has seen all of these firing, and no others that it does not tell of.
    pub(crate) fn has_seen(&self, alerts: &[&str]) {
        let told: BTreeSet<_> = alerts.iter().map(|alert| (*alert).to_owned()).collect();
        assert_eq!(*self.seen.lock().unwrap(), told);
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Whether it answers before it ends.
async fn answers(child: &mut Child, address: SocketAddr) -> bool {
    let asked = Instant::now();
    while asked.elapsed() < GIVE_UP && child.try_wait().unwrap().is_none() {
        let ready = http(address, "/-/ready").await;
        if ready.is_ok_and(|(status, _)| status == 200) {
            return true;
        }
        sleep(LOOK_AGAIN).await;
    }
    false
}
