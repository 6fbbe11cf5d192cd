//! The program itself: what its environment changes, and what it logs.

use std::process::Command;

use rustix::process::Signal;
use serde_json::Value;
use token_broker::api::v1::GetTokenRequest;
use tonic::Request;

use crate::{
    broker::{Broker, PROGRAM, machine},
    receiver::{Receiver, hex, named, text},
    trial::{CART, Setup, Site, ask},
    upstream::Upstream,
};

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

/// A broker's program in an environment that would have the OpenTelemetry SDK do something
/// else.
fn misled(to: &Receiver) -> Command {
    let mut program = Command::new(PROGRAM);
    let endpoint = format!("http://{}", to.address);
    for (name, value) in [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", &*endpoint),
        ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", &endpoint),
        ("OTEL_EXPORTER_OTLP_HEADERS", "x-misled=canary"),
        ("OTEL_EXPORTER_OTLP_TRACES_HEADERS", "x-misled=canary"),
        ("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip"),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "1"),
        ("OTEL_TRACES_EXPORTER", "none"),
        ("OTEL_TRACES_SAMPLER", "always_off"),
        ("OTEL_TRACES_SAMPLER_ARG", "0"),
        ("OTEL_SDK_DISABLED", "true"),
        ("OTEL_SERVICE_NAME", "misled"),
        (
            "OTEL_RESOURCE_ATTRIBUTES",
            "service.name=misled,x.misled=canary",
        ),
        ("OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", "0"),
        ("OTEL_SPAN_LINK_COUNT_LIMIT", "0"),
        ("OTEL_BSP_MAX_QUEUE_SIZE", "1"),
        ("OTEL_BSP_SCHEDULE_DELAY", "3600000"),
        ("OTEL_PROPAGATORS", "none"),
        ("HTTP_PROXY", &endpoint),
        ("ALL_PROXY", &endpoint),
    ] {
        program.env(name, value).env(name.to_lowercase(), value);
    }
    program
}

async fn site(telemetry: &str, upstream: &Upstream) -> Site {
    let site = Site::new(Setup {
        destinations: 1,
        upstream: "trace_context = true",
        audit: format!("[telemetry]\nlog_level = \"debug\"\n{telemetry}").leak(),
        ..Setup::default()
    })
    .await;
    upstream.mint_for(&site);
    site
}

async fn end(mut broker: Broker) -> String {
    broker.signal(Signal::TERM);
    let (status, _) = broker.ended().await;
    assert!(status.success(), "{}", broker.log());
    broker.log()
}

#[tokio::test(flavor = "multi_thread")]
async fn no_variable_of_the_environment_redirects_or_changes_what_is_exported() {
    let _machine = machine().await;
    let (right, wrong) = (Receiver::start().await, Receiver::start().await);
    let upstream = Upstream::start().await;
    let lines = format!("otlp_endpoint = \"http://{}\"", right.address);
    let site = site(&lines, &upstream).await;
    let broker = Broker::run(misled(&wrong), &site).await;
    ask(&mut broker.client(&site).await, "d0").await.unwrap();
    right.spans(3).await;
    assert!(right.was_reached());
    end(broker).await;

    let got = right.got();
    assert!(
        got.headers
            .iter()
            .all(|headers| headers.get("x-misled").is_none())
    );
    let resource = got.requests[0].resource_spans[0].resource.clone().unwrap();
    let name = text(&resource.attributes, "service.name");
    assert_eq!(name.as_deref(), Some("token-broker"));
    assert!(!format!("{got:?}", got = got.requests).contains("misled"));
    let spans = got.spans();
    assert!(spans.iter().all(|span| span.attributes.len() > 3));
    assert_eq!(upstream.said().len(), 1);
    assert!(!wrong.was_reached());
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_collector_nothing_is_exported_and_log_lines_carry_the_trace_of_the_caller() {
    let _machine = machine().await;
    let wrong = Receiver::start().await;
    let upstream = Upstream::start().await;
    let site = site("", &upstream).await;
    let broker = Broker::run(misled(&wrong), &site).await;
    let mut client = broker.client(&site).await;
    let mut request = Request::new(GetTokenRequest {
        destination_id: "d0".to_owned(),
        min_validity: None,
    });
    let headers = request.metadata_mut();
    headers.insert("traceparent", PARENT.parse().unwrap());
    client.get_token(request).await.unwrap();
    ask(&mut client, "d0").await.unwrap();
    let log = end(broker).await;

    let events: Vec<Value> = log
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let ids = |message: &str| -> Vec<Option<&str>> {
        let events = events.iter().filter(|event| event["message"] == message);
        events.map(|event| event["trace_id"].as_str()).collect()
    };
    assert_eq!(ids("answered"), [Some(TRACE), None], "{log}");
    assert_eq!(ids("minted a token"), [Some(TRACE)]);
    assert_eq!(upstream.said(), [(None, None)]);
    assert!(!wrong.was_reached());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_client_goes_on_with_the_trace_that_its_environment_names() {
    let _machine = machine().await;
    let receiver = Receiver::start().await;
    let upstream = Upstream::start().await;
    let lines = format!("otlp_endpoint = \"http://{}\"", receiver.address);
    let site = site(&lines, &upstream).await;
    let broker = Broker::start(&site).await;
    let signed = site.authority.client(CART).unwrap();
    let [cert, key] = ["cart.pem", "cart.key"].map(|name| site.folder.path().join(name));
    std::fs::write(&cert, &signed.certificate).unwrap();
    std::fs::write(&key, signed.key.expose()).unwrap();
    for parent in [PARENT, "nonsense"] {
        let output = Command::new(PROGRAM)
            .args(["token", "get", "d0"])
            .arg(format!("--endpoint=https://{}", broker.address))
            .arg("--ca")
            .arg(site.folder.path().join("ca.pem"))
            .arg("--cert")
            .arg(&cert)
            .arg("--key")
            .arg(&key)
            .env("TRACEPARENT", parent)
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
    }
    end(broker).await;
    let spans = receiver.spans(4).await;
    let (traced, others): (Vec<_>, Vec<_>) = spans
        .into_iter()
        .partition(|span| hex(&span.trace_id) == TRACE);
    let call = named(&traced, "tokenbroker.v1.TokenBroker/GetToken");
    assert_eq!(hex(&call.parent_span_id), "b7ad6b7169203331");
    assert_eq!(others.len(), 1);
}
