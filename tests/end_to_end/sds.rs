use std::{fmt::Debug, time::Duration};

use envoy_types::pb::{
    envoy::{
        config::core::v3::data_source::Specifier,
        extensions::transport_sockets::tls::v3::{Secret, secret},
        service::{
            discovery::v3::{
                DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse,
            },
            secret::v3::secret_discovery_service_client::SecretDiscoveryServiceClient,
        },
    },
    google::{protobuf::Any, rpc},
};
use prost::Message as _;
use token_broker::{
    api::v1::{GetTokenResponse, ReportRejectedRequest},
    upstream::standin::Behaviour,
};
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::{Code, Status, Streaming, transport::Channel};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;

use crate::trial::{CART, GIVE_UP, STRANGER, Setup, Site, Trial, ask, reason};

const TYPE_URL: &str = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret";
/// Nothing comes for so long: nothing will.
const QUIET: Duration = Duration::from_millis(300);
/// How often something is looked at that announces nothing.
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// Both ends of a stream.
struct Conversation<Q, A> {
    requests: mpsc::UnboundedSender<Q>,
    answers: Streaming<A>,
}

impl<Q: Debug, A: Debug> Conversation<Q, A> {
    fn say(&self, request: Q) {
        self.requests.send(request).unwrap();
    }

    async fn hear(&mut self) -> A {
        self.answers.message().await.unwrap().unwrap()
    }

    /// How the stream ends.
    async fn end(&mut self) -> Result<Option<A>, Status> {
        self.answers.message().await
    }

    async fn hears_nothing(&mut self) {
        let heard = timeout(QUIET, self.answers.message()).await;
        assert!(heard.is_err(), "{heard:?}");
    }
}

pub(crate) async fn client(trial: &Trial, caller: &str) -> SecretDiscoveryServiceClient<Channel> {
    let signed = trial.authority.client(caller).unwrap();
    SecretDiscoveryServiceClient::new(trial.connect(&signed).await.unwrap())
}

async fn stream(trial: &Trial, caller: &str) -> Conversation<DiscoveryRequest, DiscoveryResponse> {
    let (requests, sent) = mpsc::unbounded_channel();
    let sent = UnboundedReceiverStream::new(sent);
    let answers = client(trial, caller).await.stream_secrets(sent).await;
    Conversation {
        requests,
        answers: answers.unwrap().into_inner(),
    }
}

async fn delta(
    trial: &Trial,
    caller: &str,
) -> Conversation<DeltaDiscoveryRequest, DeltaDiscoveryResponse> {
    let (requests, sent) = mpsc::unbounded_channel();
    let sent = UnboundedReceiverStream::new(sent);
    let answers = client(trial, caller).await.delta_secrets(sent).await;
    Conversation {
        requests,
        answers: answers.unwrap().into_inner(),
    }
}

pub(crate) fn wanting(names: &[&str]) -> DiscoveryRequest {
    DiscoveryRequest {
        resource_names: names.iter().map(|name| (*name).to_owned()).collect(),
        type_url: TYPE_URL.to_owned(),
        ..DiscoveryRequest::default()
    }
}

fn acknowledging(answer: &DiscoveryResponse, names: &[&str]) -> DiscoveryRequest {
    DiscoveryRequest {
        version_info: answer.version_info.clone(),
        response_nonce: answer.nonce.clone(),
        ..wanting(names)
    }
}

fn changing(subscribe: &[&str], unsubscribe: &[&str]) -> DeltaDiscoveryRequest {
    let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    DeltaDiscoveryRequest {
        type_url: TYPE_URL.to_owned(),
        resource_names_subscribe: owned(subscribe),
        resource_names_unsubscribe: owned(unsubscribe),
        ..DeltaDiscoveryRequest::default()
    }
}

/// The name and the text of a secret.
pub(crate) fn opened(resource: &Any) -> (String, String) {
    assert_eq!(resource.type_url, TYPE_URL);
    let secret = Secret::decode(resource.value.as_slice()).unwrap();
    let Some(secret::Type::GenericSecret(generic)) = secret.r#type else {
        panic!("not a generic secret");
    };
    let Some(Specifier::InlineString(text)) = generic.secret.unwrap().specifier else {
        panic!("not an inline string");
    };
    (secret.name, text)
}

/// The one secret of an answer.
fn only(answer: &DiscoveryResponse) -> (String, String) {
    assert_eq!(answer.type_url, TYPE_URL);
    assert_eq!(answer.resources.len(), 1);
    opened(&answer.resources[0])
}

async fn token(trial: &Trial, destination: &str) -> GetTokenResponse {
    ask(&mut trial.client(CART).await, destination)
        .await
        .unwrap()
}

/// Has the token of a destination replaced.
async fn rotate(trial: &Trial, destination: &str) {
    let request = ReportRejectedRequest {
        destination_id: destination.to_owned(),
        token_id: token(trial, destination).await.token_id,
    };
    let mut client = trial.client(CART).await;
    client.report_rejected(request).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_comes_at_once_and_each_successor_exactly_once() {
    let trial = Trial::with(1).await;
    let mut sds = stream(&trial, CART).await;
    sds.say(wanting(&["d0"]));
    let first = sds.hear().await;
    let current = token(&trial, "d0").await;
    assert_eq!(only(&first), ("d0".to_owned(), current.access_token));
    assert_eq!(first.version_info, current.token_id);
    sds.say(acknowledging(&first, &["d0"]));
    sds.hears_nothing().await;

    rotate(&trial, "d0").await;
    let second = sds.hear().await;
    let successor = token(&trial, "d0").await;
    assert_eq!(only(&second), ("d0".to_owned(), successor.access_token));
    assert_ne!(second.version_info, first.version_info);
    assert_ne!(second.nonce, first.nonce);
    sds.say(acknowledging(&second, &["d0"]));
    sds.hears_nothing().await;
    assert_eq!(trial.upstream.calls(), 2);

    let (_, metrics) = trial.http("/metrics").await;
    let line = r#"token_broker_calls_total{door="sds",destination="d0",outcome="ok"} 1"#;
    assert!(metrics.lines().any(|found| found == line), "{metrics}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rejected_secret_is_not_sent_again_but_its_successor_is() {
    let trial = Trial::with(1).await;
    let mut sds = stream(&trial, CART).await;
    sds.say(wanting(&["d0"]));
    let first = sds.hear().await;
    let rejection = DiscoveryRequest {
        error_detail: Some(rpc::Status {
            code: 3,
            message: "not liked".to_owned(),
            ..rpc::Status::default()
        }),
        response_nonce: first.nonce.clone(),
        ..wanting(&["d0"])
    };
    sds.say(rejection.clone());
    sds.say(rejection);
    sds.hears_nothing().await;
    rotate(&trial, "d0").await;
    assert_ne!(sds.hear().await.version_info, first.version_info);
}

#[tokio::test(flavor = "multi_thread")]
async fn names_are_added_and_removed_in_a_stream() {
    let trial = Trial::with(3).await;
    let mut sds = stream(&trial, CART).await;
    sds.say(wanting(&["d0"]));
    let mut answer = sds.hear().await;
    assert_eq!(only(&answer).0, "d0");
    // A configured name is as good as an id, and the secret bears the name that was used.
    sds.say(acknowledging(&answer, &["d0", "name-of-d1", "d2"]));
    let mut told = Vec::new();
    for _ in 0..2 {
        answer = sds.hear().await;
        told.push(only(&answer).0);
    }
    told.sort();
    assert_eq!(told, ["d2", "name-of-d1"]);

    sds.say(acknowledging(&answer, &["d2"]));
    sds.hears_nothing().await;
    rotate(&trial, "d0").await;
    sds.hears_nothing().await;
    rotate(&trial, "d2").await;
    assert_eq!(only(&sds.hear().await).0, "d2");
    // Who comes back gets what is current.
    sds.say(wanting(&["d0", "d2"]));
    let back = only(&sds.hear().await);
    assert_eq!(
        back,
        ("d0".to_owned(), token(&trial, "d0").await.access_token)
    );
    sds.say(wanting(&[]));
    sds.hears_nothing().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forbidden_name_ends_a_stream_of_the_whole_state() {
    let trial = Trial::with(1).await;
    let mut told = Vec::new();
    for (caller, name) in [(STRANGER, "d0"), (STRANGER, "nowhere"), (CART, "nowhere")] {
        let mut sds = stream(&trial, caller).await;
        sds.say(wanting(&[name]));
        let status = sds.end().await.unwrap_err();
        assert_eq!(reason(&status), "NOT_GRANTED");
        told.push((
            status.code(),
            status.message().to_owned(),
            status.details().to_owned(),
        ));
    }
    assert!(told.iter().all(|status| *status == told[0]));
    for (name, expected) in [
        ("public", "DESTINATION_UNPROTECTED"),
        ("no such/id", "INVALID_DESTINATION_ID"),
        ("*", "INVALID_DESTINATION_ID"),
    ] {
        let mut sds = stream(&trial, CART).await;
        sds.say(wanting(&[name]));
        assert_eq!(reason(&sds.end().await.unwrap_err()), expected, "{name}");
    }
    assert_eq!(trial.upstream.calls(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_is_bounded_and_has_one_type() {
    let trial = Trial::with(1).await;
    let many: Vec<_> = (0..101).map(|n| format!("n{n}")).collect();
    let many: Vec<_> = many.iter().map(String::as_str).collect();
    let other = DiscoveryRequest {
        type_url: "type.googleapis.com/envoy.config.cluster.v3.Cluster".to_owned(),
        ..wanting(&["d0"])
    };
    for request in [wanting(&many), other] {
        let mut sds = stream(&trial, CART).await;
        sds.say(request);
        let status = sds.end().await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
    }
    let mut sds = delta(&trial, CART).await;
    sds.say(changing(&["d0"], &[]));
    sds.hear().await;
    sds.say(changing(&many[..100], &[]));
    let status = sds.end().await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_has_its_share_of_streams() {
    let trial = Trial::start(Setup {
        destinations: 1,
        server: "max_connections_per_caller = 1",
        ..Setup::default()
    })
    .await;
    let signed = trial.authority.client(CART).unwrap();
    let channel = trial.connect(&signed).await.unwrap();
    let cart = SecretDiscoveryServiceClient::new(channel.clone());
    let mut streams = Vec::new();
    for _ in 0..2 {
        let (sender, sent) = mpsc::unbounded_channel();
        let sent = UnboundedReceiverStream::new(sent);
        let answers = cart.clone().stream_secrets(sent).await.unwrap();
        sender.send(wanting(&["d0"])).unwrap();
        let mut answers = answers.into_inner();
        answers.message().await.unwrap();
        streams.push((sender, answers));
    }
    // Whatever may last for ever without a grant, or is asked for in many words, counts.
    let mut health = HealthClient::new(channel.clone());
    let mut reflection = ServerReflectionClient::new(channel);
    for refused in [
        cart.clone()
            .stream_secrets(tokio_stream::pending())
            .await
            .map(drop),
        cart.clone()
            .delta_secrets(tokio_stream::pending())
            .await
            .map(drop),
        cart.clone().fetch_secrets(wanting(&["d0"])).await.map(drop),
        health.watch(HealthCheckRequest::default()).await.map(drop),
        reflection
            .server_reflection_info(tokio_stream::pending())
            .await
            .map(drop),
    ] {
        assert_eq!(reason(&refused.unwrap_err()), "OVERLOADED");
    }
    health.check(HealthCheckRequest::default()).await.unwrap();
    // One that has ended leaves its place.
    streams.pop();
    let watching = async {
        loop {
            if let Ok(watching) = health.watch(HealthCheckRequest::default()).await {
                return watching;
            }
            sleep(LOOK_AGAIN).await;
        }
    };
    let _watching = timeout(GIVE_UP, watching).await.unwrap();
    let refused = cart.clone().fetch_secrets(wanting(&["d0"])).await;
    assert_eq!(reason(&refused.unwrap_err()), "OVERLOADED");
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_name_what_came_and_what_went() {
    let trial = Trial::with(2).await;
    let mut sds = delta(&trial, CART).await;
    sds.say(changing(&["d0", "nowhere", "public"], &[]));
    let refused = sds.hear().await;
    assert_eq!(refused.removed_resources, ["nowhere", "public"]);
    assert!(refused.resources.is_empty());
    let first = sds.hear().await;
    let current = token(&trial, "d0").await;
    let [resource] = first.resources.as_slice() else {
        panic!("one resource");
    };
    assert_eq!(resource.name, "d0");
    assert_eq!(resource.version, current.token_id);
    let secret = opened(resource.resource.as_ref().unwrap());
    assert_eq!(secret, ("d0".to_owned(), current.access_token));
    assert_ne!(first.nonce, refused.nonce);

    sds.hears_nothing().await;
    rotate(&trial, "d0").await;
    assert_ne!(sds.hear().await.resources[0].version, current.token_id);
    // Who subscribes again is told again.
    sds.say(changing(&["d0"], &[]));
    assert_eq!(sds.hear().await.resources[0].name, "d0");
    sds.say(changing(&["d1"], &["d0"]));
    assert_eq!(sds.hear().await.resources[0].name, "d1");
    sds.hears_nothing().await;
}

/// Takes away every grant, and waits for a stream that is told so.
fn withdraw(trial: &Trial) {
    let config = std::fs::read_to_string(trial.config()).unwrap();
    let config = config.replace(
        "spiffe://corp.example/ns/shop/sa/*",
        "spiffe://corp.example/x",
    );
    std::fs::write(trial.config(), config).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_grant_that_is_withdrawn_ends_or_removes() {
    let trial = Trial::with(1).await;
    let mut whole = stream(&trial, CART).await;
    whole.say(wanting(&["d0"]));
    whole.hear().await;
    let mut changes = delta(&trial, CART).await;
    changes.say(changing(&["d0"], &[]));
    changes.hear().await;
    withdraw(&trial);
    assert_eq!(reason(&whole.end().await.unwrap_err()), "NOT_GRANTED");
    assert_eq!(changes.hear().await.removed_resources, ["d0"]);
    changes.hears_nothing().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_token_nothing_is_said_until_there_is_one() {
    let trial = Trial::with(1).await;
    trial.upstream.behave(Behaviour::status(503));
    let mut whole = stream(&trial, CART).await;
    whole.say(wanting(&["d0"]));
    whole.hears_nothing().await;
    let mut changes = delta(&trial, CART).await;
    changes.say(changing(&["d0"], &[]));
    assert_eq!(changes.hear().await.removed_resources, ["d0"]);
    trial.upstream.behave(Behaviour::default());
    let secret = only(&whole.hear().await);
    let resource = loop {
        let change = changes.hear().await;
        if let Some(resource) = change.resources.into_iter().next() {
            break resource;
        }
    };
    assert_eq!(opened(resource.resource.as_ref().unwrap()), secret);
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_end_with_the_broker() {
    let trial = Trial::with(1).await;
    let mut whole = stream(&trial, CART).await;
    whole.say(wanting(&["d0"]));
    whole.hear().await;
    let mut changes = delta(&trial, CART).await;
    changes.say(changing(&["d0"], &[]));
    changes.hear().await;
    trial.app.stop().await;
    assert!(whole.end().await.unwrap().is_none());
    assert!(changes.end().await.unwrap().is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn secrets_can_be_polled() {
    let trial = Trial::with(2).await;
    let mut cart = client(&trial, CART).await;
    let answer = cart.fetch_secrets(wanting(&["d1", "d0"])).await.unwrap();
    let answer = answer.into_inner();
    let secrets: Vec<_> = answer.resources.iter().map(opened).collect();
    let tokens = [token(&trial, "d0").await, token(&trial, "d1").await];
    assert_eq!(
        secrets[0],
        ("d0".to_owned(), tokens[0].access_token.clone())
    );
    assert_eq!(
        secrets[1],
        ("d1".to_owned(), tokens[1].access_token.clone())
    );
    assert_eq!(
        answer.version_info,
        format!("{},{}", tokens[0].token_id, tokens[1].token_id)
    );
    let mut stranger = client(&trial, STRANGER).await;
    let refused = stranger.fetch_secrets(wanting(&["d0"])).await;
    assert_eq!(reason(&refused.unwrap_err()), "NOT_GRANTED");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_that_cannot_be_recorded_is_sent_once_it_can() {
    let site = Site::new(Setup {
        destinations: 1,
        audit: "file = \"audit.jsonl\"",
        ..Setup::default()
    })
    .await;
    let pipe = site.folder.path().join("audit.jsonl");
    let made = std::process::Command::new("mkfifo").arg(&pipe).status();
    assert!(made.unwrap().success());
    let trial = Trial::of(site).await;
    let mut state = stream(&trial, CART).await;
    state.say(wanting(&["d0"]));
    let mut changes = delta(&trial, CART).await;
    changes.say(changing(&["d0"], &[]));
    // Long enough for the sink to fail, and to have told both.
    for _ in 0..3 {
        state.hears_nothing().await;
        changes.hears_nothing().await;
    }

    let reader = std::thread::spawn(move || std::fs::read_to_string(pipe).unwrap());
    let answer = state.hear().await;
    let change = changes.hear().await;
    assert_eq!(change.removed_resources, [""; 0]);
    let secrets = [
        &answer.resources[0],
        change.resources[0].resource.as_ref().unwrap(),
    ];
    let [(_, one), (_, other)] = secrets.map(opened);
    assert!(one == other && trial.upstream.minted_for(&one).is_some());
    let (app, _site) = trial.into_parts();
    app.stop().await;
    let records = reader.join().unwrap();
    assert_eq!(records.matches("\"door\":\"sds\"").count(), 2);
}
