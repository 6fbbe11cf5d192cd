//! A collector: it takes spans over OTLP/gRPC, and keeps them for a test to look at.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use futures_util::StreamExt as _;
use opentelemetry_proto::tonic::{
    collector::trace::v1::{
        ExportTracePartialSuccess, ExportTraceServiceRequest, ExportTraceServiceResponse,
        trace_service_server::{TraceService, TraceServiceServer},
    },
    common::v1::{AnyValue, KeyValue, any_value::Value},
    trace::v1::{Span, span::SpanKind, status::StatusCode},
};
use token_broker::cli::dev::Signed;
use tokio::{net::TcpListener, sync::watch, time::timeout};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{
    Request, Response, Status,
    metadata::MetadataMap,
    transport::{Identity, Server, ServerTlsConfig},
};

use crate::trial::GIVE_UP;

/// A running collector. Dropped, it is gone.
pub(crate) struct Receiver {
    pub(crate) address: SocketAddr,
    got: watch::Receiver<Got>,
    behaviour: watch::Sender<Behaviour>,
    connections: Arc<AtomicUsize>,
    task: tokio::task::JoinHandle<()>,
}

/// What it does with what it gets.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Behaviour {
    /// Keeps it.
    Take,
    /// Says that it cannot at the moment.
    Unavailable,
    /// Says that it never will.
    Refuse,
    /// Keeps it, and says that it rejected one of the spans.
    RejectOne,
    /// Says nothing.
    Stall,
}

/// What it got.
#[derive(Clone, Default)]
pub(crate) struct Got {
    pub(crate) requests: Vec<ExportTraceServiceRequest>,
    pub(crate) headers: Vec<MetadataMap>,
    /// How often it was asked, whatever it did.
    pub(crate) asked: usize,
}

struct Service {
    got: watch::Sender<Got>,
    behaviour: watch::Receiver<Behaviour>,
}

impl Receiver {
    pub(crate) async fn start() -> Self {
        Self::with(None).await
    }

    /// With TLS, and this certificate.
    pub(crate) async fn secure(signed: &Signed) -> Self {
        Self::with(Some(signed)).await
    }

    async fn with(signed: Option<&Signed>) -> Self {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (got, seen) = watch::channel(Got::default());
        let (behaviour, behaviour_seen) = watch::channel(Behaviour::Take);
        let service = TraceServiceServer::new(Service {
            got,
            behaviour: behaviour_seen,
        });
        let mut server = Server::builder();
        if let Some(signed) = signed {
            let identity = Identity::from_pem(&signed.certificate, signed.key.expose());
            let tls = ServerTlsConfig::new().identity(identity);
            server = server.tls_config(tls).unwrap();
        }
        let server = server.add_service(service);
        let connections = Arc::new(AtomicUsize::new(0));
        let connected = Arc::clone(&connections);
        let task = tokio::spawn(async move {
            let incoming = TcpListenerStream::new(listener).inspect(|_| {
                connected.fetch_add(1, Ordering::Relaxed);
            });
            server.serve_with_incoming(incoming).await.unwrap();
        });
        Self {
            address,
            got: seen,
            behaviour,
            connections,
            task,
        }
    }

    /// Whether anybody has ever connected.
    pub(crate) fn was_reached(&self) -> bool {
        self.connections.load(Ordering::Relaxed) > 0
    }

    pub(crate) fn behave(&self, behaviour: Behaviour) {
        self.behaviour.send_replace(behaviour);
    }

    /// Waits until this holds for what it got.
    pub(crate) async fn until(&self, what: &str, is_so: impl Fn(&Got) -> bool) -> Got {
        let mut got = self.got.clone();
        match timeout(GIVE_UP, got.wait_for(is_so)).await {
            Ok(got) => got.unwrap().clone(),
            Err(elapsed) => panic!("{elapsed}: {what}: {:?}", self.got.borrow().names()),
        }
    }

    /// Waits for so many spans.
    pub(crate) async fn spans(&self, count: usize) -> Vec<Span> {
        let what = format!("{count} spans");
        self.until(&what, |got| got.spans().len() >= count)
            .await
            .spans()
    }

    /// What it got so far.
    pub(crate) fn got(&self) -> Got {
        self.got.borrow().clone()
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Got {
    /// All spans, in the order in which they came.
    pub(crate) fn spans(&self) -> Vec<Span> {
        let resources = self.requests.iter().flat_map(|one| &one.resource_spans);
        let scopes = resources.flat_map(|one| &one.scope_spans);
        scopes.flat_map(|one| one.spans.clone()).collect()
    }

    fn names(&self) -> Vec<String> {
        self.spans().into_iter().map(|span| span.name).collect()
    }
}

#[tonic::async_trait]
impl TraceService for Service {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let behaviour = *self.behaviour.borrow();
        let (headers, _, message) = request.into_parts();
        self.got.send_modify(|got| {
            got.asked += 1;
            if matches!(behaviour, Behaviour::Take | Behaviour::RejectOne) {
                got.headers.push(headers);
                got.requests.push(message);
            }
        });
        match behaviour {
            Behaviour::Take => Ok(Response::new(ExportTraceServiceResponse::default())),
            Behaviour::Unavailable => Err(Status::unavailable("canary of the collector")),
            Behaviour::Refuse => Err(Status::invalid_argument("canary of the collector")),
            Behaviour::RejectOne => Ok(Response::new(ExportTraceServiceResponse {
                partial_success: Some(ExportTracePartialSuccess {
                    rejected_spans: 1,
                    error_message: "canary of the collector".to_owned(),
                }),
            })),
            Behaviour::Stall => std::future::pending().await,
        }
    }
}

/// The one span of this name.
pub(crate) fn named<'a>(spans: &'a [Span], name: &str) -> &'a Span {
    let mut found = spans.iter().filter(|span| span.name == name);
    let span = found
        .next()
        .unwrap_or_else(|| panic!("no {name}: {spans:#?}"));
    assert!(found.next().is_none(), "more than one {name}: {spans:#?}");
    span
}

/// The text of an attribute.
pub(crate) fn text(attributes: &[KeyValue], key: &str) -> Option<String> {
    let mut named = attributes.iter().filter(|attribute| attribute.key == key);
    let value = named.next()?.value.clone();
    assert!(named.next().is_none(), "{key} is noted twice");
    match value {
        Some(AnyValue {
            value: Some(Value::StringValue(text)),
        }) => Some(text),
        Some(AnyValue {
            value: Some(Value::IntValue(number)),
        }) => Some(number.to_string()),
        other => panic!("{key} is {other:?}"),
    }
}

/// What a span says of itself.
pub(crate) fn noted(span: &Span, key: &str) -> Option<String> {
    text(&span.attributes, key)
}

/// The reason code with which it failed; nothing if it did not.
pub(crate) fn failed(span: &Span) -> Option<String> {
    let status = span.status.clone().unwrap_or_default();
    (status.code() == StatusCode::Error).then_some(status.message)
}

pub(crate) fn is(span: &Span, kind: SpanKind) -> bool {
    span.kind() == kind
}

/// As in `traceparent`.
pub(crate) fn hex(id: &[u8]) -> String {
    use std::fmt::Write as _;
    id.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}
