//! Client certificates with one thing wrong each, and what becomes of them.

use http::Request;
use rcgen::{BasicConstraints, ExtendedKeyUsagePurpose, IsCa};
use tonic::{Code, Status, body::Body};
use tower::{Service as _, ServiceExt as _};

use crate::{
    counters::{closed, connections},
    disguise::{Disguise, Papers},
    line::{Line, hung_up},
    pki::{Ca, HOUR, Leaf, dns, uri},
    trial::{CART, Setup, Trial, reason},
};

/// Papers that have not changed since they were good, and one intermediate authority.
struct Pki {
    root: Ca,
    team: Ca,
}

/// The serial number of the intermediate's certificate.
const TEAM: u64 = 7;
const STRICT: &str = r#"crl = ["root.crl", "team.crl"]"#;
const LENIENT: &str = "crl = [\"root.crl\", \"team.crl\"]\ncrl_lenient = true";

impl Pki {
    fn new() -> Self {
        let root = Ca::root("root");
        let team = root.intermediate("team", TEAM, -HOUR..HOUR);
        Self { root, team }
    }

    /// A broker that believes the root, and looks at these lists.
    async fn trial(&self, server: &'static str, root_crl: String, team_crl: String) -> Trial {
        let mut files = vec![("ca.pem", self.root.pem.clone())];
        if server.contains("crl") {
            files.extend([("root.crl", root_crl), ("team.crl", team_crl)]);
        }
        Trial::start(Setup {
            destinations: 1,
            server,
            files,
            ..Setup::default()
        })
        .await
    }

    /// A good certificate of the intermediate.
    fn good(&self) -> Papers {
        self.team.sign(Leaf::default())
    }
}

/// Shows these papers, if any, and asks for a token.
async fn ask(trial: &Trial, papers: Option<&Papers>) -> Result<(), Status> {
    let line = Line::open(&Disguise::with(trial, papers)).await;
    // In TLS 1.3 a client may learn only when it asks that it is refused.
    let mut line = line.map_err(|error| Status::unavailable(error.to_string()))?;
    line.ask("d0").await.map(drop)
}

/// The papers are refused for this reason, within the handshake.
async fn refused(trial: &Trial, name: &str, papers: Option<&Papers>, outcome: &str) {
    let series = connections(outcome);
    let before = trial.counted(&series).await;
    let status = ask(trial, papers).await.expect_err(name);
    assert!(
        status.details().is_empty(),
        "{name}: no answer of a service"
    );
    trial.until_counted(&series, before + 1).await;
    assert_eq!(trial.counted(&series).await, before + 1, "{name}");
}

/// None of the calls so far reached a handler.
async fn nothing_was_handled(trial: &Trial) {
    let (_, metrics) = trial.http("/metrics").await;
    assert!(!metrics.contains("token_broker_calls_total{"), "{metrics}");
    assert!(!metrics.contains(&connections("ok")), "{metrics}");
    assert_eq!(trial.upstream.calls(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_certificate_that_is_not_believed_is_refused_for_its_own_reason() {
    let pki = Pki::new();
    let trial = pki.trial("", String::new(), String::new()).await;
    let leaf = |leaf| Some(pki.root.sign(leaf));
    for (name, papers, outcome) in [
        ("none", None, "certificate_missing"),
        (
            "expired",
            leaf(Leaf {
                valid: -2 * HOUR..-10,
                ..Leaf::default()
            }),
            "certificate_expired",
        ),
        (
            "not valid yet",
            leaf(Leaf {
                valid: HOUR..2 * HOUR,
                ..Leaf::default()
            }),
            "certificate_not_yet_valid",
        ),
        (
            "of an authority that nobody knows",
            Some(Ca::root("other").sign(Leaf::default())),
            "certificate_unknown_issuer",
        ),
        (
            "of another authority of the same name",
            Some(Ca::root("root").sign(Leaf::default())),
            "certificate_unknown_issuer",
        ),
        (
            "an authority's",
            leaf(Leaf {
                is_ca: IsCa::Ca(BasicConstraints::Unconstrained),
                ..Leaf::default()
            }),
            "certificate_is_ca",
        ),
        (
            "a server's",
            leaf(Leaf {
                purpose: ExtendedKeyUsagePurpose::ServerAuth,
                ..Leaf::default()
            }),
            "certificate_wrong_purpose",
        ),
        (
            "of an expired intermediate",
            Some(
                pki.root
                    .intermediate("old", 8, -HOUR..-10)
                    .sign(Leaf::default()),
            ),
            "certificate_expired",
        ),
    ] {
        refused(&trial, name, papers.as_ref(), outcome).await;
    }
    nothing_was_handled(&trial).await;
    // Nothing is wrong with the broker, or with how its peers are made.
    ask(&trial, Some(&pki.good())).await.unwrap();
    ask(&trial, leaf(Leaf::default()).as_ref()).await.unwrap();
    assert_eq!(trial.counted(&connections("ok")).await, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_certificate_that_is_not_cleared_is_refused_for_its_own_reason() {
    let pki = Pki::new();
    let (root, team) = (&pki.root, &pki.team);
    let stranger = Ca::root("stranger");
    let clean = |ca: &Ca| ca.crl(&[], HOUR);
    for (name, root_crl, team_crl, strictly, leniently) in [
        ("all is well", clean(root), clean(team), "ok", "ok"),
        (
            "another is revoked",
            root.crl(&[99], HOUR),
            team.crl(&[2, 3], HOUR),
            "ok",
            "ok",
        ),
        (
            "the leaf is revoked",
            clean(root),
            team.crl(&[1], HOUR),
            "certificate_revoked",
            "certificate_revoked",
        ),
        (
            "the intermediate is revoked",
            root.crl(&[TEAM], HOUR),
            clean(team),
            "certificate_revoked",
            "certificate_revoked",
        ),
        (
            "the leaf's list is old",
            clean(root),
            team.crl(&[], -10),
            "revocation_list_expired",
            "ok",
        ),
        (
            "the intermediate's list is old",
            root.crl(&[], -10),
            clean(team),
            "revocation_list_expired",
            "ok",
        ),
        (
            "an old list revokes the leaf",
            clean(root),
            team.crl(&[1], -10),
            "revocation_list_expired",
            "certificate_revoked",
        ),
        (
            "the leaf's list is missing",
            clean(root),
            clean(&stranger),
            "revocation_unknown",
            "ok",
        ),
        (
            "the intermediate's list is missing",
            clean(&stranger),
            clean(team),
            "revocation_unknown",
            "ok",
        ),
    ] {
        for (server, outcome) in [(STRICT, strictly), (LENIENT, leniently)] {
            let trial = pki.trial(server, root_crl.clone(), team_crl.clone()).await;
            let name = format!("{name}: {server}");
            if outcome == "ok" {
                ask(&trial, Some(&pki.good())).await.expect(&name);
                assert_eq!(trial.counted(&connections("ok")).await, 1, "{name}");
            } else {
                refused(&trial, &name, Some(&pki.good()), outcome).await;
                nothing_was_handled(&trial).await;
            }
            trial.app.stop().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_that_names_no_caller_gets_no_answer_but_that_from_anything() {
    /// Everything on the port, and what is not there.
    const METHODS: [&str; 7] = [
        "/tokenbroker.v1.TokenBroker/GetToken",
        "/tokenbroker.v1.TokenBroker/WatchToken",
        "/tokenbroker.v1.TokenBroker/ReportRejected",
        "/grpc.health.v1.Health/Check",
        "/grpc.health.v1.Health/Watch",
        "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
        "/nothing/Here",
    ];
    let pki = Pki::new();
    let server = r#"trust_domains = ["corp.example"]"#;
    let trial = pki.trial(server, String::new(), String::new()).await;
    for (names, outcome) in [
        (vec![], "identity_missing"),
        (
            vec![uri(CART), uri("spiffe://corp.example/other")],
            "identity_ambiguous",
        ),
        (
            vec![dns("a.example"), dns("b.example")],
            "identity_ambiguous",
        ),
        (
            vec![uri("spiffe://CORP.example/ns/shop/sa/cart")],
            "identity_not_spiffe",
        ),
        (
            vec![uri("spiffe://corp.example/ns/shop/sa/Cart/")],
            "identity_not_spiffe",
        ),
        (
            vec![uri("spiffe://corp.example:443/ns/shop/sa/cart")],
            "identity_not_spiffe",
        ),
        (
            vec![uri("spiffe://corp.example/ns/shop/sa/cart?admin=1")],
            "identity_not_spiffe",
        ),
        (
            vec![uri("spiffe://corp.example/ns/other/../shop/sa/cart")],
            "identity_not_spiffe",
        ),
        (
            vec![uri("https://corp.example/cart"), dns("cart.corp.example")],
            "identity_not_spiffe",
        ),
        (vec![dns("*.corp.example")], "identity_not_dns_name"),
        (
            vec![uri("spiffe://evil.example/ns/shop/sa/cart")],
            "identity_trust_domain",
        ),
    ] {
        let described = format!("{names:?}");
        let series = connections(outcome);
        let before = trial.counted(&series).await;
        let papers = pki.root.sign(Leaf {
            names,
            ..Leaf::default()
        });
        let mut line = Line::with(&trial, &papers).await;
        for method in METHODS {
            let request = Request::post(format!("https://broker{method}"))
                .header("content-type", "application/grpc")
                .header("te", "trailers")
                .body(Body::empty())
                .unwrap();
            let wire = line.wire.ready().await.unwrap();
            let response = wire.call(request).await.unwrap();
            let status = Status::from_header_map(response.headers()).expect(method);
            assert_eq!(
                (status.code(), reason(&status).as_str()),
                (Code::Unauthenticated, "CALLER_UNIDENTIFIED"),
                "{described} {method}"
            );
        }
        assert_eq!(trial.counted(&series).await, before + 1, "{described}");
    }
    nothing_was_handled(&trial).await;
    for names in [
        vec![uri(CART)],
        vec![uri(CART), dns("anything.example"), dns("else.example")],
        vec![dns("cart.corp.example")],
    ] {
        let papers = pki.root.sign(Leaf {
            names,
            ..Leaf::default()
        });
        ask(&trial, Some(&papers)).await.unwrap();
    }
    assert_eq!(trial.counted(&connections("ok")).await, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_names_no_caller_is_soon_sent_away() {
    let pki = Pki::new();
    let server = "first_request_timeout = \"2s\"\nhandshake_timeout = \"600s\"";
    let trial = pki.trial(server, String::new(), String::new()).await;
    let papers = pki.root.sign(Leaf {
        names: vec![],
        ..Leaf::default()
    });
    let mut line = Line::with(&trial, &papers).await;
    let refused = line.ask("d0").await.unwrap_err();
    assert_eq!(reason(&refused), "CALLER_UNIDENTIFIED");
    line.ended().await.unwrap();
    trial.until_counted(&closed("unidentified"), 1).await;

    let mute = Disguise::with(&trial, Some(&papers)).handshake().await;
    hung_up(mute.unwrap()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn peers_that_name_no_caller_have_few_places_and_leave_the_others_to_callers() {
    let pki = Pki::new();
    let server = "max_connections = 32\nfirst_request_timeout = \"600s\"";
    let trial = pki.trial(server, String::new(), String::new()).await;
    let nobody = pki.root.sign(Leaf {
        names: vec![],
        ..Leaf::default()
    });
    let mut inside = Vec::new();
    for _ in 0..2 {
        let mut line = Line::with(&trial, &nobody).await;
        let refused = line.ask("d0").await.unwrap_err();
        assert_eq!(reason(&refused), "CALLER_UNIDENTIFIED");
        inside.push(line);
    }
    for _ in 0..40 {
        if let Ok(peer) = Disguise::with(&trial, Some(&nobody)).handshake().await {
            hung_up(peer).await;
        }
    }
    let over = connections("over_nameless_capacity");
    trial.until_counted(&over, 40).await;
    assert_eq!(trial.counted(&over).await, 40);
    assert!(inside.iter().all(Line::is_open));

    let caller = pki.root.sign(Leaf {
        names: vec![uri(CART)],
        ..Leaf::default()
    });
    ask(&trial, Some(&caller)).await.unwrap();

    // Whoever leaves makes room.
    inside.pop();
    trial.until_counted(&closed("peer"), 2).await;
    let mut next = Line::with(&trial, &nobody).await;
    let refused = next.ask("d0").await.unwrap_err();
    assert_eq!(reason(&refused), "CALLER_UNIDENTIFIED");
}
