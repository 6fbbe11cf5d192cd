//! The bare tonic service that the broker is compared with: the same messages over the same
//! TLS, in tonic's own transport with its default settings, and nothing behind it.

use std::{
    convert::Infallible,
    fs,
    io::{BufRead as _, BufReader},
    net::SocketAddr,
    path::Path,
    process::{Command, Stdio},
    sync::Arc,
    task::{Context, Poll},
};

use prost::Message as _;
use token_broker::api::v1::{GetTokenRequest, GetTokenResponse};
use tonic::{
    Request, Response, Status,
    codegen::{Body, BoxFuture, Service, StdError, http},
    server::{Grpc, NamedService, UnaryService},
    transport::{Certificate, Identity, Server, ServerTlsConfig, server::TcpIncoming},
};
use tonic_prost::ProstCodec;

use crate::site::{Cores, Process, Site};

/// As which the benchmark runs itself.
pub(crate) const COMMAND: &str = "bare-tonic";
/// What it answers, in its folder.
const REPLY: &str = "reply.bin";

/// A running service.
pub(crate) struct Bare {
    pub(crate) process: Process,
    pub(crate) address: SocketAddr,
}

impl Bare {
    /// Starts a service with the certificates of this site, which gives this answer.
    pub(crate) fn start(site: &Site, reply: &GetTokenResponse, cores: &Cores) -> Self {
        site.write(REPLY, reply.encode_to_vec());
        let mut command = Command::new(std::env::current_exe().unwrap());
        command
            .args([COMMAND.as_ref(), site.as_ref() as &Path])
            .stdin(Stdio::null())
            .stdout(Stdio::piped());
        let mut process = Process::start(&mut command, cores);
        let mut address = String::new();
        BufReader::new(process.take_stdout())
            .read_line(&mut address)
            .unwrap();
        Self {
            process,
            address: address.trim().parse().unwrap(),
        }
    }
}

/// Serves until killed.
#[tokio::main]
pub(crate) async fn serve(folder: &Path) {
    let read = |name| fs::read(folder.join(name)).unwrap();
    let tls = ServerTlsConfig::new()
        .identity(Identity::from_pem(read("server.pem"), read("server.key")))
        .client_ca_root(Certificate::from_pem(read("ca.pem")));
    let incoming = TcpIncoming::bind(([127, 0, 0, 1], 0).into())
        .unwrap()
        .with_nodelay(Some(true));
    println!("{}", incoming.local_addr().unwrap());
    let reply = GetTokenResponse::decode(&*read(REPLY)).unwrap();
    Server::builder()
        .tls_config(tls)
        .unwrap()
        .add_service(TokenBroker(Arc::new(reply)))
        .serve_with_incoming(incoming)
        .await
        .unwrap();
}

/// What tonic generates for a service, with the codec that it has by default.
#[derive(Clone)]
struct TokenBroker(Arc<GetTokenResponse>);

impl NamedService for TokenBroker {
    const NAME: &'static str = "tokenbroker.v1.TokenBroker";
}

impl<B> Service<http::Request<B>> for TokenBroker
where
    B: Body + Send + 'static,
    B::Error: Into<StdError> + Send + 'static,
{
    type Response = http::Response<tonic::body::Body>;
    type Error = Infallible;
    type Future = BoxFuture<Self::Response, Self::Error>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<B>) -> Self::Future {
        let service = self.clone();
        Box::pin(async move {
            if request.uri().path() != "/tokenbroker.v1.TokenBroker/GetToken" {
                return Ok(Status::unimplemented("").into_http());
            }
            let mut grpc = Grpc::new(ProstCodec::default());
            Ok(grpc.unary(service, request).await)
        })
    }
}

impl UnaryService<GetTokenRequest> for TokenBroker {
    type Response = GetTokenResponse;
    type Future = BoxFuture<Response<GetTokenResponse>, Status>;

    fn call(&mut self, _: Request<GetTokenRequest>) -> Self::Future {
        let reply = Arc::clone(&self.0);
        Box::pin(async move { Ok(Response::new(GetTokenResponse::clone(&reply))) })
    }
}
