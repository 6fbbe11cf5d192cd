//! Collectors that are secure, gone, slow, or of another mind.

use std::time::{Duration, Instant};

use token_broker::{app::App, cli::dev::Authority};
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
};

use crate::{
    broker::until,
    receiver::{Behaviour, Receiver, named},
    trial::{CART, Setup, Site, Trial, ask},
};

/// Unoptimised, all that can be told is that nobody waits for the collector.
const AT_ONCE: Duration = Duration::from_secs(2);

async fn trial(telemetry: &str) -> Trial {
    trial_with(telemetry, Vec::new()).await
}

async fn trial_with(telemetry: &str, files: Vec<(&'static str, String)>) -> Trial {
    Trial::start(Setup {
        destinations: 1,
        audit: format!("[telemetry]\n{telemetry}").leak(),
        files,
        ..Setup::default()
    })
    .await
}

/// Whether the metrics say that so many spans ended so, or more of them.
async fn counted(trial: &Trial, outcome: &str, least: u64) -> bool {
    let (_, metrics) = trial.http("/metrics").await;
    let start = format!("token_broker_trace_spans_total{{outcome=\"{outcome}\"}} ");
    let line = metrics.lines().find_map(|line| line.strip_prefix(&*start));
    line.is_some_and(|count| count.parse::<u64>().unwrap() >= least)
}

async fn stop(trial: Trial) -> Site {
    let (app, site): (App, Site) = trial.into_parts();
    let began = Instant::now();
    app.stop().await;
    let took = began.elapsed();
    assert!(took < AT_ONCE, "it took {took:?}");
    site
}

#[tokio::test(flavor = "multi_thread")]
async fn spans_arrive_while_the_broker_runs_and_are_counted() {
    let receiver = Receiver::start().await;
    let trial = trial(&format!("otlp_endpoint = \"http://{}\"", receiver.address)).await;
    ask(&mut trial.client(CART).await, "d0").await.unwrap();
    let spans = receiver.spans(3).await;
    named(&spans, "flight");
    until("they are counted", async || {
        counted(&trial, "exported", 3).await
    })
    .await;
    let (_, metrics) = trial.http("/metrics").await;
    let line = "token_broker_call_duration_seconds_count{door=\"grpc\"} 1\n";
    assert!(metrics.contains(line), "{metrics}");
    stop(trial).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ratio_of_nothing_exports_nothing_of_what_begins_here() {
    let receiver = Receiver::start().await;
    let address = receiver.address;
    let trial = trial(&format!(
        "otlp_endpoint = \"http://{address}\"\ntrace_ratio = 0.0"
    ))
    .await;
    ask(&mut trial.client(CART).await, "d0").await.unwrap();
    stop(trial).await;
    assert_eq!(receiver.got().asked, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_with_tls_must_have_a_certificate_of_its_authorities() {
    let authority = Authority::new().unwrap();
    let signed = authority.server([127, 0, 0, 1].into()).unwrap();
    let receiver = Receiver::secure(&signed).await;
    let endpoint = format!("otlp_endpoint = \"https://{}\"", receiver.address);

    let ca = vec![("otlp-ca.pem", authority.certificate().to_owned())];
    let lines = format!("{endpoint}\notlp_ca = \"otlp-ca.pem\"");
    // The file is written with the others, after the configuration.
    let trusting = trial_with(&lines, ca).await;
    ask(&mut trusting.client(CART).await, "d0").await.unwrap();
    receiver.spans(3).await;
    stop(trusting).await;

    let strict = trial(&endpoint).await;
    ask(&mut strict.client(CART).await, "d0").await.unwrap();
    stop(strict).await;
    assert_eq!(receiver.got().spans().len(), 3, "of the first alone");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_is_back_gets_what_it_missed_once() {
    let receiver = Receiver::start().await;
    receiver.behave(Behaviour::Unavailable);
    let trial = trial(&format!("otlp_endpoint = \"http://{}\"", receiver.address)).await;
    ask(&mut trial.client(CART).await, "d0").await.unwrap();
    receiver.until("it is asked", |got| got.asked > 0).await;
    receiver.behave(Behaviour::Take);
    receiver.spans(3).await;
    stop(trial).await;
    assert_eq!(receiver.got().spans().len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_on_which_nothing_comes_back_is_given_up() {
    let receiver = Receiver::start().await;
    let way = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = way.local_addr().unwrap();
    let behind = receiver.address;
    // As if a machine had died: the first connection stays, and is silent.
    let way = tokio::spawn(async move {
        let (_silent, _) = way.accept().await.unwrap();
        let (mut near, _) = way.accept().await.unwrap();
        let mut far = TcpStream::connect(behind).await.unwrap();
        let _ = copy_bidirectional(&mut near, &mut far).await;
    });
    let trial = trial(&format!("otlp_endpoint = \"http://{address}\"")).await;
    ask(&mut trial.client(CART).await, "d0").await.unwrap();
    receiver.spans(3).await;
    stop(trial).await;
    way.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_collector_refuses_or_rejects_is_counted_and_not_sent_again() {
    let receiver = Receiver::start().await;
    receiver.behave(Behaviour::Refuse);
    let trial = trial(&format!("otlp_endpoint = \"http://{}\"", receiver.address)).await;
    let mut client = trial.client(CART).await;
    ask(&mut client, "d0").await.unwrap();
    until("they failed", async || counted(&trial, "failed", 3).await).await;
    assert_eq!(receiver.got().asked, 1);

    receiver.behave(Behaviour::RejectOne);
    ask(&mut client, "d0").await.unwrap();
    ask(&mut client, "d0").await.unwrap();
    until("one is rejected", async || {
        counted(&trial, "rejected", 1).await
    })
    .await;
    stop(trial).await;
}

/// More than fit into the queue and a batch.
const CALLS: usize = 3_000;

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_is_gone_or_says_nothing_costs_nobody_anything() {
    let receiver = Receiver::start().await;
    receiver.behave(Behaviour::Stall);
    let deaf = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let gone = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addresses = [
        receiver.address,
        deaf.local_addr().unwrap(),
        gone.local_addr().unwrap(),
    ];
    drop(gone);
    for address in addresses {
        let trial = trial(&format!("otlp_endpoint = \"http://{address}\"")).await;
        let mut client = trial.client(CART).await;
        for _ in 0..CALLS {
            let began = Instant::now();
            ask(&mut client, "d0").await.unwrap();
            let took = began.elapsed();
            assert!(took < AT_ONCE, "{address} made a call take {took:?}");
        }
        assert!(
            counted(&trial, "dropped", 400).await,
            "the queue is bounded"
        );
        stop(trial).await;
    }
}
