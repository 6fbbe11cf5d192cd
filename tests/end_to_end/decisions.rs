//! One policy, whichever way in: every door decides alike for random callers and destinations.

use std::fmt::Write as _;

use envoy_types::pb::envoy::service::{
    auth::v3::authorization_client::AuthorizationClient,
    secret::v3::secret_discovery_service_client::SecretDiscoveryServiceClient,
};
use futures_util::future::join_all;
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use token_broker::api::v1::token_broker_client::TokenBrokerClient;
use tokio::time::Instant;
use tonic::transport::Channel;

use crate::{
    exchange::{Exchange, oauth2, occtoo},
    ext_authz::{self, GATEWAY, Verdict, check, denied, proxy, routed},
    sds::{opened, wanting},
    trial::{Setup, Trial, ask, client_id, client_secret, reason},
    web::{Http2, token},
};

const DESTINATIONS: usize = 40;
const CALLERS: usize = 20;

/// How many pairs are asked about; `TOKEN_BROKER_DECISIONS` sets it.
fn pairs() -> usize {
    std::env::var("TOKEN_BROKER_DECISIONS").map_or(4_000, |count| count.parse().unwrap())
}

/// Many destinations, each granted to some callers that are drawn.
fn destinations(random: &mut StdRng, callers: &[String]) -> String {
    let mut config = String::new();
    for n in 0..DESTINATIONS {
        let kind = if random.random_range(0..5) == 0 {
            "unprotected = true"
        } else {
            "[[destination.application]]\nname = \"shop\"\ncredential = \"file:d0\""
        };
        let drawn = callers.iter().filter(|_| random.random_range(0..4) == 0);
        let mut granted: Vec<_> = drawn.cloned().collect();
        match random.random_range(0..4) {
            0 => granted.push("spiffe://corp.example/ns/even/sa/*".to_owned()),
            1 => granted.push("spiffe://corp.example/ns/odd/**".to_owned()),
            _ => granted.push("nobody.example".to_owned()),
        }
        write!(
            config,
            "[[destination]]\nid = \"r{n}\"\nname = \"name-of-r{n}\"\nupstream = \"occtoo\"\n\
             {kind}\n[[destination.grant]]\ncallers = {granted:?}\n"
        )
        .unwrap();
    }
    config
}

/// All doors, as one caller sees them.
struct Doors<'a> {
    trial: &'a Trial,
    grpc: TokenBrokerClient<Channel>,
    ext_authz: AuthorizationClient<Channel>,
    /// A proxy that asks for this caller.
    gateway: AuthorizationClient<Channel>,
    sds: SecretDiscoveryServiceClient<Channel>,
    http1: Exchange,
    http2: Http2,
}

impl<'a> Doors<'a> {
    async fn of(trial: &'a Trial, caller: &str, gateway: &AuthorizationClient<Channel>) -> Self {
        let signed = trial.authority.client(caller).unwrap();
        let channel = trial.connect(&signed).await.unwrap();
        Self {
            trial,
            grpc: TokenBrokerClient::new(channel.clone()),
            ext_authz: AuthorizationClient::new(channel.clone()),
            gateway: gateway.clone(),
            sds: SecretDiscoveryServiceClient::new(channel),
            http1: Exchange::of(trial, caller).await,
            http2: Http2::of(trial, caller).await,
        }
    }

    /// Asks at every door, and says whether there was a token.
    async fn agree(&mut self, caller: &str, destination: &str, swapped: bool) -> bool {
        let reply = ask(&mut self.grpc, destination).await;
        let said = reply.map(|reply| reply.access_token);
        let said = said.map_err(|status| reason(&status));

        let for_proxies = match &said {
            Ok(token) => Verdict::Authorized(format!("Bearer {token}")),
            Err(reason) if reason == "DESTINATION_UNPROTECTED" => Verdict::Unchanged,
            Err(reason) => denied(403, reason),
        };
        let own = check(&mut self.ext_authz, routed(destination, "")).await;
        assert!(own == for_proxies, "ext_authz: {caller} {destination}");
        let through = check(&mut self.gateway, routed(destination, caller)).await;
        assert!(through == for_proxies, "a proxy: {caller} {destination}");

        let fetched = self.sds.fetch_secrets(wanting(&[destination])).await;
        let fetched = fetched
            .map(|answer| opened(&answer.into_inner().resources[0]).1)
            .map_err(|status| reason(&status));
        assert!(fetched == said, "sds: {caller} {destination}");

        let (oauth2, occtoo) = (oauth2(destination), occtoo(destination));
        let answers = if swapped {
            [self.http1.ask(&oauth2).await, self.http2.ask(&occtoo).await]
        } else {
            [self.http2.ask(&oauth2).await, self.http1.ask(&occtoo).await]
        };
        for answer in answers {
            let answered = match answer.status {
                200 => Ok(token(self.trial, &answer)),
                _ => Err(answer.reason().to_owned()),
            };
            assert!(answered == said, "without gRPC: {caller} {destination}");
        }
        said.is_ok()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_door_decides_alike_for_random_pairs() {
    let callers: Vec<_> = (0..CALLERS)
        .map(|n| {
            let namespace = if n % 2 == 0 { "even" } else { "odd" };
            format!("spiffe://corp.example/ns/{namespace}/sa/c{n}")
        })
        .collect();
    let seed = rand::random();
    println!("seed {seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let drawn = destinations(&mut random, &callers);
    let setup = Setup {
        destinations: 1,
        server: "max_calls_per_second = 1000000",
        ..Setup::default()
    };
    let trial = ext_authz::with(setup, |config| {
        format!("{config}{drawn}[ext_authz]\ntrusted_proxies = [\"{GATEWAY}\"]\n")
    })
    .await;
    for n in 0..DESTINATIONS {
        let (id, secret) = (client_id("d0"), client_secret("d0"));
        trial.upstream.register(&format!("r{n}"), &id, &secret);
    }
    let gateway = proxy(&trial, GATEWAY).await;
    let started = Instant::now();
    let asked = callers.iter().map(|caller| {
        let mut random = StdRng::seed_from_u64(random.random());
        let (trial, gateway) = (&trial, &gateway);
        async move {
            let mut doors = Doors::of(trial, caller, gateway).await;
            let mut granted = 0;
            for _ in 0..pairs() / CALLERS {
                // Two of them are not configured.
                let n = random.random_range(0..DESTINATIONS + 2);
                let name = if random.random() { "" } else { "name-of-" };
                let destination = format!("{name}r{n}");
                let swapped = random.random();
                granted += usize::from(doors.agree(caller, &destination, swapped).await);
            }
            granted
        }
    });
    let granted: usize = join_all(asked).await.into_iter().sum();
    let pairs = pairs() / CALLERS * CALLERS;
    println!("{granted} of {pairs} granted, in {:?}", started.elapsed());
    assert!((pairs / 20..pairs).contains(&granted), "{granted}");
    assert!(trial.upstream.calls() <= DESTINATIONS as u64);
}
