//! Who is an administrator, and what everybody else sees.

use prost::Message as _;
use token_broker::api::admin::v1::{ListDestinationsRequest, admin_client::AdminClient};
use token_broker::upstream::standin::Behaviour;
use tonic::{Code, Request, Status, codegen::http::uri::PathAndQuery, transport::Channel};
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};
use tonic_prost::ProstCodec;
use tonic_reflection::pb::v1::{
    ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
    server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
};

use crate::{
    desk::{ADMIN, Desk, OPS, until},
    trial::{CART, STRANGER, Setup, ask, reason},
};

const METHODS: [&str; 8] = [
    "ListDestinations",
    "Explain",
    "Refresh",
    "Quarantine",
    "Release",
    "Reload",
    "UnusedGrants",
    "Nothing",
];

/// A message whose field is no message, or anything else that the service could expect.
#[derive(Clone, PartialEq, Eq, prost::Message)]
struct Anything {
    #[prost(bytes = "vec", tag = "1")]
    field: Vec<u8>,
}

async fn call(channel: Channel, method: &str, field: &[u8]) -> Result<Anything, Status> {
    let mut grpc = tonic::client::Grpc::new(channel);
    grpc.ready().await.unwrap();
    let path = format!("/tokenbroker.admin.v1.Admin/{method}");
    let path = PathAndQuery::try_from(path).unwrap();
    let request = Request::new(Anything {
        field: field.to_vec(),
    });
    let codec = ProstCodec::<Anything, Anything>::default();
    let answer = grpc.unary(request, path, codec).await;
    answer.map(tonic::Response::into_inner)
}

/// Everything of an answer that a caller could tell two of them apart by.
type Bytes = (Code, String, Vec<u8>, Vec<(String, Vec<u8>)>);

fn bytes(status: &Status) -> Bytes {
    let metadata = status.metadata().clone().into_headers();
    let headers = metadata.iter().filter(|(name, _)| *name != "date");
    (
        status.code(),
        status.message().to_owned(),
        status.details().to_vec(),
        headers
            .map(|(name, value)| (name.to_string(), value.as_bytes().to_vec()))
            .collect(),
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_is_no_administrator_gets_the_same_bytes_for_everything() {
    let desk = Desk::with(1).await;
    let mut seen = Vec::new();
    for caller in [CART, STRANGER, "spiffe://corp.example/ns/ops"] {
        let channel = desk.connect(caller).await;
        for method in METHODS {
            // A name that exists, one that does not, what is no text, and too much of it.
            for field in [&b"d0"[..], b"unknown", &[0xff, 0xfe], &[b'a'; 5000]] {
                let status = call(channel.clone(), method, field).await.unwrap_err();
                assert_eq!(reason(&status), "NOT_ADMINISTRATOR", "{method}");
                assert_eq!(status.code(), Code::PermissionDenied);
                seen.push(bytes(&status));
            }
        }
    }
    assert_eq!(seen.len(), 3 * METHODS.len() * 4);
    assert!(seen.iter().all(|one| *one == seen[0]));
    let refused = desk
        .metrics(r#"token_broker_calls_total{door="grpc",destination="",outcome="NOT_ADM"#)
        .await;
    assert_eq!(refused.len(), 1);
    assert!(refused[0].ends_with(" 96"), "{refused:?}");
    // Nothing of it was done.
    let listed = desk.ops().await.destination("d0").await;
    assert!(listed.quarantine.is_none() && listed.last_success_at.is_none());
    assert_eq!(desk.site.upstream.calls(), 0);
    // An administrator is told what else is wrong.
    let ops = desk.connect(OPS).await;
    let malformed = call(ops.clone(), "Explain", &[0xff, 0xfe])
        .await
        .unwrap_err();
    assert_eq!(malformed.code(), Code::Internal);
    let unknown = call(ops, "Nothing", b"").await.unwrap_err();
    assert_eq!(unknown.code(), Code::Unimplemented);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_list_nobody_is_an_administrator() {
    for admin in ["", "allow = []"] {
        let setup = Setup {
            destinations: 1,
            ..Setup::default()
        };
        let desk = Desk::start(setup, admin, "").await;
        for caller in [OPS, CART] {
            let status = call(desk.connect(caller).await, "ListDestinations", b"");
            assert_eq!(reason(&status.await.unwrap_err()), "NOT_ADMINISTRATOR");
        }
        ask(&mut desk.cart().await, "d0").await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn administrators_are_replaced_by_a_reload() {
    let desk = Desk::with(1).await;
    let mut list = AdminClient::new(desk.connect(OPS).await);
    list.list_destinations(ListDestinationsRequest {})
        .await
        .unwrap();
    desk.reconfigure(
        ADMIN.lines().next().unwrap(),
        &format!("allow = [\"{STRANGER}\"]"),
    );
    let stranger = AdminClient::new(desk.connect(STRANGER).await);
    until("the stranger is an administrator", async || {
        let list = stranger
            .clone()
            .list_destinations(ListDestinationsRequest {})
            .await;
        list.is_ok()
    })
    .await;
    let refused = list.list_destinations(ListDestinationsRequest {}).await;
    assert_eq!(reason(&refused.unwrap_err()), "NOT_ADMINISTRATOR");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_service_is_reflected_and_answers_when_there_are_no_tokens() {
    let desk = Desk::with(1).await;
    desk.site.upstream.behave(Behaviour::status(503));
    ask(&mut desk.cart().await, "d0").await.unwrap_err();
    let mut health = HealthClient::new(desk.connect(STRANGER).await);
    let mut changes = health
        .watch(HealthCheckRequest::default())
        .await
        .unwrap()
        .into_inner();
    while changes.message().await.unwrap().unwrap().status() != ServingStatus::NotServing {}
    for (service, expected) in [
        ("tokenbroker.admin.v1.Admin", ServingStatus::Serving),
        ("tokenbroker.v1.TokenBroker", ServingStatus::NotServing),
        ("", ServingStatus::NotServing),
    ] {
        let request = HealthCheckRequest {
            service: service.to_owned(),
        };
        let status = health.check(request).await.unwrap().into_inner().status();
        assert_eq!(status, expected, "{service}");
    }

    let mut reflection = ServerReflectionClient::new(desk.connect(STRANGER).await);
    let symbol = "tokenbroker.admin.v1.Admin.UnusedGrants".to_owned();
    let request = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::FileContainingSymbol(symbol)),
    };
    let stream = tokio_stream::once(request);
    let replies = reflection.server_reflection_info(stream).await.unwrap();
    let reply = replies.into_inner().message().await.unwrap().unwrap();
    let Some(MessageResponse::FileDescriptorResponse(files)) = reply.message_response else {
        panic!("{reply:?} is no file");
    };
    let file = prost_types::FileDescriptorProto::decode(&*files.file_descriptor_proto[0]).unwrap();
    assert_eq!(file.package(), "tokenbroker.admin.v1");
}
