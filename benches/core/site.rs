//! A broker in this process, with a token at hand for each of its destinations.

use std::{num::NonZeroU32, path::Path, sync::Arc, time::Duration};

use bytes::{BufMut as _, Bytes, BytesMut};
use futures_util::future::{BoxFuture, FutureExt as _};
use http::{HeaderValue, Method, Request, Version, header::CONTENT_TYPE};
use http_body_util::Full;
use prost::Message as _;
use token_broker::{
    admission::{Admission, Connected, Shares},
    api::v1::GetTokenRequest,
    audit::{self, Audit, OnFailure},
    broker::{Asker, Broker, Catalogue, Granted, Listing, Opening, Operator, Rules},
    cache::{Cache, Edition, Host, MintTerms, Registration, Schedule, Whereabouts},
    clock::Instant,
    destination::{
        ApplicationName, AskedFor, DestinationId, DestinationName, Generation, TokenKey,
    },
    grpc::{Door, Readiness, Shortcut},
    identity::CallerId,
    mesh::LiveMesh,
    metrics::{self, Metrics},
    policy::{CallerPattern, Grants},
    request_id::RequestId,
    secret::Secret,
    shared_cache::SharedCache,
    telemetry::{Calls, Span, Traces},
    token::{LifetimeRule, Minted, SecretName, Token},
    upstream::{FetchError, Minter, Rotation, TokenSource},
    usage::{GrantName, Ledger, Stamp},
};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

/// How long a token is, in bytes: a signed JWT with some claims.
pub(crate) const TOKEN: usize = 900;
const CREDENTIAL: &str = "file:shop";
const PATH: &str = "/tokenbroker.v1.TokenBroker/GetToken";
/// How often the sequence of requests repeats itself.
const REQUESTS: usize = 4096;

/// How much there is to decide about.
#[derive(Clone, Copy)]
pub(crate) struct Size {
    pub(crate) destinations: usize,
    /// Each of them is granted every destination.
    pub(crate) callers: usize,
}

/// The size that figures are about where they name none.
pub(crate) const ORDINARY: Size = Size {
    destinations: 200,
    callers: 200,
};

impl Size {
    pub(crate) fn grants(self) -> usize {
        self.destinations * self.callers
    }
}

/// A broker, and who asks it for what.
pub(crate) struct Site {
    pub(crate) broker: Arc<Broker>,
    pub(crate) door: Shortcut,
    audit: Arc<Audit>,
    requests: Vec<Ask>,
    _schedule: Schedule,
}

/// A request.
pub(crate) struct Ask {
    pub(crate) peer: Arc<Connected>,
    pub(crate) destination: String,
}

impl Site {
    /// A broker without a record of what it hands out, or with one in this file.
    pub(crate) async fn new(size: Size, file: Option<&Path>) -> Self {
        let metrics = Arc::new(Metrics::new());
        let audit = Arc::new(file.map_or_else(Audit::off, |file| recording(file, &metrics)));
        let (news, _) = mpsc::channel(1);
        let (shared, _) = SharedCache::new(None, &metrics, news);
        let shared = Arc::new(shared);
        let (cache, schedule) = Cache::new(
            Arc::clone(&metrics),
            Arc::clone(&audit),
            Arc::clone(&shared),
            Traces::off(),
        );
        let broker = Arc::new(Broker::new(
            catalogue(size, &metrics),
            cache,
            Arc::clone(&audit),
        ));
        let mut landings = broker.cache().landings();
        broker.warm();
        let all = u64::try_from(size.destinations).unwrap();
        landings.wait_for(|landed| *landed >= all).await.unwrap();
        let rules = Rules::new(&[], Vec::new(), Duration::ZERO);
        let (operator, _) = Operator::new(
            Arc::clone(&broker),
            rules,
            None,
            Vec::new(),
            Arc::clone(&metrics),
            shared,
        );
        let (_, readiness) = watch::channel(Readiness::Ready);
        let door = Door {
            broker: Arc::clone(&broker),
            operator,
            calls: Calls::new(metrics, Traces::off()),
            mesh: Arc::new(LiveMesh::default()),
            readiness,
            stop: CancellationToken::new(),
        };
        Self {
            broker,
            door: door.open().unwrap().1,
            audit,
            requests: requests(size),
            _schedule: schedule,
        }
    }

    /// Ends the record.
    pub(crate) async fn close(&self) {
        self.audit.close(Duration::from_secs(30)).await;
    }

    /// So many requests of all callers to all destinations, always the same ones.
    pub(crate) fn asks(&self, count: usize) -> impl Iterator<Item = &Ask> {
        self.requests.iter().cycle().take(count)
    }

    pub(crate) fn authorise(&self, ask: &Ask) -> Granted {
        let destination = DestinationName::parse(&ask.destination).unwrap();
        self.broker.authorise(ask.peer.id(), destination).unwrap()
    }

    pub(crate) async fn token(&self, asker: &Asker, granted: &Granted) -> Arc<Token> {
        let token = self.broker.token(asker, granted, Duration::ZERO).await;
        token.unwrap()
    }
}

impl Ask {
    pub(crate) fn asker(&self) -> Asker {
        Asker {
            caller: self.peer.id().clone(),
            door: metrics::Door::Grpc,
            request_id: RequestId::fresh(),
            span: Span::none(),
        }
    }

    /// The request as it comes off a connection.
    pub(crate) fn request(&self) -> Request<Full<Bytes>> {
        let message = GetTokenRequest {
            destination_id: self.destination.clone(),
            min_validity: None,
        };
        let mut body = BytesMut::new();
        body.put_u8(0);
        body.put_u32(u32::try_from(message.encoded_len()).unwrap());
        message.encode(&mut body).unwrap();
        let mut request = Request::new(Full::new(body.freeze()));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = format!("https://broker.example{PATH}").parse().unwrap();
        *request.version_mut() = Version::HTTP_2;
        let headers = request.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        headers.insert("te", HeaderValue::from_static("trailers"));
        headers.insert("user-agent", HeaderValue::from_static("grpc-go/1.80.0"));
        headers.insert("grpc-timeout", HeaderValue::from_static("5S"));
        request
    }
}

/// Mints a token at once.
struct Endpoint;

impl TokenSource for Endpoint {
    fn mint<'a>(&'a self, _flight: &'a Span) -> BoxFuture<'a, Result<Minted, FetchError>> {
        let minted = Minted {
            access_token: Secret::new("t".repeat(TOKEN)),
            expires_in: Some(24 * 60 * 60),
        };
        std::future::ready(Ok(minted)).boxed()
    }
}

fn recording(file: &Path, metrics: &Arc<Metrics>) -> Audit {
    let settings = audit::Settings {
        file: Some(file.to_owned()),
        stdout: false,
        max_file_size: 1 << 40,
        // A processor that somebody else has is no stall.
        stall_timeout: Duration::from_secs(60),
        on_failure: OnFailure::Refuse,
    };
    Audit::start(&settings, metrics).unwrap()
}

fn destination(n: usize) -> String {
    format!("7d3c1f0e-5b8e-4a53-9f6b-0a3c5d1e{n:04}")
}

fn caller(n: usize) -> String {
    format!("spiffe://corp.example/ns/shop/sa/service-{n}")
}

fn catalogue(size: Size, metrics: &Metrics) -> Catalogue {
    let host = Arc::new(Host::new("upstream.example:443".to_owned(), 64));
    let terms = Arc::new(MintTerms {
        lifetimes: LifetimeRule {
            default: Duration::from_secs(3600),
            max: Duration::from_secs(24 * 60 * 60),
        },
        expiry_margin: Duration::from_secs(60),
        timeout: Duration::from_secs(5),
    });
    let credential = Arc::from(CREDENTIAL);
    let none = Ledger::default();
    let mut ledger = none.next(Stamp::now());
    let mut listings = Vec::new();
    for n in 0..size.destinations {
        let id = destination(n);
        let registration = registration(&id, &host, &terms);
        let (id, shop) = (Arc::from(id), Arc::from("shop"));
        let served = ledger.keep_callers(&id, Arc::clone(&shop));
        let mut grants = Vec::new();
        for (caller, number) in (0..size.callers).map(caller).zip(1..) {
            let name = GrantName {
                destination: Arc::clone(&id),
                callers: Arc::from(&*caller),
                application: Some(Arc::clone(&shop)),
            };
            let opening = Opening {
                registration: Some(Arc::clone(&registration)),
                number,
                served: Arc::clone(&served),
                used: ledger.grant(name, Some(&credential)),
            };
            grants.push((CallerPattern::parse(&caller).unwrap(), opening));
        }
        let id = registration.key.destination.clone();
        listings.push(Listing {
            tally: metrics.tally(&id),
            id,
            name: None,
            grants: Grants::new(grants),
            registrations: vec![registration],
        });
    }
    let mut catalogue = Catalogue::new(Edition::default(), Arc::new(ledger.close()));
    for listing in listings {
        catalogue.add(listing);
    }
    catalogue
}

fn registration(id: &str, host: &Arc<Host>, terms: &Arc<MintTerms>) -> Arc<Registration> {
    let key = TokenKey {
        protocol: "oauth2/client_secret_basic",
        endpoint: Arc::from("https://upstream.example/oauth2/token"),
        destination: DestinationId::parse(id).unwrap(),
        application: ApplicationName::parse("shop").unwrap(),
        client_id: Arc::from("client-of-shop"),
        generation: Generation(1),
        asked: Arc::new(AskedFor {
            scope: Some("orders.read".to_owned()),
            ..AskedFor::default()
        }),
    };
    let minter = Minter {
        source: Arc::new(Endpoint),
        secret: Arc::new(SecretName {
            credential: Arc::from(CREDENTIAL),
            generation: "1".to_owned(),
            client_id: Arc::from("client-of-shop"),
        }),
    };
    Arc::new(Registration {
        edition: Edition::default(),
        key: Arc::new(key),
        rotation: Arc::new(Rotation::new(minter, None)),
        host: Arc::clone(host),
        terms: Arc::clone(terms),
        warm: true,
        place: None,
        whereabouts: Whereabouts::default(),
    })
}

fn requests(size: Size) -> Vec<Ask> {
    let admission = Admission::new(Shares {
        connections_per_caller: 1,
        // More than can be: one a nanosecond.
        calls_per_second: NonZeroU32::new(1_000_000_000).unwrap(),
        calls: 1_000_000,
        longest_call: Duration::from_secs(30),
    });
    let peers: Vec<_> = (0..size.callers)
        .map(|n| {
            let id = CallerId::parse(&caller(n)).unwrap();
            Arc::new(admission.connect(&id, Instant::now()).unwrap())
        })
        .collect();
    // All over the tables, and the same in every run (Knuth's MMIX generator).
    let mut state: u64 = 1;
    let mut draw = move |below: usize| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(state >> 33).unwrap() % below
    };
    (0..REQUESTS)
        .map(|_| Ask {
            peer: Arc::clone(&peers[draw(size.callers)]),
            destination: destination(draw(size.destinations)),
        })
        .collect()
}
