//! Connections whose client is not believed any more.

use std::{
    ops::Range,
    time::{Duration, Instant},
};

use token_broker::app::App;

use crate::{
    counters::{closed, connections, reloads},
    disguise::Disguise,
    events::Events,
    line::Line,
    pki::{Ca, HOUR, Leaf, unix, uri},
    steady::Steady,
    trial::{Setup, Site, Trial},
};

/// How long a client that is not believed any more may keep its connection. A file's
/// change is noticed within 250 ms and taken in within another 250 ms, and a certificate
/// is good until its last second is over; the rest is for a machine that is busy.
const CUT_WITHIN: Duration = Duration::from_secs(5);
const SEARCH: &str = "spiffe://corp.example/ns/shop/sa/search";

/// A broker that believes these authorities.
async fn trial(ca: String, crl: Option<String>) -> Trial {
    let mut files = vec![("ca.pem", ca)];
    let server = if crl.is_some() {
        r#"crl = "clients.crl""#
    } else {
        ""
    };
    files.extend(crl.map(|crl| ("clients.crl", crl)));
    Trial::start(Setup {
        destinations: 1,
        server,
        files,
        ..Setup::default()
    })
    .await
}

/// Good for so long, and not the one that gets revoked.
fn other(valid: Range<i64>) -> Leaf {
    Leaf {
        names: vec![uri(SEARCH)],
        serial: 2,
        valid,
        ..Leaf::default()
    }
}

/// The line is cut for this reason, and soon enough after `since`.
async fn cut(trial: &Trial, mut line: Line, reason: &str, since: Instant) {
    // However it is told: what counts is that it has no connection any more.
    let _ = line.ended().await;
    let after = since.elapsed();
    assert!(after < CUT_WITHIN, "{reason}: cut after {after:?}");
    println!("{reason}: cut after {after:?}");
    trial.until_counted(&closed(reason), 1).await;
    assert!(line.ask("d0").await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_that_gets_revoked_loses_its_connection() {
    let ca = Ca::root("clients");
    let trial = trial(ca.pem.clone(), Some(ca.crl(&[], HOUR))).await;
    let revoked = ca.sign(Leaf::default());
    let mut line = Line::with(&trial, &revoked).await;
    line.ask("d0").await.unwrap();
    let steady = Steady::start(Line::with(&trial, &ca.sign(other(-HOUR..HOUR))).await);

    let since = Instant::now();
    trial.write("clients.crl", &ca.crl(&[1], HOUR));
    cut(&trial, line, "certificate_revoked", since).await;

    let anew = Line::open(&Disguise::with(&trial, Some(&revoked))).await;
    if let Ok(mut anew) = anew {
        anew.ask("d0").await.unwrap_err();
    }
    let refused = connections("certificate_revoked");
    trial.until_counted(&refused, 1).await;
    assert!(steady.stop().await > 0);
    assert_eq!(trial.upstream.calls(), 1);
    assert_eq!(trial.counted(&reloads("ok")).await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_whose_authority_is_removed_loses_its_connection() {
    let (stays, goes) = (Ca::root("stays"), Ca::root("goes"));
    let trial = trial(format!("{}{}", stays.pem, goes.pem), None).await;
    let mut line = Line::with(&trial, &goes.sign(Leaf::default())).await;
    line.ask("d0").await.unwrap();
    let steady = Steady::start(Line::with(&trial, &stays.sign(other(-HOUR..HOUR))).await);

    let since = Instant::now();
    trial.write("ca.pem", &stays.pem);
    cut(&trial, line, "certificate_unknown_issuer", since).await;
    assert!(steady.stop().await > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_that_runs_out_loses_its_connection() {
    let ca = Ca::root("clients");
    let trial = trial(ca.pem.clone(), None).await;
    let steady = Steady::start(Line::with(&trial, &ca.sign(other(-HOUR..HOUR))).await);
    let started = Instant::now();
    // Long enough to connect on a machine that is busy.
    let ends_at = unix(5);
    let mut line = Line::with(
        &trial,
        &ca.sign(Leaf {
            valid: -HOUR..5,
            ..Leaf::default()
        }),
    )
    .await;
    line.ask("d0").await.unwrap();
    cut(
        &trial,
        line,
        "certificate_expired",
        started + Duration::from_secs(5),
    )
    .await;
    assert!(unix(0) >= ends_at, "not before its time");
    assert!(steady.stop().await > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_whose_intermediate_runs_out_loses_its_connection() {
    let ca = Ca::root("clients");
    let trial = trial(ca.pem.clone(), None).await;
    let steady = Steady::start(Line::with(&trial, &ca.sign(other(-HOUR..HOUR))).await);
    let started = Instant::now();
    let team = ca.intermediate("team", 7, -HOUR..5);
    let mut line = Line::with(&trial, &team.sign(Leaf::default())).await;
    line.ask("d0").await.unwrap();
    cut(
        &trial,
        line,
        "certificate_expired",
        started + Duration::from_secs(5),
    )
    .await;
    assert!(steady.stop().await > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expired_certificate_that_nobody_needs_costs_no_connection() {
    let ca = Ca::root("clients");
    let trial = trial(ca.pem.clone(), None).await;
    let mut papers = ca.sign(other(-HOUR..HOUR));
    let needless = Ca::root("elsewhere").intermediate("old", 8, -HOUR..1);
    papers.chain.extend(needless.sign(Leaf::default()).chain);
    let steady = Steady::start(Line::with(&trial, &papers).await);
    // It looks at its files meanwhile, and at the needless certificate when that runs out.
    trial.app.reload();
    trial.until_counted(&reloads("ok"), 1).await;
    let past = unix(2);
    while unix(0) <= past {
        steady.goes_on().await;
    }
    assert!(steady.stop().await > 0);
    assert_eq!(trial.counted(&connections("ok")).await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revocation_list_that_runs_out_is_said_once_and_lets_nobody_in() {
    let events = Events::listen();
    let ca = Ca::root("clients");
    let last = unix(5).as_secs();
    let trial = trial(ca.pem.clone(), Some(ca.crl(&[], 5))).await;
    let papers = ca.sign(Leaf::default());
    let mut early = Line::with(&trial, &papers).await;
    early.ask("d0").await.unwrap();
    let expiry =
        |which| format!("token_broker_certificate_expiry_timestamp_seconds{{which=\"{which}\"}}");
    let shown = trial.counted(&expiry("crl")).await;
    assert!((last..last + 2).contains(&shown), "{shown}");
    for which in ["server", "client_ca"] {
        assert!(trial.counted(&expiry(which)).await > shown, "{which}");
    }

    let file = trial.path("clients.crl").display().to_string();
    let about = [file.as_str(), "past its next update"];
    let refused = connections("revocation_list_expired");
    while events.with(&about).is_empty() {
        assert!(unix(0).as_secs() < last + 60, "nothing is said");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    if let Ok(mut late) = Line::open(&Disguise::with(&trial, Some(&papers))).await {
        late.ask("d0").await.unwrap_err();
    }
    trial.until_counted(&refused, 1).await;

    // Another one, and everything is as it was.
    trial.write("clients.crl", &ca.crl(&[], HOUR));
    trial.until_counted(&reloads("ok"), 1).await;
    let mut late = Line::with(&trial, &papers).await;
    late.ask("d0").await.unwrap();
    early.ask("d0").await.unwrap();
    assert!(trial.counted(&expiry("crl")).await > shown);
    let said = events.with(&about);
    assert_eq!(said.len(), 1, "{said:?}");
    assert!(said[0].contains("ERROR"), "{said:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_revocation_lists_of_one_authority_are_a_mistake() {
    let root = Ca::root("root");
    // What the second one revokes would not be looked for.
    let (old, new) = (root.crl(&[], HOUR), root.crl(&[1], HOUR));
    let both = format!("{old}{new}");
    for (server, files, named) in [
        (
            r#"crl = ["old.crl", "new.crl"]"#,
            vec![("old.crl", old), ("new.crl", new)],
            ["new.crl: has a revocation list", "old.crl as well"],
        ),
        (
            r#"crl = "both.crl""#,
            vec![("both.crl", both)],
            ["both.crl: has a revocation list", "both.crl as well"],
        ),
    ] {
        let site = Site::new(Setup {
            destinations: 1,
            server,
            files: [vec![("ca.pem", root.pem.clone())], files].concat(),
            ..Setup::default()
        })
        .await;
        let error = App::start(&site.config()).await.map(drop).unwrap_err();
        let error = error.to_string();
        assert!(named.iter().all(|part| error.contains(part)), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_authority_is_believed_until_it_is_taken_out_whatever_its_own_dates_say() {
    let root = Ca::root("root");
    let expired = root.intermediate("expired", 7, -2 * HOUR..-HOUR);
    let trial = trial(expired.pem.clone(), None).await;
    let papers = expired.sign(Leaf::default());
    let mut line = Line::with(&trial, &papers).await;
    line.ask("d0").await.unwrap();
    let since = Instant::now();
    // It is an intermediate like others now, whose dates count.
    trial.write("ca.pem", &root.pem);
    cut(&trial, line, "certificate_expired", since).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_authority_without_a_revocation_list_is_said_where_each_needs_one() {
    let events = Events::listen();
    let (listed, unlisted) = (Ca::root("one with a list"), Ca::root("one without a list"));
    let trial = trial(
        format!("{}{}", listed.pem, unlisted.pem),
        Some(listed.crl(&[], HOUR)),
    )
    .await;
    let about = |name: &str| events.with(&["revocation lists, but none", name]);
    assert_eq!(about("one without a list").len(), 1);
    assert_eq!(about("one with a list").len(), 0);
    Line::with(&trial, &listed.sign(Leaf::default()))
        .await
        .ask("d0")
        .await
        .unwrap();
    let papers = unlisted.sign(Leaf::default());
    if let Ok(mut line) = Line::open(&Disguise::with(&trial, Some(&papers))).await {
        line.ask("d0").await.unwrap_err();
    }
    trial
        .until_counted(&connections("revocation_unknown"), 1)
        .await;
}
