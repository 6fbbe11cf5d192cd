mod turn;

use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use axum::http::{HeaderMap, Uri, header::HOST};

use super::{
    document::document,
    names_loopback,
    query::Query,
    rank::Kind,
    refused,
    scale::{Place, Scale},
    snapshot::{Sharing, Snapshot},
};
use crate::{
    broker::{Protected, State, Survey, TokenTimes, Trouble, Warning},
    cache::Condition,
    destination::{ApplicationName, DestinationId},
    http::readiness::Readiness,
    identity::CallerId,
    listener::Expiry,
    shared_cache::Replica,
    slot::FailureReason,
    token::SecretName,
    upstream::Trial,
    usage::{Quarantine, Stamp},
};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

/// The second of day 20,000 at noon.
fn now() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(20_000 * 86_400 + 43_200)
}

fn token(age: Duration, life: Duration) -> TokenTimes {
    let requested_at = now() - age;
    TokenTimes {
        requested_at,
        refresh_at: requested_at + life / 2,
        served_until: requested_at + life - MINUTE,
        expires_at: requested_at + life,
    }
}

fn protected(condition: Condition, token: Option<TokenTimes>) -> Protected {
    Protected {
        application: ApplicationName::parse("shop").unwrap(),
        condition,
        due_at: token.map(|token| token.refresh_at),
        runway: token.map_or(Duration::ZERO, |token| {
            token.served_until.duration_since(now()).unwrap_or_default()
        }),
        token,
        is_minting: false,
        last_success: token.map(|token| token.requested_at),
        last_failure: None,
        failures: 0,
        retry_at: None,
        secret: SecretName::sample(),
        trial: None,
        callers: Vec::new(),
        warnings: Vec::new(),
        quarantine: None,
    }
}

fn failing(condition: Condition, token: Option<TokenTimes>, reason: FailureReason) -> Protected {
    Protected {
        last_failure: Some((reason, now() - SECOND * 12)),
        failures: 3,
        retry_at: Some(now() + SECOND * 20),
        due_at: Some(now() + SECOND * 20),
        ..protected(condition, token)
    }
}

fn survey(id: &str, state: Protected) -> Survey {
    Survey {
        id: DestinationId::parse(id).unwrap(),
        name: None,
        state: State::Protected(Box::new(state)),
        last_used: None,
    }
}

fn snapshot(surveys: Vec<Survey>) -> Snapshot {
    Snapshot {
        now: now(),
        readiness: Readiness::Ready,
        started_at: now() - MINUTE * 90,
        sharing: Sharing::Off,
        expiries: Vec::new(),
        surveys,
        warnings: Vec::new(),
    }
}

fn drawn(snapshot: &Snapshot, query: &str) -> String {
    document(snapshot, &Query::parse(query)).into_string()
}

/// The ids of the rows, in their order.
fn rows(page: &str) -> Vec<&str> {
    let rows = page.split("id=\"d/").skip(1);
    rows.map(|row| row.split_once('/').unwrap().0).collect()
}

/// What one destination alone is shown with, without its tags.
fn words(state: Protected) -> String {
    let page = drawn(&snapshot(vec![survey("d", state)]), "");
    let (_, row) = page.split_once("<li class=\"row").unwrap();
    let (row, _) = row.split_once("<p id=\"found\"").unwrap();
    let mut words = String::new();
    for part in row.split('<') {
        let (tag, text) = part.split_once('>').unwrap_or(("", part));
        if let Some((_, label)) = tag.split_once("aria-label=\"") {
            words.push_str(label.split('"').next().unwrap());
        }
        words.push_str(text);
    }
    words
}

fn assert_says(state: Protected, expected: &[&str]) {
    let words = words(state);
    for expected in expected {
        assert!(words.contains(expected), "{expected:?} is not in {words}");
    }
}

#[test]
fn each_state_is_shown_with_its_words() {
    let fresh = token(MINUTE * 10, MINUTE * 60);
    let minting = |state| Protected {
        is_minting: true,
        due_at: None,
        ..state
    };
    let unused = token(MINUTE * 40, MINUTE * 60);
    let stopped = Quarantine {
        destination: DestinationId::parse("d").unwrap(),
        application: None,
        since: Stamp::now(),
        administrator: "spiffe://td/ops".to_owned(),
        comment: "it leaks".to_owned(),
    };
    for (state, expected) in [
        (
            protected(Condition::Cold, None),
            &[
                "cold",
                "no token yet",
                "nobody asked yet",
                "nobody since the start",
                "never",
            ][..],
        ),
        (
            minting(protected(Condition::Pending, None)),
            &["pending", "minting now", "No token. Minting now."],
        ),
        (
            protected(Condition::Fresh, Some(fresh)),
            &[
                "fresh",
                "runway 49 min",
                "refresh in 20 min",
                "Token minted 10 min ago, handed out for another 49 min, expires in 50 min. Refresh in 20 min.",
                "11:50:00 UTC (10 min ago)",
                "file:app",
            ],
        ),
        (
            protected(Condition::Fresh, Some(unused)),
            &["fresh", "runway 19 min", "when somebody asks"],
        ),
        (
            Protected {
                trial: Some(Trial::Promoted),
                ..minting(protected(Condition::Fresh, Some(fresh)))
            },
            &["fresh", "minting now", "the next secret works"],
        ),
        (
            Protected {
                quarantine: Some(stopped),
                ..protected(Condition::Quarantined, None)
            },
            &[
                "quarantined",
                "stopped",
                "by spiffe://td/ops: “it leaks”",
                "token-broker destination release d",
            ],
        ),
    ] {
        assert_says(state, expected);
    }
    let public = Survey {
        state: State::Unprotected,
        ..survey("d", protected(Condition::Cold, None))
    };
    let page = drawn(&snapshot(vec![public]), "");
    assert!(page.contains("public: callers need no token"));
}

#[test]
fn what_fails_is_shown_with_its_reason_and_what_to_do() {
    let fresh = token(MINUTE * 10, MINUTE * 60);
    let dead = token(MINUTE * 70, MINUTE * 60);
    for (state, expected) in [
        (
            failing(
                Condition::RefreshFailing,
                Some(fresh),
                FailureReason::Unavailable,
            ),
            &[
                "refresh failing",
                "UPSTREAM_UNAVAILABLE: the token endpoint cannot be reached",
                "3 times in a row, last 12 s ago",
                "Callers notice in 49 min.",
                "next try in 20 s",
                "the broker goes on trying",
            ][..],
        ),
        (
            failing(
                Condition::Failing,
                Some(dead),
                FailureReason::CredentialRejected,
            ),
            &[
                "failing",
                "no token",
                "The last token ended 11 min ago. Next try in 20 s.",
                "rejects the credential file:app",
                "Callers get no token.",
                "Get a new secret",
            ],
        ),
        (
            failing(Condition::Failing, None, FailureReason::Throttled),
            &["UPSTREAM_THROTTLED", "asks to be left alone"],
        ),
        (
            failing(Condition::Failing, None, FailureReason::Malformed),
            &["UPSTREAM_MALFORMED", "no usable token"],
        ),
        (
            failing(Condition::Failing, None, FailureReason::CredentialMissing),
            &["CREDENTIAL_MISSING", "there is no credential file:app"],
        ),
    ] {
        assert_says(state, expected);
    }
}

#[test]
fn the_headline_tells_the_worst() {
    let fresh = || protected(Condition::Fresh, Some(token(MINUTE, MINUTE * 60)));
    let shaky = |age| {
        let token = token(MINUTE * age, MINUTE * 60);
        failing(
            Condition::RefreshFailing,
            Some(token),
            FailureReason::Unavailable,
        )
    };
    let gone = || failing(Condition::Failing, None, FailureReason::Unavailable);
    let warned = || Protected {
        warnings: vec![warning(Trouble::RotationRolledBack, "no")],
        ..fresh()
    };
    for (states, expected) in [
        (vec![], "All is well"),
        (vec![fresh()], "All is well"),
        (vec![fresh(), warned()], "1 warning"),
        (
            vec![protected(Condition::Quarantined, None), warned()],
            "1 quarantined",
        ),
        (
            vec![shaky(31), shaky(40), fresh()],
            "2 cannot refresh: callers notice in 19 min",
        ),
        (vec![shaky(31), gone()], "1 failing: callers get no token"),
    ] {
        let surveys = states.into_iter().map(|state| survey("d", state));
        let page = drawn(&snapshot(surveys.collect()), "");
        let title = format!("<title>{expected} · token-broker</title>");
        assert!(page.contains(&title), "{expected}: {page}");
    }
    for (readiness, expected) in [
        (Readiness::Stopping, "<title>Stopping ·"),
        (Readiness::Unready, "<title>Not ready ·"),
    ] {
        let snapshot = Snapshot {
            readiness,
            ..snapshot(vec![survey("d", fresh())])
        };
        assert!(drawn(&snapshot, "").contains(expected));
    }
}

fn warning(trouble: Trouble, message: &str) -> Warning {
    Warning {
        trouble,
        message: message.to_owned(),
        since: now() - MINUTE,
    }
}

#[test]
fn hostile_texts_are_shown_and_do_nothing() {
    const HOSTILE: &str = "</b>\"'><script>alert(1)</script><img src=x onerror=alert(1)>";
    let state = Protected {
        warnings: vec![warning(Trouble::RotationRolledBack, HOSTILE)],
        quarantine: Some(Quarantine {
            destination: DestinationId::parse("d").unwrap(),
            application: None,
            since: Stamp::now(),
            administrator: HOSTILE.to_owned(),
            comment: HOSTILE.to_owned(),
        }),
        secret: Arc::new(SecretName {
            credential: HOSTILE.into(),
            generation: HOSTILE.to_owned(),
            client_id: HOSTILE.into(),
        }),
        ..protected(Condition::Quarantined, None)
    };
    let replica = Replica {
        name: HOSTILE.to_owned(),
        version: HOSTILE.to_owned(),
        since: now(),
        seen: now(),
        is_this: false,
    };
    let hostile = Snapshot {
        sharing: Sharing::Answers(vec![replica]),
        warnings: vec![warning(Trouble::CrlExpires, HOSTILE)],
        ..snapshot(vec![survey("d", state)])
    };
    let mut query = url::form_urlencoded::Serializer::new(String::new());
    query
        .append_pair("q", HOSTILE)
        .append_pair("state", HOSTILE);
    for query in ["", &query.finish()] {
        let page = drawn(&hostile, query);
        // The page's own script, which is not in the page.
        assert_eq!(page.matches("<script").count(), 1, "{page}");
        assert!(!page.contains("<img") && !page.contains("</b>\""));
        assert!(page.contains("&lt;script&gt;"));
    }
}

#[test]
fn whoever_is_in_trouble_comes_first_and_the_others_stay_in_order() {
    let fresh = |id: &str| {
        survey(
            id,
            protected(Condition::Fresh, Some(token(MINUTE, MINUTE * 60))),
        )
    };
    let shaky = |id, age| {
        let token = token(MINUTE * age, MINUTE * 60);
        let state = failing(
            Condition::RefreshFailing,
            Some(token),
            FailureReason::Throttled,
        );
        survey(id, state)
    };
    let mut surveys = vec![
        survey("cold", protected(Condition::Cold, None)),
        fresh("z"),
        fresh("a"),
        survey("stopped", protected(Condition::Quarantined, None)),
        shaky("later", 31),
        shaky("sooner", 50),
        survey(
            "gone",
            failing(Condition::Failing, None, FailureReason::Throttled),
        ),
    ];
    let snapshot_of = |surveys| snapshot(surveys);
    let page = drawn(&snapshot_of(surveys), "");
    assert_eq!(
        rows(&page),
        ["gone", "sooner", "later", "stopped", "z", "a", "cold"]
    );
    surveys = (0..250).map(|n| fresh(&format!("d{n}"))).collect();
    surveys.push(survey(
        "gone",
        failing(Condition::Failing, None, FailureReason::Throttled),
    ));
    let many = snapshot_of(surveys);
    let page = drawn(&many, "");
    assert_eq!(rows(&page).len(), 100);
    assert_eq!(rows(&page)[..2], ["gone", "d0"]);
    assert!(page.contains("The first 100 of 251"));
    assert!(page.contains("href=\"/?all=1\""));
    assert_eq!(rows(&drawn(&many, "all=1")).len(), 251);
}

#[test]
fn a_reader_can_ask_for_some_of_them() {
    let named = Survey {
        name: Some(DestinationId::parse("Orders").unwrap()),
        ..survey(
            "d0",
            Protected {
                callers: vec![CallerId::parse("spiffe://td/ns/shop/sa/cart").unwrap()],
                ..protected(Condition::Fresh, Some(token(MINUTE, MINUTE * 60)))
            },
        )
    };
    let gone = survey(
        "d1",
        failing(Condition::Failing, None, FailureReason::Throttled),
    );
    let snapshot = snapshot(vec![named, gone]);
    for (query, expected) in [
        ("", &["d1", "d0"][..]),
        ("q=", &["d1", "d0"]),
        ("q=order", &["d0"]),
        ("q=SA%2FCART+shop", &["d0"]),
        ("q=cart+failing", &[]),
        ("q=throttled", &["d1"]),
        ("q=d1", &["d1"]),
        ("state=fresh", &["d0"]),
        ("state=fresh&q=d1", &[]),
        ("state=nonsense&x=y", &["d1", "d0"]),
    ] {
        let page = drawn(&snapshot, query);
        assert_eq!(rows(&page), expected, "{query}");
        // All are counted, whatever is shown.
        assert!(page.contains("all <b>2</b>"));
    }
    let query = Query::parse("q=a+%26b&state=refresh-failing&all=1");
    assert_eq!(query.kind, Some(Kind::RefreshFailing));
    let address = query.address(query.kind, query.all);
    assert_eq!(Query::parse(&address[2..]), query);
}

#[test]
fn no_more_is_looked_for_than_a_name_is_long() {
    let long = format!("q=d0+{}+d1", "Ä".repeat(250));
    let text = Query::parse(&long).text;
    assert_eq!(text, format!("d0 {}", "Ä".repeat(197)));
    // What is cut off hides nothing.
    let surveys = || vec![survey("d0", protected(Condition::Cold, None))];
    let spaces = format!("q=D0{}d1", "+".repeat(250));
    assert_eq!(rows(&drawn(&snapshot(surveys()), &spaces)), ["d0"]);
}

#[test]
fn certificates_replicas_and_the_shared_cache_are_shown() {
    let expiry = |which, days: u64| Expiry {
        which,
        file: "file".into(),
        first: 0,
        last: i64::try_from(20_000 * 86_400 + 43_200 + days * 86_400).unwrap(),
    };
    let replica = |name: &str, is_this| Replica {
        name: name.to_owned(),
        version: "1.2.3".to_owned(),
        since: now() - MINUTE * 120,
        seen: now() - SECOND * 3,
        is_this,
    };
    let replicas = || vec![replica("b", true), replica("a", false)];
    let mut whole = Snapshot {
        sharing: Sharing::Answers(replicas()),
        expiries: vec![
            expiry("server", 30),
            expiry("client_ca", 9),
            expiry("client_ca", 8),
        ],
        ..snapshot(Vec::new())
    };
    let page = drawn(&whole, "");
    for words in [
        "expires in 30 d",
        "expires in 8 d",
        "answers",
        "(this one)",
        "version <bdi>1.2.3</bdi>",
        "heard of 11:59:57 UTC (3 s ago)",
        "1 h 30 min, since 10:30:00 UTC",
        "No destination is configured.",
    ] {
        assert!(page.contains(words), "{words} is not in {page}");
    }
    assert!(page.find("<bdi>b</bdi>").unwrap() < page.find("<bdi>a</bdi>").unwrap());
    whole.sharing = Sharing::Trouble("unreachable", replicas());
    assert!(drawn(&whole, "").contains("<b>no answer</b> (unreachable)"));
    whole.sharing = Sharing::Off;
    let alone = drawn(&whole, "");
    assert!(alone.contains("this broker is on its own") && !alone.contains("Replicas</h2>"));
}

#[test]
fn one_scale_is_for_all_rows_and_seldom_changes() {
    let scale = |tokens: &[TokenTimes]| Scale::of(tokens.iter().copied(), now());
    let hour = MINUTE * 60;
    let ordinary = scale(&[]);
    // From half an hour ago to an hour ahead.
    assert_eq!(ordinary.now(), 333);
    assert_eq!(ordinary.place(now() - MINUTE * 31), Place::Before);
    assert_eq!(ordinary.place(now() - MINUTE * 30), Place::At(0));
    assert_eq!(ordinary.place(now() + hour), Place::At(1000));
    assert_eq!(ordinary.place(now() + hour + MINUTE), Place::After);
    for age in [0, 5, 15, 29] {
        assert_eq!(scale(&[token(MINUTE * age, hour)]), ordinary, "{age}");
    }
    // One that lives for a day does not make dots of the others.
    let mixed = [
        token(MINUTE, hour),
        token(MINUTE, hour),
        token(MINUTE, hour * 24),
    ];
    assert_eq!(scale(&mixed).place(now() + hour * 24), Place::After);
    assert!(scale(&mixed).clamped(now() + hour) > 300);
    let texts = |scale: Scale| {
        let ticks = scale.ticks().into_iter();
        ticks.map(|tick| tick.text).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(
        texts(ordinary),
        "−30 min −15 min +15 min +30 min +45 min +1 h"
    );
    let short = token(SECOND * 70, SECOND * 120);
    assert_eq!(texts(scale(&[short])), "−2 min −1 min +1 min +2 min");
    let day = token(MINUTE, hour * 24);
    assert_eq!(texts(scale(&[day])), "−12 h −6 h +6 h +12 h +18 h +1 d");
}

#[test]
fn only_names_of_loopback_are_loopback() {
    let asked = |uri: &str, hosts: &[&str]| {
        let mut headers = HeaderMap::new();
        for host in hosts {
            headers.append(HOST, host.parse().unwrap());
        }
        names_loopback(&uri.parse::<Uri>().unwrap(), &headers)
    };
    for host in [
        "localhost",
        "LOCALHOST:80",
        "localhost.",
        "broker.localhost:1",
        "127.0.0.1",
        "127.1.2.3:9464",
        "[::1]",
        "[::1]:9464",
        "[::ffff:127.0.0.1]",
    ] {
        assert!(asked("/", &[host]), "{host}");
    }
    for host in [
        "",
        "attacker.example",
        "localhost.attacker.example",
        "127.0.0.1.attacker.example",
        "xlocalhost",
        "10.0.0.1",
        "0.0.0.0",
        "[::]",
        "169.254.169.254",
        "user@127.0.0.1",
        "127.0.0.1/..",
        "2130706433",
        "127.1",
    ] {
        assert!(!asked("/", &[host]), "{host}");
    }
    assert!(!asked("/", &[]));
    assert!(!asked("/", &["localhost", "attacker.example"]));
    assert!(!asked("/", &["localhost", "localhost"]));
    assert!(!asked("http://attacker.example/", &["localhost"]));
    assert!(asked("http://localhost/", &["localhost"]));
}

#[test]
fn a_loopback_address_is_one_however_it_is_written() {
    let mut headers = HeaderMap::new();
    headers.insert(HOST, "attacker.example".parse().unwrap());
    for (address, expected) in [
        ("127.0.0.1:80", Some(421)),
        ("[::1]:80", Some(421)),
        ("[::ffff:127.0.0.1]:80", Some(421)),
        ("[::ffff:10.0.0.1]:80", None),
        ("0.0.0.0:80", None),
    ] {
        let refused = refused(address.parse().unwrap(), &Uri::from_static("/"), &headers);
        let status = refused.map(|(status, _)| status.as_u16());
        assert_eq!(status, expected, "{address}");
    }
}
