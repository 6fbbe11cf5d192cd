//! What a broker shows is right in both formats, to the tools that are made for them.

use std::{
    collections::BTreeSet,
    io::Write as _,
    process::{Command, Stdio},
};

use crate::{
    broker::machine,
    dev::Dev,
    prometheus::{Prometheus, delivered},
    trial::http_client,
};

const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
const CLASSIC: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The exposition for whoever accepts this, and what it says that it is.
async fn exposition(dev: &Dev, accept: Option<&str>) -> (String, String) {
    let client = http_client().build().unwrap();
    let mut request = client.get(format!("http://{}/metrics", dev.http));
    if let Some(accept) = accept {
        request = request.header("accept", accept);
    }
    let answer = request.send().await.unwrap();
    let headers = answer.headers();
    assert_eq!(headers["vary"], "accept");
    let media_type = headers["content-type"].to_str().unwrap().to_owned();
    (media_type, answer.text().await.unwrap())
}

/// What `promtool` says, which is nothing if there is nothing to say.
fn promtool(arguments: &[&str], input: &str) -> String {
    let mut child = Command::new("promtool")
        .args(arguments)
        .current_dir(delivered("."))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("tests/prometheus/run installs promtool");
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(input.as_bytes()).unwrap();
    drop(stdin);
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    assert!(output.status.success(), "{said}");
    said
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs prometheus"]
async fn promtool_has_nothing_to_say_of_what_a_broker_shows() {
    let _machine = machine().await;
    let dev = Dev::start();
    dev.warm().await;
    for accept in [None, Some("*/*"), Some("text/plain")] {
        let (media_type, text) = exposition(&dev, accept).await;
        assert_eq!(media_type, CLASSIC);
        assert_eq!(promtool(&["check", "metrics"], &text), "");
        for door in ["grpc", "ext_authz", "oauth2"] {
            let series = format!("token_broker_calls_total{{door=\"{door}\"");
            assert!(text.contains(&series), "{text}");
        }
        assert!(!text.contains("# EOF") && !text.contains("# UNIT"));
    }
    let (media_type, text) = exposition(&dev, Some("application/openmetrics-text")).await;
    assert_eq!(media_type, OPENMETRICS);
    assert!(text.ends_with("# EOF\n"));
}

#[test]
#[ignore = "needs prometheus"]
fn promtool_has_nothing_to_say_of_the_rules_and_the_configuration() {
    for arguments in [
        &["check", "rules", "deploy/prometheus/alerts.yaml"][..],
        &["check", "config", "deploy/prometheus/prometheus.yaml"],
        &["test", "rules", "deploy/prometheus/alerts.test.yaml"],
    ] {
        let said = promtool(arguments, "");
        assert!(said.contains("SUCCESS"), "{said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs prometheus"]
async fn prometheus_scrapes_what_a_broker_shows() {
    let _machine = machine().await;
    let dev = Dev::start();
    dev.warm().await;
    let prometheus = Prometheus::start(&[("dev", dev.http)]).await;
    prometheus.until(r#"up{instance="dev"} == 1"#).await;
    let targets = prometheus.targets().await;
    assert_eq!(targets.len(), 1);
    assert_eq!(targets[0]["lastError"], "");
    assert_eq!(targets[0]["health"], "up");

    // It asks for OpenMetrics, where a counter's family has no `_total`, and has all of it.
    let (_, text) = exposition(&dev, None).await;
    let samples = text.lines().filter(|line| !line.starts_with('#'));
    let shown: BTreeSet<_> = samples
        .map(|line| line.split(['{', ' ']).next().unwrap().to_owned())
        .collect();
    let known = prometheus.metrics().await;
    let missing: Vec<_> = shown.difference(&known).collect();
    assert!(missing.is_empty(), "{missing:?}");
    for (expression, value) in [
        ("token_broker_ready", "1"),
        (r#"sum(token_broker_destinations{state="fresh"})"#, "1"),
        (
            r#"sum(token_broker_calls_total{door="oauth2",outcome="ok"})"#,
            "1",
        ),
        ("token_broker_config_last_reload_successful", "1"),
        (
            r#"token_broker_connections_total{outcome="certificate_missing"}"#,
            "1",
        ),
    ] {
        let series = prometheus.until(expression).await;
        assert_eq!(series[0]["value"][1], value, "{expression}");
    }
}
